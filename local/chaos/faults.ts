/** How each fault of the schedule is made, and undone. */
import { readdirSync, statSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "iovalkey";
import type { Fault } from "../faults/aws-proxy.ts";
import { Random } from "../generator/random.ts";
import { LOOPBACK } from "../ports.ts";
import { type ChaosRuntime, SERVERS } from "./runtime.ts";
import type { FaultName, PlannedFault } from "./schedule.ts";

type Make = (runtime: ChaosRuntime, forMs: number, random: Random, signal: AbortSignal) => Promise<void>;

/** Makes a fault and undoes it. It is undone early when the run ends. */
export async function makeFault(runtime: ChaosRuntime, fault: PlannedFault, signal: AbortSignal): Promise<void> {
  await MAKE[fault.name](runtime, fault.forMs, new Random(fault.seed, 22), signal);
}

/** `appendfsync everysec`: what is older than a second survives a power cut. */
const SYNC_MS = 900;

/** Where Valkey writes what it does, and how much that is. */
function appendedBytes({ home }: ChaosRuntime): { file: string; bytes: number } {
  const folder = join(home, "valkey", "appendonlydir");
  const newest = readdirSync(folder)
    .filter((name) => name.endsWith(".incr.aof"))
    .sort((a, b) => a.length - b.length || (a < b ? -1 : 1))
    .pop();
  const file = join(folder, newest!);
  return { file, bytes: statSync(file).size };
}

/** Returns early where the run ends. */
const lasting = (ms: number, signal: AbortSignal): Promise<void> => sleep(ms, undefined, { signal }).catch(() => {});

/** Does something again and again for a time. */
async function repeatedly(forMs: number, everyMs: () => number, signal: AbortSignal, act: () => void): Promise<void> {
  const endMs = Date.now() + forMs;
  while (Date.now() < endMs && !signal.aborted) {
    act();
    await lasting(everyMs(), signal);
  }
}

async function stoppedFor(goOn: () => void, forMs: number, signal: AbortSignal): Promise<void> {
  await lasting(forMs, signal);
  goOn();
}

async function awsFault(
  runtime: ChaosRuntime,
  forMs: number,
  signal: AbortSignal,
  decide: (operation: string) => Fault | null,
): Promise<void> {
  runtime.aws.use(({ operation }) => decide(operation));
  await lasting(forMs, signal);
  runtime.aws.use(null);
}

const MAKE: Readonly<Record<FaultName, Make>> = {
  "store-killed": async (runtime, forMs, _, signal) => {
    runtime.kill("valkey");
    await lasting(forMs, signal);
    await runtime.start("valkey");
  },
  "store-cut-short": async (runtime, forMs, random, signal) => {
    // What is synced each second has been written by then.
    const synced = appendedBytes(runtime);
    await lasting(SYNC_MS, signal);
    runtime.kill("valkey");
    await lasting(forMs, signal);
    const written = appendedBytes(runtime);
    if (synced.file === written.file) {
      truncateSync(written.file, Math.floor(random.between(synced.bytes, written.bytes)));
    }
    await runtime.start("valkey");
  },
  "store-paused": (runtime, forMs, _, signal) => stoppedFor(runtime.pause("valkey"), forMs, signal),
  "store-restarted": async (runtime, forMs, _, signal) => {
    await runtime.stop("valkey");
    await lasting(forMs, signal);
    await runtime.start("valkey");
  },
  "store-full": async (runtime, forMs, random, signal) => {
    const valkey = new Redis({ host: LOOPBACK, port: runtime.storePort, maxRetriesPerRequest: 2 });
    valkey.on("error", () => {});
    try {
      const used = Number(/^used_memory:(\d+)/m.exec(await valkey.info("memory"))![1]);
      await valkey.config("SET", "maxmemory", Math.floor(used * random.between(0.5, 1)));
      await lasting(forMs, signal);
      await valkey.config("SET", "maxmemory", 0);
    } finally {
      valkey.disconnect();
    }
  },
  "connections-cut": (runtime, forMs, random, signal) =>
    repeatedly(
      forMs,
      () => random.between(20, 400),
      signal,
      () => runtime.store.cut(),
    ),
  "connections-torn": async (runtime, forMs, random, signal) => {
    await repeatedly(
      forMs,
      () => random.between(100, 800),
      signal,
      () => {
        const bytes = random.whole(0, 20_000);
        if (random.chance(0.5)) runtime.store.cutAfterRequestBytes(bytes);
        else runtime.store.cutAfterAnswerBytes(bytes);
      },
    );
    runtime.store.cutAfterRequestBytes(Number.POSITIVE_INFINITY);
    runtime.store.cutAfterAnswerBytes(Number.POSITIVE_INFINITY);
  },
  "store-mute": async (runtime, forMs, _, signal) => {
    runtime.store.mute(true);
    await lasting(forMs, signal);
    runtime.store.mute(false);
  },
  "store-unreachable": async (runtime, forMs, _, signal) => {
    runtime.store.refuse(true);
    await lasting(forMs, signal);
    runtime.store.refuse(false);
  },
  "function-killed": (runtime, forMs, random, signal) =>
    repeatedly(
      forMs,
      () => random.between(50, 1_500),
      signal,
      () => runtime.killWorkers("aggregate"),
    ),
  "function-paused": (runtime, forMs, _, signal) => stoppedFor(runtime.pauseWorkers("aggregate"), forMs, signal),
  "api-killed": async (runtime, forMs, random, signal) => {
    const server = random.pick(SERVERS);
    runtime.kill(server);
    await lasting(forMs, signal);
    await runtime.start(server);
  },
  "api-paused": (runtime, forMs, random, signal) => stoppedFor(runtime.pause(random.pick(SERVERS)), forMs, signal),
  "broker-paused": (runtime, forMs, _, signal) => stoppedFor(runtime.pause("emulator"), forMs, signal),
  "broker-restarted": async (runtime, forMs, _, signal) => {
    await runtime.stop("emulator");
    await lasting(forMs, signal);
    await runtime.start("emulator");
  },
  "archive-failing": (runtime, forMs, random, signal) =>
    awsFault(runtime, forMs, signal, (operation) =>
      operation === "PutObject" && random.chance(0.8) ? { kind: "error", status: 503, code: "SlowDown" } : null,
    ),
  "archive-deaf": (runtime, forMs, random, signal) =>
    awsFault(runtime, forMs, signal, (operation) =>
      operation === "PutObject" && random.chance(0.6) ? { kind: "lose-answer" } : null,
    ),
  "tables-failing": (runtime, forMs, random, signal) =>
    awsFault(runtime, forMs, signal, (operation) =>
      !operation.endsWith("Object") && !operation.endsWith("Bucket") && random.chance(0.5)
        ? { kind: "error", status: 500, code: "InternalServerError" }
        : null,
    ),
};
