/**
 * The temporary folder of a run of tests: what tests, CDK and vitest leave in it goes with the run. Workers are killed when they are
 * done, and would clean up nothing at their exit.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** For this process and all that it starts, until it ends. */
export function useScratchFolder(): void {
  const folder = mkdtempSync(join(tmpdir(), "freshet-run-"));
  process.env["TMPDIR"] = folder;
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
}
