/** Runs suites and counts what they say, for the one line at the end that is looked for: `N passed, N failed`. */
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join, relative } from "node:path";
import { stripVTControlCharacters } from "node:util";

export interface Tally {
  readonly passed: number;
  /** One entry for each failure: which test, and the beginning of its message. */
  readonly failures: readonly string[];
  readonly skipped: number;
}

/** What vitest's JSON report says, as far as it is read here. */
interface Report {
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly message: string;
    readonly assertionResults: readonly {
      readonly fullName: string;
      readonly status: string;
      readonly failureMessages: readonly string[] | null;
    }[];
  }[];
}

const root = join(import.meta.dirname, "..");
const bin = join(root, "node_modules", ".bin");
const scratch = mkdtempSync(join(tmpdir(), "freshet-run-"));

function run(command: string, args: readonly string[], env: Record<string, string> = {}): Promise<number> {
  return new Promise((settle, fail) => {
    const child = spawn(join(bin, command), args, {
      cwd: root,
      env: { ...process.env, ...env },
      stdio: ["ignore", "inherit", "inherit"],
    });
    // Ctrl-C reaches the child by itself; what is sent to this process alone is passed on, so that it can clean up.
    process.once("SIGTERM", () => child.kill("SIGTERM"));
    child.once("error", fail);
    child.once("close", (code) => settle(code ?? 1));
  });
}

export async function sourceCheck(name: string, command: string, args: readonly string[]): Promise<Tally> {
  const code = await run(command, args);
  console.log(`${code === 0 ? " ✓" : " ✗"} ${name}`);
  return { passed: code === 0 ? 1 : 0, failures: code === 0 ? [] : [name], skipped: 0 };
}

/** Of all that tests draw. Another one looks further: FRESHET_SEED=7 make test. */
const SEED = process.env["FRESHET_SEED"] ?? "20261122";
let runsSoFar = 0;

/**
 * @param options.workers how many files at once; @param options.env beside this process's own;
 * @param options.only beginnings of paths that are run alone; @param options.except folders that are left out
 */
export async function vitest(
  projects: readonly string[],
  options: {
    workers?: number;
    env?: Record<string, string>;
    only?: readonly string[];
    except?: readonly string[];
  } = {},
): Promise<Tally> {
  const { workers = availableParallelism(), env, only = [], except = [] } = options;
  const file = join(scratch, `${projects.join("-")}-${runsSoFar++}.json`);
  const chosen = [
    ...projects.flatMap((project) => ["--project", project]),
    ...except.map((folder) => `--exclude=${folder}**`),
    ...only,
  ];
  const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${file}`];
  const code = await run("vitest", ["run", ...chosen, `--maxWorkers=${workers}`, ...reporters], {
    FRESHET_SEED: SEED,
    ...env,
  });
  const tally = readTally(file);
  // A failed hook, an unhandled rejection or a crash has no test of its own, and must not pass for success.
  return code !== 0 && tally.failures.length === 0
    ? { ...tally, failures: [`${projects.join(", ")}: vitest ended with code ${code} (see its output above)`] }
    : tally;
}

function readTally(file: string): Tally {
  let report: Report;
  try {
    report = JSON.parse(readFileSync(file, "utf8")) as Report;
  } catch (error) {
    return { passed: 0, failures: [`no report was written: ${String(error)}`], skipped: 0 };
  }
  const tests = report.testResults.flatMap((suite) =>
    suite.assertionResults.map((test) => ({ ...test, file: relative(root, suite.name) })),
  );
  // A file that does not load has no tests in it.
  const broken = report.testResults.filter((suite) => suite.status === "failed" && suite.assertionResults.length === 0);
  const failed = tests.filter((test) => test.status === "failed");
  const passed = tests.filter((test) => test.status === "passed").length;
  return {
    passed,
    failures: [
      ...failed.map((test) => `${test.file}: ${test.fullName}\n    ${beginning(test.failureMessages?.[0] ?? "")}`),
      ...broken.map((suite) => `${relative(root, suite.name)}: ${beginning(suite.message)}`),
    ],
    skipped: tests.length - passed - failed.length,
  };
}

const beginning = (message: string): string => stripVTControlCharacters(message).split("\n").slice(0, 6).join("\n    ");

/** Names what failed, where it is looked for, and sums up; the exit code is set by it. */
export function conclude(tallies: readonly Tally[], startedAt: number): void {
  rmSync(scratch, { recursive: true, force: true });
  const sum = (field: "passed" | "skipped"): number => tallies.reduce((total, tally) => total + tally[field], 0);
  const failures = tallies.flatMap((tally) => tally.failures);
  for (const failure of failures) console.log(`\n ✗ ${failure}`);
  console.log(`\n${((performance.now() - startedAt) / 1000).toFixed(0)} s`);
  console.log(
    `${sum("passed")} passed, ${failures.length} failed${sum("skipped") > 0 ? `, ${sum("skipped")} skipped` : ""}`,
  );
  process.exitCode = failures.length === 0 ? 0 : 1;
}
