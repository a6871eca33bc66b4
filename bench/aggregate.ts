/**
 * Rows "aggregate" of DESIGN §13: the aggregate function's own code from Avro bytes to acknowledged applies, against what one
 * would write by hand. Each event touches 3 entities; each has 5 linear aggregates over 5m, 1h and 24h.
 */
import { encodeArchive } from "../adapters/archive/archive-format.ts";
import { EventCodec } from "../adapters/avro/event-codec.ts";
import { type PreparedEvent, RecordPacker } from "../adapters/valkey/record.ts";
import { Watermark } from "../adapters/valkey/watermark.ts";
import { checkEvent } from "../core/event.ts";
import {
  type AggregationPorts,
  aggregateBatch,
  type StreamRecord,
} from "../functions/shared/aggregation/aggregation.ts";
import { openStore, type TestStore } from "../test/support/store.ts";
import { startValkey } from "../test/support/valkey.ts";
import type { Benchmark, BenchmarkOptions, Row } from "./benchmark.ts";
import { applyByHand, callEmptyFunction, loadEmptyFunction } from "./by-hand.ts";
import { aggregatePlan } from "./definitions.ts";
import { ownCpuUs, storeUsage } from "./meters.ts";
import { type Floor, floorLibrary, touchWithoutFunction } from "./store-floor.ts";
import { encodedTransactions } from "./workload.ts";

const SHARD = "shardId-000000000000";
/** Event time that one round's events cover: 200,000 of them are 1,667 a second. */
const SPAN_MS = 120_000;
/** Events of a batch: what packed records bring, and what a poll finds on a quiet shard. */
const LARGE = 8_000;
const SMALL = 1_000;

interface Measured {
  readonly perSecond: number;
  readonly clientUs: number;
  readonly storeUs: number;
  readonly mainThreadUs: number;
  /** Of the client's: encoding and compressing the archive's objects. */
  readonly archiveUs: number;
}

export const benchmark: Benchmark = {
  title: "Aggregate: 3 entities × 5 linear aggregates an event over 5m, 1h, 24h, exactly once",
  async run(options) {
    const memory = await measureStore(options, false);
    const durable = await measureStore(options, true);
    return rows(memory, durable);
  },
};

const VARIANTS = ["freshet", "small", "archived", "byHand", "empty", "ignored", "touched", "commands"] as const;
/** Those that make sense with the append-only file too. */
const DURABLE: readonly (typeof VARIANTS)[number][] = ["freshet", "byHand", "empty"];
type Rounds = Record<(typeof VARIANTS)[number], Measured[]>;

interface Variant {
  readonly name: keyof Rounds;
  /** @default the plan's own library */
  readonly library?: string;
  work(store: TestStore): Promise<void>;
}

/** @param appendonly whether the server logs every write to its file, as the laptop's does */
async function measureStore(options: BenchmarkOptions, appendonly: boolean): Promise<Rounds> {
  const { quick, signal, say } = options;
  const rounds = quick ? 2 : 5;
  const events = quick ? 20_000 : 200_000;
  const kept = Object.fromEntries(VARIANTS.map((name) => [name, [] as Measured[]])) as Rounds;
  const valkey = await startValkey({ appendonly });
  try {
    // Round 0 warms compilers and the server's allocator and is not kept.
    for (let round = 0; round <= rounds; round++) {
      signal.throwIfAborted();
      const nowMs = Date.now();
      const records = asRecords(
        encodedTransactions(round + 1, round === 0 ? events / 5 : events, nowMs, SPAN_MS),
        nowMs,
      );
      for (const variant of variantsOf(records)) {
        if (appendonly && !DURABLE.includes(variant.name)) continue;
        const measured = await measure(valkey, nowMs - 2 * SPAN_MS, records.length, variant);
        if (round > 0) kept[variant.name].push(measured);
      }
      const last = kept.freshet.at(-1);
      if (last) say(`round ${round}/${rounds}: ${last.clientUs.toFixed(1)} + ${last.storeUs.toFixed(1)} µs an event`);
    }
    return kept;
  } finally {
    await valkey.stop();
  }
}

function variantsOf(records: readonly StreamRecord[]): Variant[] {
  const large = { batch: LARGE, archive: false };
  const bytes = records.map((record) => record.bytes);
  const reduced = (floor: Floor) => ({
    library: floorLibrary(floor),
    work: (store: TestStore) => applyAll(store, records, large),
  });
  return [
    { name: "freshet", work: (store) => applyAll(store, records, large) },
    { name: "small", work: (store) => applyAll(store, records, { ...large, batch: SMALL }) },
    { name: "archived", work: (store) => applyAll(store, records, { ...large, archive: true }) },
    { name: "byHand", work: (store) => applyByHand(store.connection, bytes) },
    { name: "empty", work: (store) => callEmptyFunction(store.connection, records.length) },
    { name: "ignored", ...reduced("ignore") },
    { name: "touched", ...reduced("touch") },
    { name: "commands", work: (store) => touchWithoutFunction(store.connection, prepareAll(records), LARGE) },
  ];
}

/** One variant over one round's events, on an empty store. */
async function measure(
  at: { host: string; port: number },
  sealMs: number,
  events: number,
  { library, work }: Variant,
): Promise<Measured> {
  const connection = new (await import("../adapters/valkey/connection.ts")).ValkeyConnection(at);
  const [node] = await connection.primaries();
  await node.flushall("SYNC");
  await node.call("FUNCTION", "FLUSH");
  const store = await openStore(aggregatePlan, at, sealMs);
  if (library === undefined) await store.applier.loadFunction();
  else await node.call("FUNCTION", "LOAD", library);
  await loadEmptyFunction(store.connection);
  await node.info("server");
  const before = await storeUsage(node);
  const cpu = ownCpuUs();
  archiveCpuUs = 0;
  const startedAt = performance.now();
  await work(store);
  const seconds = (performance.now() - startedAt) / 1000;
  const clientUs = (ownCpuUs() - cpu) / events;
  const after = await storeUsage(node);
  await store.connection.close();
  await connection.close();
  return {
    perSecond: events / seconds,
    clientUs,
    storeUs: (after.cpuUs - before.cpuUs) / events,
    mainThreadUs: (after.mainThreadUs - before.mainThreadUs) / events,
    archiveUs: archiveCpuUs / events,
  };
}

const asRecords = (bytes: readonly Buffer[], nowMs: number): StreamRecord[] =>
  bytes.map((each, i) => ({ sequence: String(i).padStart(12, "0"), arrivalMs: nowMs, bytes: each }));

async function applyAll(
  store: TestStore,
  records: readonly StreamRecord[],
  { batch, archive }: { batch: number; archive: boolean },
): Promise<void> {
  const [stream] = aggregatePlan.streams;
  const unexpected = (what: string) => async (): Promise<never> => {
    throw new Error(`no event of this workload is ${what}`);
  };
  const ports: AggregationPorts = {
    plan: aggregatePlan,
    stream,
    codec: EventCodec.for(stream.contract),
    packer: packer(),
    applier: store.applier,
    watermark: new Watermark(store.connection),
    archive: {
      write: async (rows) => {
        if (!archive) return [];
        // By its own clock, since it is less than two runs differ by. Nothing else runs in this process meanwhile.
        const before = ownCpuUs();
        encodeArchive(rows);
        archiveCpuUs += ownCpuUs() - before;
        return [];
      },
    },
    quarantine: { write: unexpected("quarantined") },
    late: { put: unexpected("late") },
  };
  let applied = 0;
  for (let from = 0; from < records.length; from += batch) {
    applied += (await aggregateBatch(ports, SHARD, records.slice(from, from + batch))).applied;
  }
  if (applied !== records.length) throw new Error(`${applied} of ${records.length} events were applied`);
}

let archiveCpuUs = 0;

function prepareAll(records: readonly StreamRecord[]): PreparedEvent[] {
  const [stream] = aggregatePlan.streams;
  const codec = EventCodec.for(stream.contract);
  return records.map(({ bytes, arrivalMs }) => {
    const { fields } = codec.decode(bytes);
    const { tenant, eventId, eventTimeMs } = checkEvent(stream, fields, arrivalMs);
    return packer().prepare(tenant, eventId, eventTimeMs, fields);
  });
}

let kept: RecordPacker | undefined;
/** One for all rounds, as a function's instance keeps one. */
const packer = (): RecordPacker => (kept ??= new RecordPacker(aggregatePlan, "transactions"));

function rows(memory: Rounds, durable: Rounds): Row[] {
  const of = (measured: readonly Measured[], pick: (one: Measured) => number): number[] => measured.map(pick);
  const perCore = ({ mainThreadUs }: Measured): number => 1e6 / mainThreadUs;
  const beside = ({ byHand, empty }: Rounds, pick: (one: Measured) => number) => [
    { name: "by hand, not idempotent", rounds: of(byHand, pick) },
    { name: "empty function call", rounds: of(empty, pick) },
  ];
  const total = ({ clientUs, storeUs }: Measured): number => clientUs + storeUs;
  return [
    {
      what: "events/s that one Valkey core takes",
      unit: "events/s",
      rounds: of(memory.freshet, perCore),
      target: { atLeast: 40_000 },
      baselines: beside(memory, perCore),
      note: "1 s by the CPU of Valkey's command thread per event. By hand: 18 pipelined HINCRBY an event (count and sum, 3 window sizes, 3 entities), without min and max, ids, expiry or removal of old buckets. The empty function is called once an event.",
    },
    {
      what: "CPU of Valkey per event",
      unit: "µs",
      rounds: of(memory.freshet, ({ storeUs }) => storeUs),
      target: { atMost: 25 },
      baselines: [
        ...beside(memory, ({ storeUs }) => storeUs),
        { name: "the same calls, nothing done", rounds: of(memory.ignored, ({ storeUs }) => storeUs) },
        {
          name: "the same reads and writes in them, nothing folded",
          rounds: of(memory.touched, ({ storeUs }) => storeUs),
        },
        { name: "the same reads and writes as commands", rounds: of(memory.commands, ({ storeUs }) => storeUs) },
      ],
      note: "Less work with the same arguments: what a call and its arguments cost, what one HMGET and one HSET for each entity of a batch cost in it, and outside of it. Folding, checking identities and ends of keys are the rest.",
    },
    {
      what: "CPU of the function per event, Avro in to acknowledged",
      unit: "µs",
      rounds: of(memory.freshet, ({ clientUs }) => clientUs),
      target: { atMost: 14 },
      baselines: beside(memory, ({ clientUs }) => clientUs),
      note: "aggregateBatch in batches of 8,000: decode, check, prepare, register, apply, read fates, make archive rows; without encoding and writing the archive. All threads of the process, garbage collection included.",
    },
    {
      what: "both",
      unit: "µs",
      rounds: of(memory.freshet, total),
      target: { atMost: 39 },
      baselines: beside(memory, total),
    },
    {
      what: "both, batches of 1,000",
      unit: "µs",
      rounds: of(memory.small, total),
      baselines: beside(memory, total),
    },
    {
      what: "both, append-only file on (every second)",
      unit: "µs",
      rounds: of(durable.freshet, total),
      baselines: beside(durable, total),
    },
    {
      what: "events/s through one client and one store",
      unit: "events/s",
      rounds: of(memory.freshet, ({ perSecond }) => perSecond),
      baselines: beside(memory, ({ perSecond }) => perSecond),
      note: "Wall clock, one batch at a time: client and store wait for each other.",
    },
    {
      what: "archive: its share of the CPU of function and Valkey",
      unit: "%",
      rounds: memory.archived.map((one, i) => (100 * one.archiveUs) / total(memory.freshet[i])),
      target: { atMost: 10 },
      note: "Rows encoded (NDJSON, zstd) and not sent, against the row *both*: what the archive adds besides one S3 call an invocation.",
    },
    {
      what: "archive: encoding, CPU per event",
      unit: "µs",
      rounds: of(memory.archived, ({ archiveUs }) => archiveUs),
      baselines: [{ name: "the rest of the function", rounds: of(memory.freshet, ({ clientUs }) => clientUs) }],
    },
  ];
}
