import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

const ROOT = join(import.meta.dirname, "..", "..");
const PYTHON = join(ROOT, ".freshet", "venv", "bin", "python");

// The Python suite runs once, and each of its tests is one here.
const run = spawnSync(PYTHON, [join(import.meta.dirname, "run.py")], {
  encoding: "utf8",
  maxBuffer: 64 << 20,
  env: { ...process.env, PYTHONDONTWRITEBYTECODE: "1" },
});
interface Result {
  readonly name: string;
  readonly ok: boolean;
  readonly trace: string;
}
const results = (run.stdout ?? "")
  .split("\n")
  .filter((line) => line.startsWith('{"name"'))
  .map((line) => JSON.parse(line) as Result);

describe("the training program, in Python", () => {
  it("runs its tests to the end", () => {
    expect(run.error).toBeUndefined();
    expect(run.status, run.stderr).toBe(0);
    expect(results.length).toBeGreaterThan(40);
  });

  it.each(results.map(({ name, ok, trace }) => [name, ok, trace] as const))("%s", (_, ok, trace) => {
    expect(ok, trace).toBe(true);
  });
});
