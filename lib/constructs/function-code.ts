/**
 * The code of functions. Bundling is a choice of the app, not of the stacks: templates can be asserted without it.
 */
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Code } from "aws-cdk-lib/aws-lambda";
import { type BuildFailure, type BuildOptions, type BuildResult, buildSync } from "esbuild";
import { FreshetError } from "../../core/errors.ts";

export interface FunctionCode {
  /** @param name of the file in `functions/`, as `aggregate`; `handlerOf` says where its `handler` is */
  of(name: string): Code;
}

/** Functions that carry DuckDB. They are deployed from one asset: 70 MB that are packed and uploaded once instead of for each. */
const OFFLINE: readonly string[] = [
  "build",
  "compact",
  "erase",
  "historical",
  "materialize",
  "repair",
  "training-set",
  "verify",
];

/** What Lambda calls. */
export const handlerOf = (name: string): string => (OFFLINE.includes(name) ? `${name}.handler` : "index.handler");

/**
 * One ES module a function with everything in it but native packages, the SDK too: the runtime's own SDK would be another version than the
 * tested one, and an emulator has none. Not minified, so that a stack trace reads; the hash is of the output, so a
 * function is deployed again when and only when its bundle changed.
 */
export function bundledCode(functionsFolder: string, platform: Platform = LAMBDA_PLATFORM): FunctionCode {
  let bundles: ReadonlyMap<string, Bundle> | undefined;
  const make = (names: readonly string[]): string => {
    // All in one go: most of what they import is the same, and is read and parsed once.
    bundles ??= bundleAll(functionsFolder);
    const folder = temporaryFolder();
    const needed = new Set<NativePackage>();
    for (const name of names) {
      const { text, map, native } = bundles.get(name)!;
      const file = handlerOf(name).replace(/\.handler$/, ".mjs");
      writeFileSync(join(folder, file), `${text}//# sourceMappingURL=${file}.map\n`);
      writeFileSync(join(folder, `${file}.map`), map);
      for (const each of native) needed.add(each);
    }
    for (const each of needed) copyNativePackage(each, folder, platform);
    return folder;
  };
  let offline: string | undefined;
  return {
    of(name) {
      if (!OFFLINE.includes(name)) return Code.fromAsset(make([name]));
      offline ??= make(OFFLINE);
      return Code.fromAsset(offline);
    },
  };
}

const temporary: string[] = [];
/** CDK copies a folder into its assembly before `fromAsset` is bound, which is well before the process ends. */
function temporaryFolder(): string {
  if (temporary.length === 0) {
    process.once("exit", () => {
      for (const folder of temporary) rmSync(folder, { recursive: true, force: true });
    });
  }
  const folder = mkdtempSync(join(tmpdir(), "freshet-bundle-"));
  temporary.push(folder);
  return folder;
}

/** Packages with a native library, which no bundle can hold: they lie beside it, for one platform. */
const NATIVE_PACKAGES = ["onnxruntime-node", "@duckdb/node-api"] as const;
type NativePackage = (typeof NATIVE_PACKAGES)[number];
export interface Platform {
  readonly platform: string;
  readonly arch: string;
}
/** What `node-function.ts` asks Lambda for. An emulator runs functions on the machine that it is on. */
const LAMBDA_PLATFORM: Platform = { platform: "linux", arch: "x64" };

type Copy = (from: string, parts: readonly string[], to: string) => void;

/** Folder of an installed package, as another one (or this file) finds it. */
const packageFolder = (name: string, from: string = import.meta.url): string =>
  dirname(createRequire(from).resolve(`${name}/package.json`));

/** What each needs at run time: a function may have 250 MB, and they are installed with more than that. */
const NATIVE: Readonly<Record<NativePackage, (copy: Copy, platform: Platform) => void>> = {
  /** 46 MB of 290. Its other dependencies serve its installer. */
  "onnxruntime-node"(copy, { platform, arch }) {
    const runtime = packageFolder("onnxruntime-node");
    // It exports no package.json; its main file lies two folders down.
    const common = join(
      dirname(createRequire(join(runtime, "package.json")).resolve("onnxruntime-common")),
      "..",
      "..",
    );
    copy(runtime, ["package.json", "dist", join("bin", "napi-v6", platform, arch)], "onnxruntime-node");
    copy(common, ["package.json", join("dist", "cjs")], "onnxruntime-common");
  },
  /** 70 MB; the library of another platform is not installed. */
  "@duckdb/node-api"(copy, { platform, arch }) {
    const api = packageFolder("@duckdb/node-api");
    const bindings = packageFolder("@duckdb/node-bindings", join(api, "package.json"));
    const library = `@duckdb/node-bindings-${platform}-${arch}`;
    copy(api, ["package.json", "lib"], "@duckdb/node-api");
    copy(bindings, ["package.json", "duckdb.js"], "@duckdb/node-bindings");
    const libraryFolder = packageFolder(library, join(bindings, "package.json"));
    copy(libraryFolder, ["package.json", "duckdb.node", "libduckdb.so"], library);
    const detect = packageFolder("detect-libc", join(bindings, "package.json"));
    copy(detect, ["package.json", "lib"], "detect-libc");
  },
};

function copyNativePackage(name: NativePackage, folder: string, platform: Platform): void {
  NATIVE[name]((from, parts, to) => {
    for (const part of parts) {
      cpSync(join(from, part), join(folder, "node_modules", to, part), {
        recursive: true,
        filter: (path) => !/\.(map|d\.ts)$/.test(path),
      });
    }
  }, platform);
}

/** As `adapters/valkey/function-source.ts` joins them. */
function storeFunctionSource(): string {
  const folder = new URL("../../adapters/valkey/function/", import.meta.url);
  const files = readdirSync(folder).sort();
  return files.map((file) => readFileSync(new URL(file, folder), "utf8")).join("\n");
}

/** A worker thread travels inside the bundle that starts it, as CommonJS: that is what a thread can be made from as text. */
function workerSource(path: string): string {
  const entry = fileURLToPath(new URL(path, import.meta.url));
  const options = { bundle: true, platform: "node", target: "node24", format: "cjs", write: false } as const;
  return buildSync({ ...options, entryPoints: [entry] }).outputFiles[0].text;
}

/** How a function is bundled, here and wherever else the deployed code is to be run. */
export const bundleOptions = {
  bundle: true,
  platform: "node",
  target: "node24",
  format: "esm",
  // Contracts are JSON under their own extension. The store's Lua library travels inside the bundle.
  loader: { ".avsc": "json" },
  external: [...NATIVE_PACKAGES],
  // The client of Kafka has its checksums in WebAssembly, in a file beside its code: here as text within it.
  alias: { "@platformatic/wasm-utils": "@platformatic/wasm-utils/bundled" },
  define: {
    STORE_FUNCTION_SOURCE: JSON.stringify(storeFunctionSource()),
    TREE_SHAP_WORKER_SOURCE: JSON.stringify(workerSource("../../adapters/model/tree-shap-worker.ts")),
  },
  // Packages written as CommonJS call `require` for Node's own modules, which an ES module does not have.
  banner: {
    js: 'import { createRequire as freshetCreateRequire } from "node:module"; const require = freshetCreateRequire(import.meta.url);',
  },
  logLevel: "warning",
} as const satisfies BuildOptions;

interface Bundle {
  readonly text: string;
  readonly map: Uint8Array;
  readonly native: readonly NativePackage[];
}

/** @returns by the function's name. @throws FreshetError `bundle_failed` */
function bundleAll(functionsFolder: string): ReadonlyMap<string, Bundle> {
  const files = readdirSync(functionsFolder).filter((file) => file.endsWith(".ts"));
  // Paths in the bundle do not depend on where `cdk` was started.
  const root = dirname(functionsFolder);
  const { outputFiles, metafile } = build({
    ...bundleOptions,
    absWorkingDir: root,
    entryPoints: files.map((file) => join(functionsFolder, file)),
    outdir: root,
    entryNames: "[name]",
    outExtension: { ".js": ".mjs" },
    write: false,
    sourcemap: "external",
    sourcesContent: false,
    metafile: true,
  });
  const output = (name: string) => outputFiles.find(({ path }) => basename(path) === name)!;
  return new Map(
    files.map((file) => {
      const name = file.replace(/\.ts$/, "");
      const { imports } = metafile.outputs[`${name}.mjs`]!;
      const native = NATIVE_PACKAGES.filter((each) => imports.some(({ path, external }) => external && path === each));
      return [name, { text: output(`${name}.mjs`).text, map: output(`${name}.mjs.map`).contents, native }];
    }),
  );
}

function build<Options extends BuildOptions>(options: Options): BuildResult<Options> {
  try {
    return buildSync<Options>(options as never);
  } catch (cause) {
    const [first] = (cause as Partial<BuildFailure>).errors ?? [];
    const at = first?.location ? ` (${first.location.file}:${first.location.line})` : "";
    throw new FreshetError("bundle_failed", `the functions cannot be bundled: ${first?.text ?? cause}${at}`, { cause });
  }
}
