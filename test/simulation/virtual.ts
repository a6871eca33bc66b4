/**
 * Virtual time and seeded names for the product's code, which asks Node for them: `Date.now`, timers and random UUIDs answer
 * from the run that is going on. Installed once, before anything of the product runs.
 */
import crypto from "node:crypto";
import { syncBuiltinESMExports } from "node:module";
import timers from "node:timers/promises";
import type { Scheduler } from "./scheduler.ts";

let current: Scheduler | null = null;
let names = 0;

/** From here on time is that of a run. */
export function enter(scheduler: Scheduler): void {
  current = scheduler;
  names = 0;
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
  Math.random = () => running().dice.unit(`random ${++names}`);
  // Leases are renewed by these; a simulated run of a function is shorter than a lease.
  (globalThis as { setInterval: unknown }).setInterval = () => ({ unref() {} });
  (globalThis as { clearInterval: unknown }).clearInterval = () => {};
  syncBuiltinESMExports();
}

function running(): Scheduler {
  if (current === null) throw new Error("no run is going on");
  return current;
}
