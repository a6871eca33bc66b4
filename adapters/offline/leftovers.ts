/** Folders that a process makes for itself and removes in the end. One that was killed leaves its own, with gigabytes in them. */
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";

/** @param named the process's number, as its first group, in a name */
export function removeOfTheDead(folder: string, named: RegExp): void {
  for (const name of namesIn(folder)) {
    const pid = Number(named.exec(name)?.[1] ?? Number.NaN);
    if (Number.isInteger(pid) && !isAlive(pid)) rmSync(join(folder, name), { recursive: true, force: true });
  }
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // Of another user.
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
