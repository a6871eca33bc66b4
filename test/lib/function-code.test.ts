import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { App, Stack } from "aws-cdk-lib";
import { Function as LambdaFunction, Runtime } from "aws-cdk-lib/aws-lambda";
import { afterEach, beforeEach, expect, test } from "vitest";
import { storeFunctionTemplate } from "../../adapters/valkey/function-source.ts";
import { bundledCode, bundleOptions, handlerOf } from "../../lib/constructs/function-code.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "freshet-code-"));
  mkdirSync(join(folder, "functions"));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Folder of the asset that a function of this source is deployed from. */
function assetOf(source: string, name = "one"): string {
  writeFileSync(join(folder, "functions", `${name}.ts`), source);
  const stack = new Stack(new App({ outdir: mkdtempSync(join(folder, "out-")) }), "Test");
  new LambdaFunction(stack, "Function", {
    runtime: Runtime.NODEJS_24_X,
    handler: "index.handler",
    code: bundledCode(join(folder, "functions")).of(name),
  });
  const { outdir } = stack.node.root as App;
  return join(outdir, readdirSync(outdir).find((entry) => entry.startsWith("asset."))!);
}
/** By Node itself and not by the test runner, as Lambda does. */
const load = (asset: string) => createRequire(import.meta.url)(join(asset, "index.mjs"));
const hashOf = (asset: string) => asset.slice(asset.lastIndexOf("asset."));

test("a bundle is one ES module with a source map, and exports the handler", async () => {
  const asset = assetOf("export const handler = async (event: { n: number }): Promise<number> => event.n + 1;");
  expect(readdirSync(asset).sort()).toEqual(["index.mjs", "index.mjs.map"]);
  const { handler } = load(asset);
  expect(await handler({ n: 1 })).toBe(2);
});

test("a package that requires Node's modules as CommonJS does runs in the bundle", async () => {
  writeFileSync(join(folder, "old.cjs"), 'module.exports = require("node:path").basename("a/b");');
  const asset = assetOf('import old from "../old.cjs"; export const handler = async () => old;');
  const { handler } = load(asset);
  expect(await handler()).toBe("b");
});

test("a contract is bundled as JSON", () => {
  writeFileSync(join(folder, "x.v1.avsc"), '{ "name": "a contract" }');
  const asset = assetOf(
    'import x from "../x.v1.avsc" with { type: "json" }; export const handler = async () => x.name;',
  );
  expect(readFileSync(join(asset, "index.mjs"), "utf8")).toContain("a contract");
});

test("a bundle carries the store's function as it is when run from sources", () => {
  const bundled = JSON.parse(bundleOptions.define.STORE_FUNCTION_SOURCE);
  expect(bundled).toBe(storeFunctionTemplate());
  // In order: what the plan replaces is near the beginning, the registration at the end.
  expect(bundled.indexOf("\n--@SPEC@\n")).toBeLessThan(bundled.indexOf("\nlocal function applyEntity("));
  expect(bundled).toMatch(/\n--@REGISTER@\n$/);
});

test("the model runtime lies beside a bundle that imports it, for one platform, and scores there", async () => {
  const artefact = join(import.meta.dirname, "..", "fixtures", "models", "fraud");
  const open = JSON.stringify(join(import.meta.dirname, "..", "..", "adapters", "model", "open.ts"));
  const asset = assetOf(
    `import { readdirSync, readFileSync } from "node:fs"; import { openModel } from ${open};
     export const handler = async (folder: string) => {
       const files = Object.fromEntries(readdirSync(folder).map((name) => [name, readFileSync(folder + "/" + name)]));
       const model = await openModel(files);
       const [{ probability }] = await model.score([new Float64Array(model.manifest.features.length)]);
       return probability;
     };`,
  );
  const files = readdirSync(join(asset, "node_modules"), { recursive: true, withFileTypes: true }).filter((one) =>
    one.isFile(),
  );
  const bytes = files.reduce((sum, { parentPath, name }) => sum + statSync(join(parentPath, name)).size, 0);
  expect(files.filter(({ name }) => name.endsWith(".node"))).toHaveLength(1);
  expect(bytes).toBeLessThan(60_000_000);
  const { handler } = load(asset);
  expect(await handler(artefact)).toBeGreaterThan(0);
});

test("DuckDB lies beside a bundle that imports it, and answers there", async () => {
  const duck = JSON.stringify(join(import.meta.dirname, "..", "..", "adapters", "offline", "duckdb.ts"));
  const asset = assetOf(
    `import { DuckSession } from ${duck};
     export const handler = async (folder: string) => {
       const session = await DuckSession.open({ folder });
       try { return await session.rows("SELECT 40 + 2 AS answer"); } finally { session.close(); }
     };`,
  );
  const files = readdirSync(join(asset, "node_modules"), { recursive: true, withFileTypes: true });
  expect(files.filter(({ name }) => name.endsWith(".node"))).toHaveLength(1);
  const { handler } = load(asset);
  expect(await handler(folder)).toEqual([{ answer: 42 }]);
});

test("the thread for exact explanations travels inside the bundle", async () => {
  const path = (name: string) => JSON.stringify(join(import.meta.dirname, "..", "..", "adapters", "model", name));
  const artefact = join(import.meta.dirname, "..", "fixtures", "models", "fraud");
  const asset = assetOf(
    `import { openModel } from ${path("open.ts")}; import { createExactExplainer } from ${path("exact-explainer.ts")};
     import { readArtefactFolder } from ${path("artefact-store.ts")};
     export const handler = async (folder: string) => {
       const model = await openModel(readArtefactFolder(folder));
       const { method } = await createExactExplainer().explain(model, new Float64Array(model.manifest.features.length));
       return method;
     };`,
  );
  expect(await load(asset).handler(artefact)).toBe("shap");
});

test("a bundle that does not import it has no packages beside it", () => {
  expect(readdirSync(assetOf("export const handler = async () => 1;")).sort()).toEqual(["index.mjs", "index.mjs.map"]);
});

test("the hash follows the code: equal for equal code, another for another", () => {
  const first = hashOf(assetOf("export const handler = async () => 1;"));
  expect(hashOf(assetOf("export const handler = async () => 1;"))).toBe(first);
  expect(hashOf(assetOf("export const handler = async () => 2;"))).not.toBe(first);
});

test("a file that cannot be bundled is named with the reason", () => {
  expect(() => assetOf('import { x } from "./missing.ts"; export const handler = x;')).toThrow(
    'the functions cannot be bundled: Could not resolve "./missing.ts" (functions/one.ts:1)',
  );
});

test("functions that carry DuckDB are one asset, in which each has its own handler", () => {
  for (const name of ["build", "compact", "erase", "historical", "materialize", "repair", "training-set", "verify"]) {
    writeFileSync(join(folder, "functions", `${name}.ts`), `export const handler = async () => "${name}";`);
  }
  const stack = new Stack(new App({ outdir: mkdtempSync(join(folder, "out-")) }), "Test");
  const code = bundledCode(join(folder, "functions"));
  for (const name of ["build", "compact"]) {
    const handler = handlerOf(name);
    new LambdaFunction(stack, name, { runtime: Runtime.NODEJS_24_X, handler, code: code.of(name) });
    expect(handler).toBe(`${name}.handler`);
  }
  const { outdir } = stack.node.root as App;
  const assets = readdirSync(outdir).filter((entry) => entry.startsWith("asset."));
  expect(assets).toHaveLength(1);
  expect(readdirSync(join(outdir, assets[0]))).toContain("compact.mjs");
});
