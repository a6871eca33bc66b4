/**
 * Lines that each call of an outage would write: one a second of each kind, which tells how many there were since the one before. A line for each
 * would fill disks, and holds up everybody where whoever reads the log does not keep up: a process writes to a pipe within its turn.
 */
import type { Log } from "../app.ts";

const EVERY_MS = 1_000;

/** @param clock epoch milliseconds */
export function sparing(log: Log, clock: () => number): (kind: string, ...line: Parameters<Log>) => void {
  const kinds = new Map<string, { readonly saidMs: number; unsaid: number }>();
  return (kind, message, details, error) => {
    const nowMs = clock();
    const last = kinds.get(kind);
    // A clock that was set back keeps nobody silent.
    if (last !== undefined && Math.abs(nowMs - last.saidMs) < EVERY_MS) {
      last.unsaid++;
      return;
    }
    kinds.set(kind, { saidMs: nowMs, unsaid: 0 });
    log(message, last === undefined || last.unsaid === 0 ? details : { ...details, unsaid: last.unsaid }, error);
  };
}
