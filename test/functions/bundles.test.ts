import { join } from "node:path";
import { build } from "esbuild";
import { expect, test } from "vitest";
import { bundleOptions } from "../../lib/constructs/function-code.ts";

// A function that is woken each minute, or by each batch, is not to start with 70 MB of a database: one import too many is enough.
test.each(["aggregate", "control", "heartbeat", "replay", "sweep"])("%s carries no native package", async (name) => {
  const root = join(import.meta.dirname, "..", "..");
  const { metafile } = await build({
    ...{ ...bundleOptions, absWorkingDir: root, entryPoints: [join(root, "functions", `${name}.ts`)] },
    ...{ outfile: "index.mjs", write: false, metafile: true },
  });
  const external = Object.values(metafile.outputs).flatMap(({ imports }) => imports.filter((one) => one.external));
  const native: readonly string[] = bundleOptions.external;
  expect(external.map(({ path }) => path).filter((path) => native.includes(path))).toEqual([]);
});
