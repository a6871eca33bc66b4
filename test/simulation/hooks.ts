/**
 * Fewer buckets for the simulation: with 1,024 of them control's steps over all control hashes would take most of its time.
 * What a bucket is doesn't change, nor does anything that is stored in one.
 */
import { readFileSync } from "node:fs";
import { registerHooks, stripTypeScriptTypes } from "node:module";
import { fileURLToPath } from "node:url";

export const BUCKETS = 8;

export function fewerBuckets(): void {
  const layout = new URL("../../adapters/valkey/layout.ts", import.meta.url).href;
  registerHooks({
    load(url, context, next) {
      if (url !== layout) return next(url, context);
      const text = readFileSync(fileURLToPath(url), "utf8");
      const changed = text.replace(/export const BUCKETS = \d+;/, `export const BUCKETS = ${BUCKETS};`);
      if (changed === text)
        throw new Error("adapters/valkey/layout.ts has another form: mend test/simulation/hooks.ts");
      return { format: "module", source: stripTypeScriptTypes(changed), shortCircuit: true };
    },
  });
}
