/**
 * The code of functions. Bundling is a choice of the app, not of the stacks: templates can be asserted without it.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { Code } from "aws-cdk-lib/aws-lambda";
import { type BuildFailure, type BuildOptions, buildSync } from "esbuild";
import { FreshetError } from "../../core/errors.ts";

export interface FunctionCode {
  /** @param name of the file in `functions/`, as `aggregate`; the bundle exports its `handler` as `index.handler` */
  of(name: string): Code;
}

/** For tests of templates: same resources, no bundle, no function file needed. */
export const placeholderCode: FunctionCode = {
  of: (name) => Code.fromInline(`exports.handler = async () => { throw new Error("no code in ${name}"); };`),
};

/**
 * One ES module a function with everything in it, the SDK too: the runtime's own SDK would be another version than the
 * tested one, and an emulator has none. Not minified, so that a stack trace reads; the hash is of the output, so a
 * function is deployed again when and only when its bundle changed.
 */
export function bundledCode(functionsFolder: string): FunctionCode {
  return {
    of(name) {
      const folder = mkdtempSync(join(tmpdir(), "freshet-bundle-"));
      // CDK copies the folder into its assembly before `fromAsset` is bound, which is well before the process ends.
      process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
      for (const file of bundle(join(functionsFolder, `${name}.ts`))) {
        writeFileSync(join(folder, basename(file.path)), file.contents);
      }
      return Code.fromAsset(folder);
    },
  };
}

/** As `adapters/valkey/function-source.ts` joins them. */
function storeFunctionSource(): string {
  const folder = new URL("../../adapters/valkey/function/", import.meta.url);
  const files = readdirSync(folder).sort();
  return files.map((file) => readFileSync(new URL(file, folder), "utf8")).join("\n");
}

/** How a function is bundled, here and wherever else the deployed code is to be run. */
export const bundleOptions = {
  bundle: true,
  platform: "node",
  target: "node24",
  format: "esm",
  // Contracts are JSON under their own extension. The store's Lua library travels inside the bundle.
  loader: { ".avsc": "json" },
  define: {
    STORE_FUNCTION_SOURCE: JSON.stringify(storeFunctionSource()),
  },
  // Packages written as CommonJS call `require` for Node's own modules, which an ES module does not have.
  banner: {
    js: 'import { createRequire as freshetCreateRequire } from "node:module"; const require = freshetCreateRequire(import.meta.url);',
  },
  logLevel: "warning",
} as const satisfies BuildOptions;

function bundle(entry: string) {
  try {
    return buildSync({
      ...bundleOptions,
      // Paths in the bundle do not depend on where `cdk` was started.
      absWorkingDir: dirname(dirname(entry)),
      entryPoints: [entry],
      outfile: "index.mjs",
      write: false,
      sourcemap: true,
      sourcesContent: false,
    }).outputFiles;
  } catch (cause) {
    const [first] = (cause as Partial<BuildFailure>).errors ?? [];
    const at = first?.location ? ` (${first.location.file}:${first.location.line})` : "";
    throw new FreshetError(
      "bundle_failed",
      `function ${basename(entry)} cannot be bundled: ${first?.text ?? cause}${at}`,
      {
        cause,
      },
    );
  }
}
