/**
 * Every suite, with one line at the end that sums them up: `N passed, N failed`. Checks of the source (format, lint, types)
 * count as one test each. Everything is run even when something has failed.
 */
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";

interface Tally {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** What vitest's JSON report says, as far as it is read here. */
interface Report {
  readonly testResults: readonly {
    readonly status: string;
    readonly assertionResults: readonly { readonly status: string }[];
  }[];
}

const root = join(import.meta.dirname, "..");
const bin = join(root, "node_modules", ".bin");
const scratch = mkdtempSync(join(tmpdir(), "freshet-run-"));

function run(command: string, args: readonly string[]): Promise<number> {
  return new Promise((settle, fail) => {
    const child = spawn(join(bin, command), args, { cwd: root, stdio: ["ignore", "inherit", "inherit"] });
    // Ctrl-C reaches the child by itself; what is sent to this process alone is passed on, so that it can clean up.
    process.once("SIGTERM", () => child.kill("SIGTERM"));
    child.once("error", fail);
    child.once("close", (code) => settle(code ?? 1));
  });
}

async function sourceCheck(name: string, command: string, args: readonly string[]): Promise<Tally> {
  const code = await run(command, args);
  console.log(`${code === 0 ? " ✓" : " ✗"} ${name}`);
  return { passed: code === 0 ? 1 : 0, failed: code === 0 ? 0 : 1, skipped: 0 };
}

async function vitest(projects: readonly string[]): Promise<Tally> {
  const file = join(scratch, `${projects.join("-")}.json`);
  const code = await run("vitest", [
    "run",
    ...projects.flatMap((project) => ["--project", project]),
    `--maxWorkers=${availableParallelism()}`,
    "--reporter=default",
    "--reporter=json",
    `--outputFile.json=${file}`,
  ]);
  const tally = readTally(file);
  // A failed hook, an unhandled rejection or a crash has no test of its own, and must not pass for success.
  return code !== 0 && tally.failed === 0 ? { ...tally, failed: 1 } : tally;
}

function readTally(file: string): Tally {
  let report: Report;
  try {
    report = JSON.parse(readFileSync(file, "utf8")) as Report;
  } catch {
    return { passed: 0, failed: 1, skipped: 0 };
  }
  const statuses = report.testResults.flatMap((suite) => suite.assertionResults.map((test) => test.status));
  // A file that does not load has no tests in it.
  const broken = report.testResults.filter((suite) => suite.status === "failed" && suite.assertionResults.length === 0);
  const passed = statuses.filter((status) => status === "passed").length;
  const failed = statuses.filter((status) => status === "failed").length;
  return { passed, failed: failed + broken.length, skipped: statuses.length - passed - failed };
}

const started = performance.now();
const tallies = [
  await sourceCheck("format and lint", "biome", ["check", "."]),
  await sourceCheck("types", "tsc", ["--noEmit"]),
  await vitest(["unit", "store"]),
  await vitest(["system"]),
];
rmSync(scratch, { recursive: true, force: true });

const sum = (field: keyof Tally): number => tallies.reduce((total, tally) => total + tally[field], 0);
console.log(`\n${((performance.now() - started) / 1000).toFixed(0)} s`);
console.log(
  `${sum("passed")} passed, ${sum("failed")} failed${sum("skipped") > 0 ? `, ${sum("skipped")} skipped` : ""}`,
);
process.exitCode = sum("failed") === 0 ? 0 : 1;
