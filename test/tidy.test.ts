/** What keeps the tree as DESIGN draws it. Each exception stands here with its reason, or not at all. */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, extname, join, normalize, relative } from "node:path";
import { describe, expect, it } from "vitest";

const ROOT = join(import.meta.dirname, "..");
const SKIPPED = new Set(["node_modules", "dist", "results"]);

function walk(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { withFileTypes: true }).flatMap((entry) => {
    if (entry.name.startsWith(".") || entry.name.startsWith("cdk.out") || SKIPPED.has(entry.name)) return [];
    const path = join(folder, entry.name);
    return entry.isDirectory() ? walk(path) : [path];
  });
}
const read = (path: string) => readFileSync(join(ROOT, path), "utf8");
const all = walk(".").filter((path) => statSync(join(ROOT, path)).size < 2_000_000);
const code = all.filter((path) => extname(path) === ".ts");
const engine = code.filter((path) => !path.startsWith("test/"));
const textFiles = all.filter((path) => /\.(ts|lua|md|json|yml|avsc|txt|js)$|(^|\/)(Makefile|run)$/.test(path));

interface Import {
  readonly from: string;
  readonly to: string;
  readonly typeOnly: boolean;
  /** Loaded when the code comes to it, if ever. */
  readonly late: boolean;
}
const STATIC = /^(?:import|export)(\s+type)?\s(?:[^"';`]*?\sfrom\s)?"(\.{1,2}\/[^"]+)"/gm;
const DYNAMIC = /\bimport\(()"(\.{1,2}\/[^"]+)"\)/g;
/** Generators hold code in templates. */
const withoutTemplates = (text: string) => text.replaceAll(/`(?:\\.|[^`\\])*`/gs, "``");
const imports = code.flatMap((from): Import[] => {
  const text = withoutTemplates(read(from));
  const late = [...text.matchAll(DYNAMIC)];
  return [...text.matchAll(STATIC), ...late].map((match) => ({
    from,
    to: normalize(join(dirname(from), match[2])),
    typeOnly: Boolean(match[1]),
    late: late.includes(match),
  }));
});

/** What each folder may import: prefixes of paths. A file's own line, where there is one, comes on top of its folder's. */
const ARROWS: Readonly<Record<string, readonly string[]>> = {
  "core/": ["core/"],
  "features/": ["features/", "core/definition.ts"],
  // Compiles the definitions: the one place where they meet the engine.
  "features/plan.ts": ["core/", "adapters/hash.ts", "schemas/contracts.ts"],
  // Both are generated; they import types.
  "schemas/": ["core/plan.ts", "adapters/avro/contract-source.ts"],
  "adapters/": ["adapters/", "core/", "schemas/"],
  // Names of variables live beside the functions that read them.
  "adapters/valkey/options.ts": ["functions/shared/environment.ts"],
  "functions/": ["functions/", "adapters/", "core/", "features/", "schemas/", "package.json"],
  "lib/": [
    "lib/",
    "core/errors.ts",
    "core/plan.ts",
    "core/retention.ts",
    "core/scoring/training.ts",
    "features/plan.ts",
    "functions/shared/environment.ts",
  ],
  "bin/": [
    "bin/",
    "lib/",
    "core/",
    "features/",
    "adapters/avro/check-schemas.ts",
    "adapters/schema-registry/address.ts",
  ],
  // The guard that keeps the local target off AWS is asked before each call to the emulator, too.
  "local/": ["local/", "adapters/", "core/", "features/", "functions/", "schemas/", "lib/local-guard.ts"],
  "cli/": ["cli/", "local/", "adapters/", "core/", "features/", "functions/", "schemas/", "bench/"],
  // What a stage keeps has to suit the definitions, and is told with them.
  "cli/commands/plan.ts": ["lib/stage.ts"],
  // Benchmarks start their servers as tests do.
  "bench/": ["bench/", "adapters/", "core/", "functions/", "local/", "features/", "schemas/", "test/support/"],
  // What it has measured is held against the oracle.
  "bench/soak.ts": ["test/core/naive.ts"],
  "bench/restore.ts": ["test/harness/emulator.ts"],
  // Given to others, who have nothing else of this.
  "clients/": ["clients/"],
};

describe("imports", () => {
  it("are found at all", () => {
    expect(imports.length).toBeGreaterThan(300);
    expect(imports.filter(({ to }) => !existsSync(join(ROOT, to)))).toEqual([]);
  });

  it.each(Object.keys(ARROWS).filter((key) => key.endsWith("/")))("of %s follow its arrows", (folder) => {
    const wrong = imports.filter(({ from, to }) => {
      if (!from.startsWith(folder)) return false;
      const allowed = [...ARROWS[folder], ...(ARROWS[from] ?? [])];
      return !allowed.some((prefix) => to === prefix || (prefix.endsWith("/") && to.startsWith(prefix)));
    });
    expect(wrong.map(({ from, to }) => `${from} imports ${to}`)).toEqual([]);
  });

  it("cover every folder that has code", () => {
    const folders = new Set(engine.filter((path) => path.includes("/")).map((path) => `${path.split("/")[0]}/`));
    expect([...folders].filter((folder) => !(folder in ARROWS))).toEqual([]);
  });

  it("have no exception that nothing needs any more", () => {
    for (const [file, extra] of Object.entries(ARROWS)) {
      if (file.endsWith("/")) continue;
      for (const prefix of extra) {
        expect(imports.some(({ from, to }) => from === file && to.startsWith(prefix))).toBe(true);
      }
    }
  });

  it("of generated modules are types", () => {
    expect(imports.filter(({ from, typeOnly }) => from.startsWith("schemas/") && !typeOnly)).toEqual([]);
  });

  it("of freshet plan do not reach the recorded plan, which it mends when nothing else can load it", () => {
    const reached = new Set(["cli/commands/plan.ts"]);
    for (const file of reached) {
      for (const { from, to, typeOnly, late } of imports) if (from === file && !typeOnly && !late) reached.add(to);
    }
    expect(reached.size).toBeGreaterThan(30);
    expect([...reached]).not.toContain("features/plan.ts");
  });

  it("go in no circle that JavaScript would have to resolve", () => {
    const graph = new Map<string, string[]>();
    for (const { from, to, typeOnly } of imports) if (!typeOnly) graph.set(from, [...(graph.get(from) ?? []), to]);
    const done = new Set<string>();
    const circle = (node: string, path: readonly string[]): string | null => {
      if (path.includes(node)) return [...path.slice(path.indexOf(node)), node].join(" → ");
      if (done.has(node)) return null;
      for (const next of graph.get(node) ?? []) {
        const found = circle(next, [...path, node]);
        if (found) return found;
      }
      done.add(node);
      return null;
    };
    for (const file of graph.keys()) expect(circle(file, [])).toBeNull();
  });
});

describe("core", () => {
  const files = engine.filter((path) => path.startsWith("core/"));

  it.each([
    ["package or part of Node", /from "(?!\.)/],
    ["clock", /\bDate\.now|new Date\(\)|performance\./],
    ["randomness", /Math\.random|randomUUID/],
    ["process or console", /\bprocess\.|\bconsole\./],
    ["timer or network", /\bset(Timeout|Interval|Immediate)\(|\bfetch\(/],
  ])("uses no %s", (_, pattern) => {
    expect(files.filter((path) => pattern.test(withoutComments(read(path))))).toEqual([]);
  });
});

describe("clients of S3", () => {
  it("are made in one place, which knows how an emulator's buckets are found", () => {
    const made = engine.filter((path) => /\bnew S3Client\(/.test(withoutComments(read(path))));
    expect(made).toEqual(["adapters/s3/client.ts"]);
  });
});

describe("files", () => {
  const lines = (path: string) => read(path).split("\n").length;

  it("of code fit in 350 lines, tests in 600", () => {
    const sources = all.filter((path) => /\.(ts|lua|js)$/.test(path));
    const tooLong = sources.filter((path) => lines(path) > (path.startsWith("test/") ? 600 : 350));
    expect(tooLong.map((path) => `${path}: ${lines(path)}`)).toEqual([]);
  });

  it("name no folder of somebody's machine", () => {
    // Examples in tests of paths themselves.
    const examples = new Set(["test/lib/local-guard.test.ts", "test/local/ports.test.ts"]);
    const found = textFiles.filter(
      (path) => !examples.has(path) && /["'`\s(=:](\/(root|home|work|Users|tmp)\/\w)/.test(read(path)),
    );
    expect(found).toEqual([]);
  });

  it("leave nothing open", () => {
    const open = new RegExp(`\\b(${["TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"].join("|")})\\b`);
    expect(textFiles.filter((path) => open.test(read(path)))).toEqual([]);
  });

  it("are imported with their ending, and re-export nothing as a whole", () => {
    expect(imports.filter(({ to }) => !/\.(ts|json|js)$/.test(to))).toEqual([]);
    expect(engine.filter((path) => /^export \* from/m.test(read(path)))).toEqual([]);
  });
});

describe("tests", () => {
  const tests = code.filter((path) => path.endsWith(".test.ts"));

  it("lie where the code lies that they are about", () => {
    const folders = new Set(tests.map((path) => path.split("/")[1]).filter((name) => !name.endsWith(".test.ts")));
    const own = new Set(["harness", "simulation", "system", "fixtures", "support", "generator", "browser"]);
    expect([...folders].filter((folder) => !own.has(folder) && !existsSync(join(ROOT, folder)))).toEqual([]);
  });

  it("run alone or skipped nowhere, but where the machine lacks what they need", () => {
    const marks = /\b(?:it|test|describe)(?:\.\w+)*\.(only|skip|todo|fails|skipIf|runIf)\b/g;
    const found = tests
      .filter((path) => path !== "test/tidy.test.ts")
      .flatMap((path) => [...read(path).matchAll(marks)].map(([, mark]) => `${path}: ${mark}`));
    const known = [
      // Reads another process's environment by Linux's own means.
      "test/system/faults.system.test.ts: skipIf",
      // Machines without a browser.
      "test/browser/pages.browser.test.ts: skipIf",
    ];
    expect(found.filter((mark) => !known.includes(mark))).toEqual([]);
  });
});

describe("exports", () => {
  it("are all used, here or there", () => {
    const uses = new Map<string, number>();
    for (const path of code) {
      for (const [word] of read(path).matchAll(/\w+/g)) uses.set(word, (uses.get(word) ?? 0) + 1);
    }
    const declared = /^export (?:declare )?(?:async )?(?:const|function\*?|class|interface|type) (\w+)/gm;
    const unused = engine.flatMap((path) =>
      [...read(path).matchAll(declared)]
        .filter(([, name]) => uses.get(name) === 1)
        .map(([, name]) => `${path}: ${name}`),
    );
    expect(unused).toEqual([]);
  });

  it("of values are for another file", () => {
    const named = /^(?:import|export)\s(?:[^"';`]*?)\{([^}]*)\}\s*from\s+"(\.{1,2}\/[^"]+)"/gm;
    const wanted = new Set(
      code.flatMap((from) =>
        [...withoutTemplates(read(from)).matchAll(named)].flatMap(([, names, to]) =>
          [...names.matchAll(/(\w+)(?:\s+as\s+\w+)?\s*(?:,|$)/g)].map(
            ([, name]) => `${normalize(join(dirname(from), to))}: ${name}`,
          ),
        ),
      ),
    );
    // Taken whole, or named by what calls them: Lambda, the command's words. What users edit may stand ready.
    const whole = new Set([
      ...imports.filter(({ late }) => late).map(({ to }) => to),
      ...code.flatMap((from) =>
        [...read(from).matchAll(/^import \* as \w+ from "(\.[^"]+)"/gm)].map(([, to]) =>
          normalize(join(dirname(from), to)),
        ),
      ),
    ]);
    const called = new Set(["handler", "register"]);
    const declared = /^export (?:async )?(?:const|function\*?|class) (\w+)/gm;
    const needless = engine
      .filter((path) => !whole.has(path) && !/^(features|schemas|clients)\//.test(path))
      .flatMap((path) =>
        [...withoutTemplates(read(path)).matchAll(declared)]
          .filter(([, name]) => !called.has(name) && !wanted.has(`${path}: ${name}`))
          .map(([, name]) => `${path}: ${name}`),
      );
    expect(needless).toEqual([]);
  });
});

function withoutComments(text: string): string {
  return text.replaceAll(/\/\*[\s\S]*?\*\/|(?<=^|\s)\/\/.*$/gm, "");
}

it("every decision and document that the code points to is there", () => {
  const pointers = textFiles.flatMap((path) =>
    [...read(path).matchAll(/\b(docs\/[a-z0-9/-]+\.md)\b/g)].map(([, target]) => ({ path, target })),
  );
  expect(pointers.length).toBeGreaterThan(3);
  const missing = pointers.filter(({ target }) => !existsSync(join(ROOT, target)));
  expect(missing.map(({ path, target }) => `${relative(".", path)}: ${target}`)).toEqual([]);
});
