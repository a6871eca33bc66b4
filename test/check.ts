/**
 * The inner loop, `npm run check`: format, lint, types and unit tests at once, with properties tried a fifth as often (see
 * support/runs.ts). Words after it choose test files, as vitest takes them. `make test` is everything, in full.
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
const tests = ["run", "--project", "unit", `--maxWorkers=${availableParallelism()}`, ...process.argv.slice(2)];
const checks = {
  "format and lint": run("biome", ["check", "."]),
  types: run("tsc", ["--noEmit"]),
  "unit tests": run("vitest", tests, { atOnce: true }),
};
for (const [name, passed] of Object.entries(checks)) {
  const isPassed = await passed;
  console.log(`${isPassed ? " ✓" : " ✗"} ${name}`);
  if (!isPassed) process.exitCode = 1;
}
console.log(`${((performance.now() - started) / 1000).toFixed(0)} s`);
