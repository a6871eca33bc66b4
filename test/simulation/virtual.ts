/**
 * Virtual time and seeded names for the product's code, which asks Node for them: `Date.now`, timers, random UUIDs and bytes answer
 * from the run that is going on. Installed once, before anything of the product runs.
 */
import crypto from "node:crypto";
import { syncBuiltinESMExports } from "node:module";
import timers from "node:timers/promises";
import type { Scheduler } from "./scheduler.ts";

let current: Scheduler | null = null;
let names = 0;
let intervals = new WeakSet<object>();
/** No invocation lives longer: one that was killed does not end its timers. */
const LONGEST_MS = 600_000;

/** From here on time is that of a run. */
export function enter(scheduler: Scheduler): void {
  current = scheduler;
  names = 0;
  intervals = new WeakSet();
}

export function install(): void {
  const { now } = Date;
  Date.now = () => (current === null ? now() : Math.floor(current.nowMs));
  const mutable = timers as { setTimeout: unknown };
  mutable.setTimeout = (ms: number) => running().sleep(ms);
  (crypto as { randomUUID: unknown }).randomUUID = () => {
    const hex = (++names).toString(16).padStart(8, "0");
    return `${hex}-0000-4000-8000-${(running().dice.seed >>> 0).toString(16).padStart(12, "0")}`;
  };
  // Names of rounds and salts; as many bytes as are asked for.
  (crypto as { randomBytes: unknown }).randomBytes = (size: number) => {
    const bytes = Buffer.alloc(size);
    for (let at = 0; at < size; at++) bytes[at] = running().dice.below(`bytes ${++names}`, 256);
    return bytes;
  };
  Math.random = () => running().dice.unit(`random ${++names}`);
  // Leases are renewed by these.
  (globalThis as { setInterval: unknown }).setInterval = (work: () => void, ms: number) => {
    const timer = { unref() {} };
    if (current === null) return timer;
    const scheduler = current;
    const endMs = scheduler.nowMs + LONGEST_MS;
    intervals.add(timer);
    const again = (): void => {
      if (!intervals.has(timer) || scheduler.nowMs > endMs) return;
      work();
      scheduler.after(ms, again);
    };
    scheduler.after(ms, again);
    return timer;
  };
  (globalThis as { clearInterval: unknown }).clearInterval = (timer: object) => intervals.delete(timer);
  syncBuiltinESMExports();
}

function running(): Scheduler {
  if (current === null) throw new Error("no run is going on");
  return current;
}
