import { closeSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { FreshetError } from "../core/errors.ts";
import { homeFolder } from "./home.ts";
import { startToken } from "./process-table.ts";

/**
 * One command at a time may start or stop a home's processes. The lock names its holder; that of a dead one is taken over.
 * @throws FreshetError `home_busy`
 */
export async function withLock<T>(home: string, work: () => Promise<T>): Promise<T> {
  const file = join(homeFolder(home), "lock");
  const mine = JSON.stringify({ pid: process.pid, startToken: startToken(process.pid) });
  for (let attempt = 0; ; attempt++) {
    try {
      const descriptor = openSync(file, "wx");
      writeSync(descriptor, mine);
      closeSync(descriptor);
      break;
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== "EEXIST") throw cause;
      const holder = readHolder(file);
      if (attempt === 0 && (holder === null || startToken(holder.pid) !== holder.startToken)) {
        rmSync(file, { force: true });
        continue;
      }
      throw new FreshetError("home_busy", `another freshet command (pid ${holder?.pid ?? "?"}) is working on ${home}`, {
        repair: "wait until it is done, or end it with Ctrl-C where it runs",
        cause,
      });
    }
  }
  try {
    return await work();
  } finally {
    rmSync(file, { force: true });
  }
}

function readHolder(file: string): { pid: number; startToken: string } | null {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch {
    return null;
  }
}
