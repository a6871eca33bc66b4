/** Row "restore" of DESIGN §13: a million entities from snapshot objects in S3 back into an empty store. */
import { BatchRuns } from "../adapters/control-table/batch-runs.ts";
import { BuildProgress } from "../adapters/control-table/build-progress.ts";
import { ControlTable } from "../adapters/control-table/control-table.ts";
import { BulkStore } from "../adapters/snapshot/bulk-store.ts";
import { ValkeyConnection } from "../adapters/valkey/connection.ts";
import { ControlHashes } from "../adapters/valkey/control.ts";
import { bucketOf, entityKey } from "../adapters/valkey/layout.ts";
import { RecordPacker } from "../adapters/valkey/record.ts";
import { EMPTY_LOCK } from "../core/compile/lock.ts";
import { floorTo } from "../core/tiles/window.ts";
import { repeatPushed } from "../functions/shared/materialization/restore-pushed.ts";
import { bulkRound } from "../functions/shared/snapshot/bulk-snapshot.ts";
import { restoreSnapshot } from "../functions/shared/snapshot/restore-snapshot.ts";
import { createBucket, createTable, startEmulator, testClients } from "../test/harness/emulator.ts";
import { openStore, type TestStore } from "../test/support/store.ts";
import { startValkey } from "../test/support/valkey.ts";
import type { Benchmark } from "./benchmark.ts";
import { cardPlan } from "./definitions.ts";
import { seededRandom, transaction } from "./workload.ts";

const HOUR_MS = 3_600_000;
const TILES = 19;
/** Entities whose hashes are made by the store's function; the others are their copies under keys of their own. */
const TEMPLATES = 2_000;
const SAMPLE = 10_000;
const DAY_MS = 24 * HOUR_MS;

export const benchmark: Benchmark = {
  title: "Restore: entities of one stream, 5 aggregates, about 20 tiles each, from S3 objects into an empty store",
  async run({ quick, signal, say }) {
    const entities = quick ? 20_000 : 1_000_000;
    const [valkey, emulator] = await Promise.all([startValkey(), startEmulator()]);
    try {
      await Promise.all([createBucket(emulator.url, "snapshots"), createTable(emulator.url, "control")]);
      const nowMs = floorTo(Date.now(), HOUR_MS) + HOUR_MS / 2;
      const store = await openStore(cardPlan, valkey, floorTo(nowMs - (TILES + 2) * HOUR_MS, HOUR_MS));
      const { s3, dynamodb } = testClients(emulator.url);
      const target = { table: "control", dynamodb };
      const table = new ControlTable(target);
      await table.beginStore(1);
      await table.finishStore(1);
      const progress = new BuildProgress(target);
      const { connection, controls } = store;
      const snapshots = new BulkStore({ bucket: "snapshots", s3 });
      const common = { plan: cardPlan, lock: EMPTY_LOCK, connection, controls, snapshots, clock: Date.now };
      await fill(store, entities, nowMs, signal);
      const sample = await hashesOf(store, entities);
      say(`${entities} entities are there`);

      const startedMs = Date.now();
      const round = await bulkRound({ ...common, progress, keepMs: DAY_MS }, Number.POSITIVE_INFINITY);
      const roundMs = Date.now() - startedMs;
      if (round.outcome !== "complete" || round.entities < entities) throw new Error(`the round is ${round.outcome}`);
      say(`snapshot in ${(roundMs / 1_000).toFixed(0)} s, ${(round.bytes / 2 ** 20).toFixed(0)} MB`);
      const againMs = Date.now();
      await bulkRound({ ...common, progress, keepMs: DAY_MS }, Number.POSITIVE_INFINITY);
      const unchangedMs = Date.now() - againMs;
      signal.throwIfAborted();

      const [node] = await connection.primaries();
      // Asynchronously, or the server stands still for seconds.
      await node.flushall("ASYNC");
      const lostMs = Date.now();
      // As patient as the restore function's.
      const patient = new ValkeyConnection({ host: valkey.host, port: valkey.port, timeoutMs: 15_000 });
      const ports = {
        ...{ ...common, table, connection: patient, progress },
        controls: new ControlHashes(patient, cardPlan),
        loadFunction: () => store.applier.loadFunction(),
        repeatPushed: () => repeatPushed(new BatchRuns(target)),
      };
      const report = await restoreSnapshot(ports, { snapshot: "latest" }, Number.POSITIVE_INFINITY);
      const restoreMs = Date.now() - lostMs;
      await patient.close();
      if (report.state !== "loaded" || report.records < entities) throw new Error(`the restore is ${report.state}`);
      const wrong = await differing(store, sample);
      if (wrong > 0) throw new Error(`${wrong} of ${sample.size} hashes are not what they were`);
      say(`restored in ${(restoreMs / 1_000).toFixed(0)} s, ${sample.size} hashes compared`);
      return [
        {
          what: `restore of ${entities.toLocaleString("en-US")} entities`,
          unit: "ms",
          rounds: [restoreMs],
          ...(quick ? {} : { target: { atMost: 300_000 } }),
          note: `From the call to the last bucket, the emulator's S3 on the same machine; ${sample.size.toLocaleString("en-US")} hashes compared field by field.`,
        },
        { what: "snapshot round that writes all of them", unit: "ms", rounds: [roundMs] },
        { what: "snapshot round when nothing has changed", unit: "ms", rounds: [unchangedMs] },
        { what: "bytes an entity in S3", unit: "bytes", rounds: [round.bytes / entities] },
      ];
    } finally {
      await Promise.all([valkey.stop(), emulator.stop()]);
    }
  },
};

const packer = new RecordPacker(cardPlan, "transactions");
const { entity, stream } = cardPlan.groups[0];
const keyOf = (i: number): string => {
  const id = `card_${String(i).padStart(8, "0")}`;
  return entityKey(bucketOf("default", entity, id), "default", entity, stream, id);
};

/** An event in each of the last hours, folded; then copies. */
async function fill(store: TestStore, entities: number, nowMs: number, signal: AbortSignal): Promise<void> {
  for (let tile = TILES; tile >= 0; tile--) {
    const timeMs = tile === 0 ? nowMs : floorTo(nowMs, HOUR_MS) - tile * HOUR_MS + 10 * 60_000;
    await store.seal(tile === 0 ? floorTo(nowMs - 11 * 60_000, 60_000) : floorTo(timeMs, HOUR_MS));
    const random = seededRandom(timeMs);
    const events = Array.from({ length: Math.min(TEMPLATES, entities) }, (_, i) => {
      const id = `tx-${tile}-${i}`;
      const card_id = `card_${String(i).padStart(8, "0")}`;
      return packer.prepare("default", id, timeMs, { ...transaction(random, id, timeMs), card_id } as never);
    });
    await store.applier.apply(events);
  }
  const [node] = await store.connection.primaries();
  for (let from = TEMPLATES; from < entities; from += 5_000) {
    signal.throwIfAborted();
    const pipeline = node.pipeline();
    for (let i = from; i < Math.min(entities, from + 5_000); i++) pipeline.call("COPY", keyOf(i % TEMPLATES), keyOf(i));
    await pipeline.exec();
  }
}

/** Of a sample, by key. */
async function hashesOf(store: TestStore, entities: number): Promise<Map<string, string>> {
  const step = Math.max(1, Math.floor(entities / SAMPLE));
  const keys = Array.from({ length: Math.floor(entities / step) }, (_, i) => keyOf(i * step));
  const hashes = new Map<string, string>();
  for (let from = 0; from < keys.length; from += 500) {
    const part = keys.slice(from, from + 500);
    const answers = await store.connection.demand(part.map((key) => ({ key, name: "HGETALL", args: [key] })));
    part.forEach((key, i) => {
      const items = answers[i] as Buffer[];
      const fields = Array.from(
        { length: items.length / 2 },
        (_, f) => `${items[2 * f].toString("hex")}=${items[2 * f + 1].toString("hex")}`,
      );
      hashes.set(key, fields.sort().join());
    });
  }
  return hashes;
}

async function differing(store: TestStore, sample: ReadonlyMap<string, string>): Promise<number> {
  let wrong = 0;
  for (const [key, before] of sample) {
    const items = (await store.connection.demand([{ key, name: "HGETALL", args: [key] }]))[0] as Buffer[];
    const fields = Array.from(
      { length: items.length / 2 },
      (_, f) => `${items[2 * f].toString("hex")}=${items[2 * f + 1].toString("hex")}`,
    );
    if (fields.sort().join() !== before) wrong++;
  }
  return wrong;
}
