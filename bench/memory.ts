/** Row "memory" of DESIGN §13: what an active entity takes in Valkey, tiles and identities apart. */
import { RecordPacker } from "../adapters/valkey/record.ts";
import { floorTo } from "../core/tiles/window.ts";
import { openStore, type TestStore } from "../test/support/store.ts";
import { startValkey } from "../test/support/valkey.ts";
import type { Benchmark } from "./benchmark.ts";
import { cardPlan } from "./definitions.ts";
import { settledMemory } from "./meters.ts";
import { seededRandom, transaction } from "./workload.ts";

const HOUR_MS = 3_600_000;
const TILES = 19;
/** Events of an entity in open tiles, for the identities' share. */
const OPEN_EVENTS = 10;
/** The seal lies this far behind the newest event. */
const OPEN_MS = 11 * 60_000;

export const benchmark: Benchmark = {
  title: "Memory: one entity of one stream, 5 aggregates (count, sum, mean, min, max)",
  async run({ quick, signal, say }) {
    const entities = quick ? 5_000 : 50_000;
    const valkey = await startValkey();
    try {
      // In the middle of an hour, so that the count of tiles does not depend on when this runs.
      const nowMs = floorTo(Date.now(), HOUR_MS) + HOUR_MS / 2;
      const store = await openStore(cardPlan, valkey, floorTo(nowMs - (TILES + 2) * HOUR_MS, HOUR_MS));
      const [node] = await store.connection.primaries();
      await warm(store, nowMs);
      const before = await settledMemory(node);

      // One event in each of the last hours; folded, each hour is one tile (and the last a finer one as well).
      for (let tile = TILES; tile >= 1; tile--) {
        signal.throwIfAborted();
        const timeMs = floorTo(nowMs, HOUR_MS) - tile * HOUR_MS + 10 * 60_000;
        await store.seal(floorTo(timeMs, HOUR_MS));
        await applyOneEach(store, entities, `h${tile}`, timeMs);
      }
      await store.seal(floorTo(nowMs - OPEN_MS, 60_000));
      await touchAll(store);
      const tilesOnly = await settledMemory(node);
      const tiles = await fieldsPerEntity(store, (field) => field.length === 5 && field[0] < 64);
      const idsLeft = await fieldsPerEntity(store, (field) => field[0] === 0x69);
      if (idsLeft !== 0) throw new Error(`${idsLeft} fields of identities are left after the sweep`);

      // The same events as a second step would bring them: open tiles and their identities.
      const openTiles = Math.ceil(OPEN_MS / 60_000) - 1;
      for (let event = 0; event < OPEN_EVENTS; event++) {
        signal.throwIfAborted();
        const timeMs = floorTo(nowMs, 60_000) - (event % openTiles) * 60_000;
        await applyOneEach(store, entities, `o${event}`, timeMs);
      }
      const withOpen = await settledMemory(node);
      const usage = await memoryUsage(store);
      await node.ping();
      const perEntity = (tilesOnly - before) / entities;
      say(`${tiles} tiles an entity, ${perEntity.toFixed(0)} bytes`);
      return [
        {
          what: `bytes an entity with ${tiles} tiles, key included, ids apart`,
          unit: "bytes",
          rounds: [perEntity],
          target: { atMost: 1_400 },
          baselines: [
            { name: "the same numbers in hash fields by hand", rounds: [await byHand(store, tiles, entities)] },
          ],
          note: `Difference of used_memory over ${entities.toLocaleString("en-US")} entities of tenant default, after the sweep. By hand: a hash with fields such as 3600000:489123:sum, 4 for each bucket.`,
        },
        {
          what: `bytes more for ${OPEN_EVENTS} events in as many open tiles, tiles and ids`,
          unit: "bytes",
          rounds: [(withOpen - tilesOnly) / entities],
        },
        {
          what: "bytes by MEMORY USAGE of such an entity, open tiles and ids included",
          unit: "bytes",
          rounds: [usage],
        },
      ];
    } finally {
      await valkey.stop();
    }
  },
};

const packer = new RecordPacker(cardPlan, "transactions");

async function applyOneEach(store: TestStore, entities: number, label: string, timeMs: number): Promise<void> {
  const random = seededRandom(timeMs);
  for (let from = 0; from < entities; from += 1_000) {
    const events = Array.from({ length: Math.min(1_000, entities - from) }, (_, i) => {
      const cardId = `card_${String(from + i).padStart(8, "0")}`;
      const id = `tx-${label}-${from + i}`;
      return packer.prepare("default", id, timeMs, { ...transaction(random, id, timeMs), card_id: cardId } as any);
    });
    await store.applier.apply(events);
  }
}

/** Loads the function and fills the server's own tables. */
async function warm(store: TestStore, nowMs: number): Promise<void> {
  const fields = { ...transaction(seededRandom(1), "warm", nowMs), card_id: "warm" };
  await store.applier.apply([packer.prepare("default", "warm", nowMs, fields as any)]);
}

/** Folds and sweeps every entity, as the sweep function does each hour. */
async function touchAll(store: TestStore): Promise<void> {
  const byBucket = new Map<number, { key: string; groupId: number }[]>();
  for (const key of await entityKeys(store)) {
    const bucket = Number(/^\{(\d+)\}/.exec(key)![1]);
    const list = byBucket.get(bucket) ?? [];
    byBucket.set(bucket, list);
    list.push({ key, groupId: cardPlan.groups[0].id });
  }
  for (const [bucket, keys] of byBucket) await store.applier.touch(bucket, keys);
}

async function entityKeys(store: TestStore): Promise<string[]> {
  const [node] = await store.connection.primaries();
  return (await node.keys("*card*transactions*")).filter((key) => !key.includes("warm"));
}

async function fieldsPerEntity(store: TestStore, wanted: (field: Buffer) => boolean): Promise<number> {
  const [node] = await store.connection.primaries();
  const keys = (await entityKeys(store)).slice(0, 200);
  let total = 0;
  for (const key of keys) total += (await node.hkeysBuffer(key)).filter(wanted).length;
  return total / keys.length;
}

async function memoryUsage(store: TestStore): Promise<number> {
  const [node] = await store.connection.primaries();
  const keys = (await entityKeys(store)).slice(0, 200);
  let total = 0;
  for (const key of keys) total += (await node.memory("USAGE", key))!;
  return total / keys.length;
}

/** Bytes of one entity whose buckets are four fields each. */
async function byHand(store: TestStore, tiles: number, entities: number): Promise<number> {
  const [node] = await store.connection.primaries();
  const before = await settledMemory(node);
  const sample = Math.min(entities, 5_000);
  const random = seededRandom(3);
  for (let entity = 0; entity < sample; entity++) {
    const fields: (string | number)[] = [];
    for (let tile = 0; tile < tiles; tile++) {
      const bucket = `3600000:${489_000 + tile}`;
      fields.push(`${bucket}:n`, 1, `${bucket}:sum`, Math.floor(random() * 20_000));
      fields.push(`${bucket}:min`, (random() * 200).toFixed(2), `${bucket}:max`, (random() * 200).toFixed(2));
    }
    await node.hset(`byhand:default:card:${String(entity).padStart(8, "0")}`, ...fields);
  }
  return ((await settledMemory(node)) - before) / sample;
}
