/**
 * Row "whole local pipeline" of DESIGN §13: a producer, the emulator's Kinesis or a real Kafka, the aggregate function, Valkey. What
 * became of every event, and when it was visible, is read from the archive that the function wrote.
 */
import { mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "iovalkey";
import type { BrokerSettings } from "../adapters/broker/open-broker.ts";
import { statsKey } from "../adapters/valkey/stats.ts";
import { laptopBroker } from "../local/broker.ts";
import { endWithThisProcess } from "../local/end-with-process.ts";
import { down, up } from "../local/laptop.ts";
import { LOOPBACK } from "../local/ports.ts";
import { type LaptopBroker, type LaptopState, readState } from "../local/state.ts";
import { Steps } from "../local/steps.ts";
import { readArrivals } from "./archive-rows.ts";
import type { Benchmark, BenchmarkOptions, Row } from "./benchmark.ts";
import { drainUnmapped, withUnmappedStream } from "./broker-alone.ts";
import { Child } from "./child.ts";
import type { ProduceOrder, ProduceResult } from "./producer.ts";
import { percentile } from "./statistics.ts";
import { drainTopic } from "./topic-alone.ts";

const POLL_MS = 20;
/** Nothing moves for this long: the pipeline hangs. */
const STALL_MS = 60_000;
const TARGETS = { packed: 10_000, single: 4_000 } as const;
const FRESHNESS_TARGET_MS = 2_000;
/** Of the rate that is the target: near what the pipeline takes a queue decides freshness, here what one batch takes does. */
const EASY_SHARE = 0.5;

/** What is measured on each broker, and how its rows begin. */
const KINDS: Readonly<Record<LaptopBroker, readonly Kind[]>> = {
  kinesis: [
    { packed: true, name: "packed", records: "KPL-packed records" },
    { packed: false, name: "single", records: "single records" },
  ],
  // One event a record; a batch of its protocol packs them.
  kafka: [{ packed: false, name: "single", records: "Kafka, single records" }],
};
interface Kind {
  readonly packed: boolean;
  readonly name: keyof typeof TARGETS;
  readonly records: string;
}

export const benchmark: Benchmark = {
  title: "Whole local pipeline: producer → broker → aggregate function → servable, the app's own features",
  async run(options) {
    const rows: Row[] = [];
    for (const broker of options.brokers) rows.push(...(await measureBroker(broker, options)));
    return rows;
  },
};

async function measureBroker(broker: LaptopBroker, options: BenchmarkOptions): Promise<Row[]> {
  const home = realpathSync(mkdtempSync(join(tmpdir(), "freshet-bench-")));
  const guard = endWithThisProcess(home);
  const steps = new Steps();
  const producer = new Child("producer-process.ts");
  try {
    options.say(`bringing up a deployment of its own, with ${broker}`);
    await up(home, { broker, steps, signal: options.signal });
    const rows: Row[] = [];
    for (const kind of KINDS[broker]) rows.push(...(await measureKind(kind, readState(home), producer, options)));
    return rows;
  } finally {
    guard.kill("SIGKILL");
    await producer.stop();
    await down(home, steps);
    rmSync(home, { recursive: true, force: true });
  }
}

interface Context {
  readonly ports: { readonly valkey: number; readonly emulator: number };
  readonly deployment: NonNullable<LaptopState["deployment"]>;
  readonly broker: BrokerSettings;
  readonly producer: Child;
  readonly packed: boolean;
  readonly signal: AbortSignal;
}

async function measureKind(
  { packed, name, records }: Kind,
  state: LaptopState,
  producer: Child,
  { quick, signal, say }: BenchmarkOptions,
): Promise<Row[]> {
  const ports = state.ports as Context["ports"];
  const deployment = state.deployment!;
  const broker = laptopBroker(ports.emulator, deployment);
  const context: Context = { ports, deployment, broker, producer, packed, signal };
  // Labels part the events of one deployment.
  const kind = `${broker.kind}-${name}`;
  const rounds = quick ? 1 : 3;
  const events = (quick ? 2 : 10) * TARGETS[name];
  const perSecond: number[] = [];
  const alone: number[] = [];
  const p50Ms: number[] = [];
  const p99Ms: number[] = [];
  const easyP99Ms: number[] = [];
  await pass(context, { events: 2_000, rate: null, label: `${kind}-warm` });
  for (let round = 1; round <= rounds; round++) {
    const full = await pass(context, { events, rate: null, label: `${kind}-full-${round}` });
    perSecond.push((events * 1000) / (full.lastVisibleMs - full.startedMs));
    const paced = await pass(context, { events, rate: TARGETS[name], label: `${kind}-paced-${round}` });
    p50Ms.push(percentile(paced.freshnessMs, 50));
    p99Ms.push(percentile(paced.freshnessMs, 99));
    const easyRate = TARGETS[name] * EASY_SHARE;
    const easy = await pass(context, { events: events * EASY_SHARE, rate: easyRate, label: `${kind}-easy-${round}` });
    easyP99Ms.push(percentile(easy.freshnessMs, 99));
    alone.push(await brokerAlone(context, events, `${kind}-alone-${round}`));
    say(
      `${kind} ${round}/${rounds}: ${perSecond[round - 1].toFixed(0)} events/s, p99 ${p99Ms[round - 1].toFixed(0)} ms`,
    );
  }
  return [
    {
      what: `${records}: events/s, producer to servable`,
      unit: "events/s",
      rounds: perSecond,
      target: { atLeast: TARGETS[name] },
      baselines: [{ name: "broker alone: put and read back", rounds: alone }],
      note:
        `${events.toLocaleString("en-US")} events as fast as the broker acknowledges, from the first one sent to the last one visible; ` +
        "every event is found applied exactly once in the archive. The broker alone: the same records into a stream without a function, read back by a loop that does nothing with them.",
    },
    {
      what: `${records}: freshness p50 at ${TARGETS[name].toLocaleString("en-US")} events/s`,
      unit: "ms",
      rounds: p50Ms,
    },
    {
      what: `${records}: freshness p99 at ${TARGETS[name].toLocaleString("en-US")} events/s`,
      unit: "ms",
      rounds: p99Ms,
      target: { atMost: FRESHNESS_TARGET_MS },
      note:
        "From the producer's clock right before it sends to the store's clock at the apply, for every event. The emulator's mapping takes shards one after the other, " +
        "so this rate keeps it nearly as busy as it can be (the row with events/s): what is measured is mostly a queue.",
    },
    {
      what: `${records}: freshness p99 at ${(TARGETS[name] * EASY_SHARE).toLocaleString("en-US")} events/s`,
      unit: "ms",
      rounds: easyP99Ms,
      note: "The same at half the rate.",
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
  const { ports, deployment, broker, producer, packed, signal } = context;
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
      broker,
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
  { ports, broker, producer, packed, signal }: Context,
  events: number,
  label: string,
): Promise<number> {
  const order = { broker, packed, events, rate: null, label };
  let startedMs = 0;
  const produce = async (stream: string): Promise<void> => {
    ({ startedMs } = await producer.ask<ProduceResult>({ ...order, stream } satisfies ProduceOrder));
  };
  const endedMs =
    broker.kind === "kafka"
      ? await drainTopic(broker, events, produce, signal)
      : await withUnmappedStream(ports.emulator, async (stream) => {
          const [ended] = await Promise.all([drainUnmapped(ports.emulator, stream, events, signal), produce(stream)]);
          return ended;
        });
  return (events * 1000) / (endedMs - startedMs);
}
