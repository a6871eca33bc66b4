/**
 * Row "whole local pipeline" of DESIGN §13: a producer, the emulator's Kinesis, the deployed aggregate function, Valkey. What
 * became of every event, and when it was visible, is read from the archive that the function wrote.
 */
import { mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "iovalkey";
import { statsKey } from "../adapters/valkey/stats.ts";
import { endWithThisProcess } from "../local/end-with-process.ts";
import { down, up } from "../local/laptop.ts";
import { LOOPBACK } from "../local/ports.ts";
import { type LaptopState, readState } from "../local/state.ts";
import { Steps } from "../local/steps.ts";
import { readArrivals } from "./archive-rows.ts";
import type { Benchmark, BenchmarkOptions, Row } from "./benchmark.ts";
import { drainUnmapped, withUnmappedStream } from "./broker-alone.ts";
import { Child } from "./child.ts";
import type { ProduceOrder, ProduceResult } from "./producer.ts";
import { percentile } from "./statistics.ts";

const POLL_MS = 20;
/** Nothing moves for this long: the pipeline hangs. */
const STALL_MS = 60_000;
const TARGETS = { packed: 10_000, single: 4_000 } as const;
const FRESHNESS_TARGET_MS = 2_000;

export const benchmark: Benchmark = {
  title: "Whole local pipeline: producer → Kinesis → aggregate function → servable, the app's own features",
  async run(options) {
    const home = realpathSync(mkdtempSync(join(tmpdir(), "freshet-bench-")));
    const guard = endWithThisProcess(home);
    const steps = new Steps();
    const producer = new Child("producer-process.ts");
    try {
      options.say("bringing up a deployment of its own");
      await up(home, { steps, signal: options.signal });
      const rows: Row[] = [];
      for (const kind of ["packed", "single"] as const) {
        rows.push(...(await measureKind(kind, readState(home), producer, options)));
      }
      return rows;
    } finally {
      guard.kill("SIGKILL");
      await producer.stop();
      await down(home, steps);
      rmSync(home, { recursive: true, force: true });
    }
  },
};

interface Context {
  readonly ports: { readonly valkey: number; readonly emulator: number };
  readonly deployment: NonNullable<LaptopState["deployment"]>;
  readonly producer: Child;
  readonly packed: boolean;
  readonly signal: AbortSignal;
}

async function measureKind(
  kind: "packed" | "single",
  state: LaptopState,
  producer: Child,
  { quick, signal, say }: BenchmarkOptions,
): Promise<Row[]> {
  const context: Context = {
    ports: state.ports as Context["ports"],
    deployment: state.deployment!,
    producer,
    packed: kind === "packed",
    signal,
  };
  const rounds = quick ? 1 : 3;
  const events = (quick ? 2 : 10) * TARGETS[kind];
  const perSecond: number[] = [];
  const alone: number[] = [];
  const p50Ms: number[] = [];
  const p99Ms: number[] = [];
  await pass(context, { events: 2_000, rate: null, label: `${kind}-warm` });
  for (let round = 1; round <= rounds; round++) {
    const full = await pass(context, { events, rate: null, label: `${kind}-full-${round}` });
    perSecond.push((events * 1000) / (full.lastVisibleMs - full.startedMs));
    const paced = await pass(context, { events, rate: TARGETS[kind], label: `${kind}-paced-${round}` });
    p50Ms.push(percentile(paced.freshnessMs, 50));
    p99Ms.push(percentile(paced.freshnessMs, 99));
    alone.push(await brokerAlone(context, events, `${kind}-alone-${round}`));
    say(
      `${kind} ${round}/${rounds}: ${perSecond[round - 1].toFixed(0)} events/s, p99 ${p99Ms[round - 1].toFixed(0)} ms`,
    );
  }
  const records = kind === "packed" ? "KPL-packed records" : "single records";
  return [
    {
      what: `${records}: events/s, producer to servable`,
      unit: "events/s",
      rounds: perSecond,
      target: { atLeast: TARGETS[kind] },
      baselines: [{ name: "broker alone: put and read back", rounds: alone }],
      note:
        `${events.toLocaleString("en-US")} events as fast as the broker acknowledges, from the first one sent to the last one visible; ` +
        "every event is found applied exactly once in the archive. The broker alone: the same records into a stream without a function, read back by a loop that does nothing with them.",
    },
    {
      what: `${records}: freshness p50 at ${TARGETS[kind].toLocaleString("en-US")} events/s`,
      unit: "ms",
      rounds: p50Ms,
    },
    {
      what: `${records}: freshness p99 at ${TARGETS[kind].toLocaleString("en-US")} events/s`,
      unit: "ms",
      rounds: p99Ms,
      target: { atMost: FRESHNESS_TARGET_MS },
      note: "From the producer's clock right before it sends to the store's clock at the apply, for every event.",
    },
  ];
}

interface Pass {
  readonly startedMs: number;
  readonly lastVisibleMs: number;
  /** Ascending, one for each event. */
  readonly freshnessMs: Float64Array;
}

/** Sends events and waits until each is visible. @throws Error when one is lost, or counted twice */
async function pass(context: Context, order: Pick<ProduceOrder, "events" | "rate" | "label">): Promise<Pass> {
  const { ports, deployment, producer, packed, signal } = context;
  const valkey = new Redis({ host: LOOPBACK, port: ports.valkey });
  try {
    const settled = async (): Promise<number> => {
      const counts = await valkey.hmget(statsKey("transactions"), "applied", "duplicates", "late", "quarantined");
      return counts.reduce((sum, count) => sum + Number(count ?? 0), 0);
    };
    const before = await settled();
    const { startedMs } = await producer.ask<ProduceResult>({
      ...order,
      packed,
      emulatorPort: ports.emulator,
      stream: deployment.streams["transactions"],
    } satisfies ProduceOrder);
    let last = 0;
    let movedAt = performance.now();
    for (;;) {
      signal.throwIfAborted();
      const now = (await settled()) - before;
      if (now >= order.events) break;
      if (now !== last) movedAt = performance.now();
      else if (performance.now() - movedAt > STALL_MS) {
        throw new Error(`${now} of ${order.events} events are settled, and nothing moves`);
      }
      last = now;
      await sleep(POLL_MS);
    }
    const arrivals = await readArrivals(ports.emulator, deployment, startedMs, `${order.label}-`);
    if (arrivals.length !== order.events) {
      throw new Error(`the archive has ${arrivals.length} of ${order.events} events as applied`);
    }
    return {
      startedMs,
      lastVisibleMs: arrivals.reduce((latest, { visibleMs }) => Math.max(latest, visibleMs), 0),
      freshnessMs: Float64Array.from(arrivals, ({ eventTimeMs, visibleMs }) => visibleMs - eventTimeMs).sort(),
    };
  } finally {
    valkey.disconnect();
  }
}

async function brokerAlone(
  { ports, producer, packed, signal }: Context,
  events: number,
  label: string,
): Promise<number> {
  return withUnmappedStream(ports.emulator, async (stream) => {
    const produced = producer.ask<ProduceResult>({
      emulatorPort: ports.emulator,
      stream,
      packed,
      events,
      rate: null,
      label,
    } satisfies ProduceOrder);
    const drained = drainUnmapped(ports.emulator, stream, events, signal);
    const [{ startedMs }, endedMs] = await Promise.all([produced, drained]);
    return (events * 1000) / (endedMs - startedMs);
  });
}
