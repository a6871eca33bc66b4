/**
 * The inner loop, `npm run check`: format, lint, types and unit tests at once. Words after it choose test files, as vitest takes them.
 * Quicker than `make test`, which is everything, in full, by four things:
 * - properties are tried a fifth as often (support/runs.ts);
 * - tests that are tagged `slow` are left out, unless files are named;
 * - types are checked where something has changed since the last time;
 * - test files share modules and globals: each must leave these as it found them.
 */
import { spawn } from "node:child_process";
import { availableParallelism } from "node:os";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");

/** @returns whether it passed, having shown its output: at once, or in one piece when it is over */
function run(name: string, args: readonly string[], options: { atOnce?: boolean } = {}): Promise<boolean> {
  return new Promise((settle, fail) => {
    const child = spawn(join(root, "node_modules", ".bin", name), args, {
      cwd: root,
      stdio: ["ignore", options.atOnce ? "inherit" : "pipe", options.atOnce ? "inherit" : "pipe"],
      env: { ...process.env, FRESHET_RUNS: "quick" },
    });
    const output: Buffer[] = [];
    child.stdout?.on("data", (chunk: Buffer) => output.push(chunk));
    child.stderr?.on("data", (chunk: Buffer) => output.push(chunk));
    child.once("error", fail);
    child.once("close", (code) => {
      if (code !== 0) process.stdout.write(Buffer.concat(output));
      settle(code === 0);
    });
  });
}

const started = performance.now();
const files = process.argv.slice(2);
const shared = ["--no-isolate", `--maxWorkers=${availableParallelism()}`];
const tests = ["run", "--project", "unit", ...shared, ...(files.length === 0 ? ["--tagsFilter=!slow"] : files)];
const remembered = ["--incremental", "--tsBuildInfoFile", join(root, ".freshet", "check", "types.tsbuildinfo")];
const checks = {
  "format and lint": run("biome", ["check", "."]),
  types: run("tsc", ["--noEmit", ...remembered]),
  "unit tests": run("vitest", tests, { atOnce: true }),
};
for (const [name, passed] of Object.entries(checks)) {
  const isPassed = await passed;
  console.log(`${isPassed ? " ✓" : " ✗"} ${name}`);
  if (!isPassed) process.exitCode = 1;
}
console.log(`${((performance.now() - started) / 1000).toFixed(0)} s`);
