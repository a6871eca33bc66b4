/** Entities that have fallen far behind the seal, or whose seal has not moved for weeks: their reads, and what a fold costs then. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hash64 } from "../../../adapters/hash.ts";
import type { OnlineReader } from "../../../adapters/online-store/online-store.ts";
import { decodeMeta, entityKey, META_FIELD } from "../../../adapters/valkey/layout.ts";
import { createReader } from "../../../adapters/valkey/reader.ts";
import { RecordPacker } from "../../../adapters/valkey/record.ts";
import { compileGroups, identityText } from "../../../core/event.ts";
import type { Plan } from "../../../core/plan.ts";
import { EntityTiles } from "../../../core/tiles/tiles.ts";
import { plan } from "../../support/fixture-plan.ts";
import { GROUP_PLANS } from "../../support/group-plans.ts";
import { expectModel } from "../../support/model-build.ts";
import { allBorn, OneEntity, type RawEvent } from "../../support/one-entity.ts";
import { openStore, type TestStore } from "../../support/store.ts";
import { startValkey, type TestValkey } from "../../support/valkey.ts";

const DAY_MS = 86_400_000;
const T = Date.UTC(2026, 5, 1, 12);
let valkey: TestValkey;
let store: TestStore;
let reader: OnlineReader;

beforeAll(async () => {
  valkey = await startValkey();
  store = await openStore(plan, valkey, T - 20 * DAY_MS);
  reader = createReader(plan, { host: valkey.host, port: valkey.port, timeoutMs: 5_000 });
});
afterAll(async () => {
  await reader?.close();
  await store?.connection.close();
  await valkey?.stop();
});

it("a seal that has stood for twenty days: the hash is read whole, and every window is right", async () => {
  const packer = new RecordPacker(plan, "payments");
  const times = [T - 19 * DAY_MS, T - 6 * DAY_MS, T - 20 * 3_600_000, T - 50 * 60_000, T - 2 * 60_000];
  const events = times.map((at, i) =>
    packer.prepare("default", `e${i}`, at, {
      id: `e${i}`,
      at,
      card: "c1",
      shop: `s${i}`,
      amount: i + 0.5,
      country: "NO",
    }),
  );
  await store.applier.apply(events);
  const features = ["n_5m", "n_1h", "n_24h", "n_7d", "n_lifetime", "total_lifetime", "shops_24h", "last_country"];
  const names = features.map((name) => `everything:${name}`);
  const [answer] = await reader.read([{ tenant: "default", entity: "card", id: "c1", features: names }], T);
  expect(answer.values.map(({ value }) => value)).toEqual([1, 2, 3, 4, 5, 12.5, 3, "NO"]);
  const [unknown] = await reader.read([{ tenant: "default", entity: "card", id: "c2", features: names }], T);
  expect(new Set(unknown.values.map(({ status }) => status))).toEqual(new Set(["NOT_FOUND"]));
});

describe("a fold after a seal that stood for sixty days", () => {
  const MINUTE = 60_000;
  const SEALED = T - 60 * DAY_MS;

  /** A card with events, sealed before them; its model, which is read at once as it stands. */
  async function lagging(groupPlan: Plan, name: string, times: readonly number[]) {
    const [{ group, channels }] = compileGroups(groupPlan, "payments", hash64);
    const one = new OneEntity(store.connection, valkey, name);
    const model = new EntityTiles(group, SEALED);
    const writer = one.writer(groupPlan);
    const seal = (sealMs: number) => one.control([{ group, sealMs, births: allBorn(group) }]);
    const apply = async (events: readonly RawEvent[]) => {
      await writer.apply(events);
      for (const { id, timeMs, fields } of events) {
        const identity = hash64(identityText(name, "payments", timeMs, id));
        const contributions = channels.map((channel) => channel({ ...fields, card: "c", id, at: timeMs }));
        model.apply({ identity, timeMs, contributions }, SEALED, 1);
      }
    };
    await seal(SEALED);
    await apply(
      times.map((timeMs, i) => ({
        id: `e${i}`,
        timeMs,
        fields: { shop: `s${i % 7}`, amount: i + 0.25, country: i % 2 ? "NO" : "SE", online: true },
      })),
    );
    const expectServed = async () => {
      for (const t of [T, T + 3 * DAY_MS]) await expectModel(one, groupPlan, model, t);
    };
    const folded = async () => decodeMeta((await one.dump()).get(META_FIELD.toString("hex"))!).folded * group.baseMs;
    return { one, writer, seal, folded, expectServed };
  }

  it.each(Object.entries(GROUP_PLANS).filter(([, { groups }]) => groups[0].baseMs <= MINUTE))(
    "looks at the few tiles that are there: %s",
    async (name, groupPlan) => {
      // More tiles above the seal than the meta field remembers: it does not say where the older ones end.
      const recent = Array.from({ length: 10 }, (_, i) => T - i * MINUTE);
      const times = [60, 59.99, 41, 20, 19.5, 1.2, 0.4].map((days) => T - days * DAY_MS + MINUTE);
      const tenant = `gap${name.replaceAll(/[^a-z]/g, "")}`.slice(-50);
      const { writer, seal, folded, expectServed } = await lagging(groupPlan, tenant, [...times, ...recent]);
      await seal(T - 15 * MINUTE);
      const [node] = await store.connection.primaries();
      await node.config("RESETSTAT");
      await writer.touch();
      const calls = [...(await node.info("commandstats")).matchAll(/calls=(\d+)/g)].map(([, n]) => Number(n));
      // Naming each base tile of the gap would be 432 calls and more for each level.
      expect(calls.reduce((sum, n) => sum + n, 0)).toBeLessThan(150);
      expect(await folded()).toBe(T - 15 * MINUTE);
      await expectServed();
    },
  );

  it("goes on with the next touch where there are too many tiles for one call", async () => {
    const busy = GROUP_PLANS["hops of 5 and 6 minutes beside a lifetime"];
    const times = Array.from({ length: 5_000 }, (_, i) => SEALED + i * 11 * MINUTE);
    const { writer, seal, folded, expectServed } = await lagging(busy, "busygap", times);
    await seal(T - 15 * MINUTE);
    const reached: number[] = [];
    do {
      await writer.touch();
      reached.push(await folded());
      await expectServed();
    } while (reached[reached.length - 1] < T - 15 * MINUTE && reached.length < 20);
    // 2,000 fields a call, of which this group has two to a tile: cells and one object.
    const steps = [1_000, 2_000, 3_000, 4_000].map((tiles) => SEALED + tiles * 11 * MINUTE);
    expect(reached.slice(0, -1)).toEqual(steps.slice(0, reached.length - 1));
    expect(reached[reached.length - 1]).toBe(T - 15 * MINUTE);
    expect(reached.length).toBeGreaterThan(2);
  });

  it("folds no more keys in a call than it may walk: the others wait for their next touch", async () => {
    const busy = GROUP_PLANS["hops of 5 and 6 minutes beside a lifetime"];
    const times = Array.from({ length: 4_000 }, (_, i) => SEALED + i * 15 * MINUTE);
    const lag = await lagging(busy, "manykeys", times);
    await lag.seal(T - 15 * MINUTE);
    // Further hashes of the same bucket, with the same tiles.
    const keys = ["x", "y", "z"].map((id) => entityKey(lag.one.bucket, "manykeys", "card", "payments", id));
    const fields = [...(await lag.one.dump())].flatMap(([field, bytes]) => [Buffer.from(field, "hex"), bytes]);
    for (const key of keys) {
      await store.connection.demand([{ key: lag.one.key, name: "HSET", args: [key, ...fields] }]);
    }
    const foldedOf = async (key: string) => {
      const [meta] = await store.connection.demand([{ key, name: "HGET", args: [key, META_FIELD] }]);
      return decodeMeta(meta as Buffer).folded * MINUTE;
    };
    const touch = () =>
      lag.writer.applier.touch(
        lag.one.bucket,
        keys.map((key) => ({ key, groupId: busy.groups[0].id })),
      );
    await touch();
    // 4,000 tiles, their identities and objects each.
    expect(await Promise.all(keys.map(foldedOf))).toEqual([SEALED + 15_000 * MINUTE, SEALED, SEALED]);
    for (let touches = 1; (await foldedOf(keys[2])) < T - 15 * MINUTE; touches++) {
      expect(touches).toBeLessThan(20);
      await touch();
    }
    expect(await Promise.all(keys.map(foldedOf))).toEqual(Array(3).fill(T - 15 * MINUTE));
    expect(await lag.folded()).toBe(SEALED);
  });
});
