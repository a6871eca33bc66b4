/**
 * What the simulation changes of the product's modules as they are loaded. Fewer buckets: with 1,024 of them control's steps over
 * all control hashes would take most of its time; what a bucket is doesn't change, nor does anything that is stored in one. And
 * builds and erasures ask the model instead of DuckDB (archive-model.ts).
 */
import { readFileSync } from "node:fs";
import { registerHooks, stripTypeScriptTypes } from "node:module";
import { fileURLToPath } from "node:url";

export const BUCKETS = 8;

const MODEL = JSON.stringify(new URL("archive-model.ts", import.meta.url).href);
/** By module: what is replaced, and by what. */
const CHANGES: Readonly<Record<string, readonly [RegExp, string]>> = {
  "adapters/valkey/layout.ts": [/export const BUCKETS = \d+;/, `export const BUCKETS = ${BUCKETS};`],
  "adapters/offline/build.ts": [
    /export async function\* buildEntities\(/,
    `export { buildEntities } from ${MODEL};\nasync function* byQuery(`,
  ],
  "adapters/erasure/erase-archive.ts": [
    /export async function eraseStream\(/,
    `export { eraseStream } from ${MODEL};\nasync function eraseBytes(`,
  ],
  "adapters/offline/archive-view.ts": [
    /export async function mountArchive\(/,
    `export { mountArchive } from ${MODEL};\nasync function mountFiles(`,
  ],
};

export function changeModules(): void {
  const root = new URL("../../", import.meta.url).href;
  registerHooks({
    load(url, context, next) {
      const change = url.startsWith(root) ? CHANGES[url.slice(root.length)] : undefined;
      if (change === undefined) return next(url, context);
      const text = readFileSync(fileURLToPath(url), "utf8");
      const changed = text.replace(...change);
      if (changed === text) throw new Error(`${url} has another form: mend test/simulation/hooks.ts`);
      return { format: "module", source: stripTypeScriptTypes(changed), shortCircuit: true };
    },
  });
}
