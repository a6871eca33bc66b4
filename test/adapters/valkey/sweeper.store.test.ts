/** Silent entities on a real Valkey: a sweep does for them what the next event does for a busy one. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { hash64 } from "../../../adapters/hash.ts";
import type { OnlineReader } from "../../../adapters/online-store/online-store.ts";
import { bucketOf, entityKey } from "../../../adapters/valkey/layout.ts";
import { createReader } from "../../../adapters/valkey/reader.ts";
import { RecordPacker } from "../../../adapters/valkey/record.ts";
import { sweep } from "../../../adapters/valkey/sweeper.ts";
import { compileGroups, identityText } from "../../../core/event.ts";
import { EntityTiles } from "../../../core/tiles/tiles.ts";
import { plan } from "../../support/fixture-plan.ts";
import { openStore, type TestStore } from "../../support/store.ts";
import { startValkey, type TestValkey } from "../../support/valkey.ts";

const MINUTE = 60_000;
const DAY = 1_440 * MINUTE;
const START = Date.UTC(2026, 0, 5, 22, 17);
const FIRST_SEAL = START - DAY;
let valkey: TestValkey;
let store: TestStore;
let reader: OnlineReader;
beforeAll(async () => {
  valkey = await startValkey();
});
afterAll(async () => {
  await valkey?.stop();
});
beforeEach(async () => {
  store = await openStore(plan, valkey, FIRST_SEAL);
  reader = createReader(plan, { ...valkey, timeoutMs: 5_000 });
  return async () => {
    await store.connection.demand([{ key: "x", name: "FLUSHALL", args: [] }]);
    await reader.close();
    await store.connection.close();
  };
});

const packer = new RecordPacker(plan, "payments");
const readers = compileGroups(plan, "payments", hash64);

interface Entity {
  readonly tenant: string;
  readonly entity: string;
  readonly id: string;
  readonly model: EntityTiles;
}

/** Ten cards and four shops of two tenants, each with events over a day and a half; with a model of each. */
async function fill(): Promise<Entity[]> {
  const entities = new Map<string, Entity>();
  for (const tenant of ["acme", "bolt"]) {
    const events = Array.from({ length: 120 }, (_, n) => ({
      tenant,
      id: `e${n}`,
      at: START + ((n * 7_919) % 2_000) * MINUTE,
      card: `c${n % 5}`,
      shop: n % 7 === 0 ? null : `s${n % 2}`,
      amount: n % 11 === 0 ? null : n - 60.25,
      country: n % 3 === 0 ? "NO" : "SE",
      online: n % 2 === 0,
    }));
    const { fates } = await store.applier.apply(events.map((e) => packer.prepare(tenant, e.id, e.at, e)));
    expect(fates.flat().every(({ fate }) => fate === "applied")).toBe(true);
    for (const fields of events) {
      for (const { group, joinKey, channels } of readers) {
        const id = fields[joinKey as "card" | "shop"];
        if (id === null) continue;
        const key = `${tenant}/${group.entity}/${id}`;
        const known = entities.get(key);
        const model = known?.model ?? new EntityTiles(group, FIRST_SEAL);
        if (!known) entities.set(key, { tenant, entity: group.entity, id, model });
        const identity = hash64(identityText(tenant, "payments", fields.at, fields.id));
        model.apply({ identity, timeMs: fields.at, contributions: channels.map((c) => c(fields)) }, FIRST_SEAL, START);
      }
    }
  }
  return [...entities.values()];
}

async function expectModel(entities: readonly Entity[], t: number): Promise<void> {
  for (const { tenant, entity, id, model } of entities) {
    const view = plan.views.find((candidate) => candidate.entity === entity)!;
    const features = view.features.map(({ name }) => name);
    const [{ values }] = await reader.read([{ tenant, entity, id, features }], t);
    const expected = view.features.map((feature) => ({ name: feature.name, ...model.read(view, feature, t) }));
    expect(values.map((value, i) => ({ name: features[i], ...value }))).toEqual(expected);
  }
}
const run = () => sweep(store.connection, store.applier, plan, Number.POSITIVE_INFINITY);
async function fieldsOf({ tenant, entity, id }: Entity): Promise<string[]> {
  const key = entityKey(bucketOf(tenant, entity, id), tenant, entity, "payments", id);
  const [names] = await store.connection.demand([{ key, name: "HKEYS", args: [key] }]);
  return (names as Buffer[]).map((name) => name.toString("latin1"));
}

describe("a sweep", () => {
  it("folds, sweeps and prunes every silent entity, and what is read stays the same", async () => {
    const entities = await fill();
    expect(entities).toHaveLength(14);
    for (const sealMs of [
      START + 90 * MINUTE,
      START + DAY + 7 * MINUTE,
      START + 4 * DAY + 33 * MINUTE,
      START + 9 * DAY,
    ]) {
      await store.seal(sealMs);
      expect(await run()).toMatchObject({ scanned: 14, complete: true });
      for (const { model } of entities) model.fold(sealMs);
      for (const t of [sealMs + 13 * MINUTE, sealMs + DAY]) await expectModel(entities, t);
      for (const entity of entities) {
        const ids = (await fieldsOf(entity)).filter((name) => name.startsWith("i"));
        const open = ids.map((name) => Buffer.from(name, "latin1").readUInt32BE(1) * MINUTE);
        expect(open.filter((startMs) => startMs < sealMs)).toEqual([]);
      }
    }
  });

  it("leaves of a lifetime only what stays for ever, and then finds nothing more to do", async () => {
    const entities = await fill();
    for (let day = 1; day <= 13; day++) {
      await store.seal(START + day * DAY);
      await run();
    }
    for (const entity of entities) {
      const left = (await fieldsOf(entity)).filter((name) => name !== "m");
      if (entity.entity === "shop") expect(left).toEqual([]);
      else expect(left.every((name) => name.startsWith("A"))).toBe(true);
    }
    await store.seal(START + 40 * DAY);
    expect(await run()).toEqual({ scanned: 14, touched: 0, complete: true });
    for (const entity of entities) entity.model.fold(START + 40 * DAY);
    await expectModel(entities, START + 41 * DAY);
  });

  it("touches nobody twice for one seal", async () => {
    await fill();
    await store.seal(START + 3 * DAY);
    expect((await run()).touched).toBe(14);
    expect((await run()).touched).toBe(0);
  });

  it("ends at its deadline and says so", async () => {
    await fill();
    await store.seal(START + 3 * DAY);
    let clock = 0;
    const report = await sweep(store.connection, store.applier, plan, 0, () => clock++);
    expect(report.complete).toBe(false);
    expect(report.scanned).toBeLessThanOrEqual(14);
    expect((await run()).complete).toBe(true);
  });

  it("passes by what is not the store's own", async () => {
    await store.connection.demand([
      { key: "freshet:stats:payments", name: "HSET", args: ["freshet:stats:payments", "in", 1] },
      { key: "{1}odd", name: "HSET", args: ["{1}odd", "m", "x"] },
      { key: "{1}4:acme5:robot8:payments1:r", name: "HSET", args: ["{1}4:acme5:robot8:payments1:r", "m", "x"] },
    ]);
    expect(await run()).toEqual({ scanned: 0, touched: 0, complete: true });
  });

  it("of a year's silence costs a touch no more than a day's", async () => {
    const [entity] = await fill();
    await store.seal(START + 3 * DAY);
    await run();
    const commands = async () => {
      const [info] = await store.connection.demand([{ key: "x", name: "INFO", args: ["commandstats"] }]);
      return Number(/cmdstat_hmget:calls=(\d+)/.exec(String(info))![1]);
    };
    const year = START + 400 * DAY;
    await store.seal(year);
    const before = await commands();
    const event = {
      tenant: entity.tenant,
      id: "back",
      at: year + MINUTE,
      card: "c0",
      shop: "s0",
      amount: 1,
      country: "NO",
    };
    await store.applier.apply([packer.prepare(entity.tenant, "back", event.at, event)]);
    expect((await commands()) - before).toBeLessThan(60);
    const features = ["everything:n_lifetime", "everything:n_7d"];
    const [{ values }] = await reader.read(
      [{ tenant: entity.tenant, entity: "card", id: "c0", features }],
      year + MINUTE,
    );
    expect(values.map(({ value }) => value)).toEqual([25, 1]);
  });
});
