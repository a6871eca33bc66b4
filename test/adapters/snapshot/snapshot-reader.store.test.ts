/** Snapshots answer as the store would, at the same instant, for what has not changed since; or say that they cannot. */
import { PutItemCommand } from "@aws-sdk/client-dynamodb";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hash64 } from "../../../adapters/hash.ts";
import { createSnapshotReader } from "../../../adapters/snapshot/snapshot-reader.ts";
import { SnapshotTable } from "../../../adapters/snapshot/snapshot-table.ts";
import { bucketOf, PUSHED_REV_FIELD, pushedKey } from "../../../adapters/valkey/layout.ts";
import { pushRows } from "../../../adapters/valkey/push.ts";
import { RecordPacker } from "../../../adapters/valkey/record.ts";
import { compile, EMPTY_LOCK } from "../../../core/compile/compile.ts";
import * as d from "../../../core/definition.ts";
import type { Plan } from "../../../core/plan.ts";
import { snapshotRound } from "../../../functions/shared/snapshot/snapshot-round.ts";
import { startEmulator, type TestEmulator, testClients } from "../../harness/emulator.ts";
import { featureSet } from "../../support/feature-sets.ts";
import { contracts, definitions as everything, payments } from "../../support/fixture-plan.ts";
import { definitions as pushedDefinitions, riskView, rowOf, sizeView } from "../../support/pushed-plan.ts";
import { openSnapshotWorld, type SnapshotWorld } from "../../support/snapshot-world.ts";
import { startValkey, type TestValkey } from "../../support/valkey.ts";

const MINUTE = 60_000;
const DAY = 86_400_000;
const START = Date.UTC(2026, 0, 5, 22, 17);
let valkey: TestValkey;
let emulator: TestEmulator;
const worlds: SnapshotWorld[] = [];

beforeAll(async () => {
  [valkey, emulator] = await Promise.all([startValkey(), startEmulator()]);
});
afterAll(async () => {
  for (const world of worlds) await world.close();
  await Promise.all([valkey?.stop(), emulator?.stop()]);
});

/** The same definitions with snapshots of some entities. */
function keeping(definitions: d.Definitions, ...entities: string[]): Plan {
  const marked = {
    ...definitions,
    entities: definitions.entities.map((e) => ({ ...e, fallback: entities.includes(e.name) })),
  };
  return compile(marked, contracts, EMPTY_LOCK, hash64).plan;
}

async function world(plan: Plan, sealMs = START - DAY): Promise<SnapshotWorld> {
  const opened = await openSnapshotWorld(plan, valkey, emulator, sealMs);
  worlds.push(opened);
  return opened;
}

async function emptied(): Promise<void> {
  await worlds.pop()?.close();
  const { openStore } = await import("../../support/store.ts");
  const { connection } = await openStore(keeping(everything), valkey);
  for (const node of await connection.primaries()) await node.flushall();
  await connection.close();
}

const cardPlan = keeping(everything, "card");
const packer = new RecordPacker(cardPlan, "payments");
const paid = (tenant: string, id: string, timeMs: number, fields: object = {}) =>
  packer.prepare(tenant, id, timeMs, { id, at: timeMs, card: "c", shop: "s", amount: 3.5, country: "NO", ...fields });

const share = fc.nat(1_000_000).map((n) => n / 1_000_000);
const step = fc.record({
  events: fc.array(
    fc.record({
      id: fc.nat(40).map((n) => `e${n}`),
      at: share,
      shop: fc.constantFrom("s1", "s2", null),
      amount: fc.oneof(
        fc.constantFrom(null, 0, 1.005, 87960930222.07),
        fc.double({ min: -1e6, max: 1e6, noNaN: true }),
      ),
      country: fc.constantFrom("NO", "SE", null),
      online: fc.constantFrom(true, false, null),
    }),
    { maxLength: 12 },
  ),
  seal: share,
});

describe("of an entity that has not changed since", () => {
  it("a snapshot answers as the store does, whatever the features, the events, the folding and the moment", async () => {
    const card = d.entity("card", { joinKey: "card", fallback: true });
    const runs = fc.tuple(
      featureSet(6).filter((set) => Object.keys(set).length > 0),
      fc.array(step, { minLength: 1, maxLength: 4 }),
      fc.constantFrom(40 * MINUTE, 7 * 60 * MINUTE, 9 * DAY),
      share,
      fc.array(share, { minLength: 1, maxLength: 3 }),
    );
    let answered = 0;
    await fc.assert(
      fc.asyncProperty(runs, async ([features, steps, spanMs, later, instants]) => {
        await emptied();
        const view = d.featureView("view", {
          entity: card as d.EntityDefinition,
          source: payments as d.StreamDefinition,
          ttl: "3000d",
          owner: "o",
          features,
        });
        const definitions = { entities: [card], streams: [payments], views: [view], services: [] };
        const { plan } = compile(definitions, contracts, EMPTY_LOCK, hash64);
        const own = await world(plan);
        const prepare = new RecordPacker(plan, "payments");
        let sealMs = START - DAY;
        for (const { events, seal } of steps) {
          const records = events.map(({ id, at, ...fields }) => {
            const timeMs = START + Math.round(at * spanMs);
            return prepare.prepare("t", id, timeMs, { id, at: timeMs, card: "c", ...fields });
          });
          if (records.length > 0) await own.store.applier.apply(records);
          sealMs = Math.max(sealMs, Math.floor((START + seal * spanMs) / MINUTE) * MINUTE);
          await own.store.seal(sealMs);
        }
        expect((await own.round()).outcome).toBe("complete");
        // The seal goes on, as it does for a silent entity.
        await own.store.seal(Math.max(sealMs, START + Math.floor((later * spanMs) / MINUTE) * MINUTE));
        for (const instant of instants) {
          const asOfMs = START + Math.round(instant * 2 * spanMs);
          const answer = await own.fallback("t", "card", "c", asOfMs);
          expect(answer).toEqual({ values: await own.live("t", "card", "c", asOfMs), ageMs: expect.any(Number) });
          if ("values" in answer) answered += answer.values.filter(({ status }) => status === "PRESENT").length;
        }
      }),
      { numRuns: 25 },
    );
    expect(answered).toBeGreaterThan(0);
  });

  it("every operator, over every window, from one hash that has been folded in part", async () => {
    await emptied();
    const own = await world(cardPlan);
    const at = (minutes: number) => START + minutes * MINUTE;
    await own.store.applier.apply(
      Array.from({ length: 60 }, (_, i) => paid("t", `e${i}`, at(i * 7), { shop: `s${i}` })),
    );
    await own.store.seal(at(200));
    await own.store.applier.apply([paid("t", "last", at(430))]);
    await own.round();
    for (const asOfMs of [at(430), at(435), at(500), at(3_000), at(60_000)]) {
      const answer = await own.fallback("t", "card", "c", asOfMs);
      expect(answer).toEqual({ values: await own.live("t", "card", "c", asOfMs), ageMs: 0 });
    }
  });

  it("what was pushed answers too, beside its windows", async () => {
    await emptied();
    const plan = keeping(pushedDefinitions, "shop");
    const now = Date.now();
    const own = await world(plan, now - DAY);
    await pushRows(own.store.applier, [
      rowOf(riskView, "t", "s", now - 2_000, { n: 3, label: "a", open: true }),
      rowOf(sizeView, "t", "s", now - 1_000, { staff: 12 }),
    ]);
    await own.round();
    for (const aheadMs of [0, 2 * 3_600_000, 40 * 3_600_000]) {
      const answer = await own.fallback("t", "shop", "s", now + aheadMs);
      expect(answer).toMatchObject({ values: await own.live("t", "shop", "s", now + aheadMs) });
    }
    // Of another value the next round tells, and of no other one.
    await pushRows(own.store.applier, [rowOf(riskView, "t", "s", now, { n: 4 })]);
    expect(await own.round()).toMatchObject({ outcome: "complete", written: 1 });
    expect(await own.fallback("t", "shop", "s", now)).toMatchObject({ values: await own.live("t", "shop", "s", now) });
  });
});

it("what was pushed by a release that kept no rev is written once, and again when it has changed", async () => {
  await emptied();
  const plan = keeping(pushedDefinitions, "shop");
  const now = Date.now();
  const own = await world(plan, now - DAY);
  await pushRows(own.store.applier, [rowOf(riskView, "t", "s", now - 2_000, { n: 3 })]);
  const key = pushedKey(bucketOf("t", "shop", "s"), "t", "shop", "s");
  await own.store.connection.demand([{ key, name: "HDEL", args: [key, PUSHED_REV_FIELD] }]);
  expect(await own.round()).toMatchObject({ outcome: "complete", written: 1 });
  const live = () => own.live("t", "shop", "s", now);
  expect((await live()).some(({ status }) => status === "PRESENT")).toBe(true);
  expect(await own.fallback("t", "shop", "s", now)).toMatchObject({ values: await live() });
  expect(await own.round()).toMatchObject({ written: 0 });
  await pushRows(own.store.applier, [rowOf(riskView, "t", "s", now, { n: 4 })]);
  expect(await own.round()).toMatchObject({ written: 1 });
  expect(await own.fallback("t", "shop", "s", now)).toMatchObject({ values: await live() });
});

describe("an answer", () => {
  it("tells its age: how long ago the entity was sure to be like that", async () => {
    await emptied();
    const own = await world(cardPlan);
    await own.store.applier.apply([paid("t", "e1", START)]);
    const beforeMs = Date.now();
    await own.round();
    const inAnHour = Date.now() + 60 * MINUTE;
    const first = await own.fallback("t", "card", "c", inAnHour);
    expect((first as { ageMs: number }).ageMs).toBeGreaterThanOrEqual(60 * MINUTE);
    expect((first as { ageMs: number }).ageMs).toBeLessThanOrEqual(inAnHour - beforeMs + 1);
    // Seen unchanged by a later round, it is as young as that round, though nothing was written.
    const secondMs = Date.now();
    expect(await own.round()).toMatchObject({ written: 0 });
    const second = await own.fallback("t", "card", "c", inAnHour);
    expect((second as { ageMs: number }).ageMs).toBeLessThanOrEqual(inAnHour - secondMs + 1);
  });

  it("for an entity without an item is NOT_FOUND once a round has been through, and none before", async () => {
    await emptied();
    const own = await world(cardPlan);
    expect(await own.fallback("t", "card", "nobody", START)).toEqual({ lost: "not_covered" });
    await own.store.applier.apply([paid("t", "e1", START)]);
    await own.round();
    const answer = await own.fallback("t", "card", "nobody", START);
    expect(answer).toMatchObject({ values: await own.live("t", "card", "nobody", START) });
    expect(new Set((answer as any).values.map(({ status }: any) => status))).toEqual(new Set(["NOT_FOUND"]));
    // Another tenant's card of the same id is nobody's.
    expect(await own.fallback("u", "card", "c", START)).toMatchObject({ values: (answer as any).values });
    expect(await own.fallback("t", "shop", "s", START)).toEqual({ lost: "not_declared" });
  });

  it("of an entity that is newly kept is none until a round has kept it, and then has what was there before, pushed or not", async () => {
    await emptied();
    const both = { ...everything, batchViews: pushedDefinitions.batchViews };
    const [before, after] = [keeping(both, "card"), keeping(both, "card", "shop")];
    const now = Date.now();
    const own = await world(before, now - DAY);
    await own.store.applier.apply([paid("t", "e1", now, { shop: "s" })]);
    await pushRows(own.store.applier, [rowOf(riskView, "t", "s", now, { n: 3 })]);
    await pushRows(own.store.applier, [rowOf(riskView, "t", "pushed", now, { n: 4 })]);
    expect((await own.round()).outcome).toBe("complete");
    const told = async () => [
      await own.fallback("t", "shop", "s", now, after),
      await own.fallback("t", "shop", "pushed", now, after),
    ];
    expect(await told()).toEqual([{ lost: "not_covered" }, { lost: "not_covered" }]);
    // A release in the midst of a round: that one goes on, and keeps the entity from then on at most.
    const saved = (await own.table.getRound())!;
    await own.table.putRound({ ...saved, startedUs: saved.coveredUs, sinceUs: saved.coveredUs! });
    const round = () => snapshotRound({ ...own.ports, plan: after }, Number.POSITIVE_INFINITY);
    expect((await round()).outcome).toBe("complete");
    expect(await own.fallback("t", "shop", "nobody", now, after)).toEqual({ lost: "not_covered" });
    expect((await round()).outcome).toBe("complete");
    const live = [await own.live("t", "shop", "s", now), await own.live("t", "shop", "pushed", now)];
    for (const values of live) expect(values.some(({ status }) => status === "PRESENT")).toBe(true);
    expect(await told()).toMatchObject(live.map((values) => ({ values })));
    expect(await round()).toMatchObject({ written: 0 });
  });

  it("from an item of before the entity was dropped and kept again tells how old it is", async () => {
    await emptied();
    const [with_, without] = [keeping(everything, "card", "shop"), keeping(everything, "shop")];
    const own = await world(with_);
    await own.store.applier.apply([paid("t", "e1", START)]);
    await own.round();
    const droppedMs = Date.now();
    expect((await snapshotRound({ ...own.ports, plan: without }, Number.POSITIVE_INFINITY)).outcome).toBe("complete");
    await own.store.applier.apply([paid("t", "e2", START)]);
    expect((await snapshotRound({ ...own.ports, plan: without }, Number.POSITIVE_INFINITY)).outcome).toBe("complete");
    const answer = await own.fallback("t", "card", "c", droppedMs + 60 * MINUTE);
    expect((answer as { ageMs: number }).ageMs).toBeGreaterThanOrEqual(60 * MINUTE);
    await own.round();
    expect(await own.fallback("t", "card", "c", START)).toMatchObject({
      values: await own.live("t", "card", "c", START),
    });
  });

  it("is none from an item of an older epoch, of other slots, too large, cut off or altered; never a wrong value", async () => {
    await emptied();
    const own = await world(cardPlan);
    await own.store.applier.apply([paid("t", "e1", START)]);
    await own.round();
    expect(await own.fallback("t", "card", "c", START)).toHaveProperty("values");

    const other = keeping(
      { ...everything, views: everything.views.map((view) => ({ ...view, features: { n: d.count().over("2h") } })) },
      "card",
    );
    const reader = createSnapshotReader(other, own.table, Date.now);
    const asked = { tenant: "t", entity: "card", id: "c", features: ["everything:n_2h"] };
    expect(await reader.read([asked], START, 5_000)).toEqual([{ lost: "other_layout" }]);

    const { Items = [] } = await own.dynamodb.send(
      new (await import("@aws-sdk/client-dynamodb")).ScanCommand({ TableName: own.name }),
    );
    const item = Items.find(({ sk }) => sk.S === "payments")!;
    const put = (changes: object) =>
      own.dynamodb.send(new PutItemCommand({ TableName: own.name, Item: { ...item, ...changes } }));
    const data = Buffer.from(item["data"].B!);
    const altered = Buffer.from(data);
    altered[altered.length - 3] ^= 1;
    const cases: [object, string][] = [
      [{ epoch: { N: "0" } }, "older_epoch"],
      [{ data: { B: altered } }, "corrupt"],
      [{ data: { B: data.subarray(0, data.length - 1) } }, "corrupt"],
      [{ data: { B: Buffer.concat([Buffer.from([2]), data.subarray(1)]) } }, "corrupt"],
      [{ data: { B: Buffer.alloc(0) } }, "corrupt"],
      [{ epoch: { S: "one" } }, "corrupt"],
    ];
    for (const [changes, lost] of cases) {
      await put(changes);
      expect([changes, await own.fallback("t", "card", "c", START)]).toEqual([changes, { lost }]);
    }
    const { data: _, ...without } = item;
    await own.dynamodb.send(new PutItemCommand({ TableName: own.name, Item: without }));
    expect(await own.fallback("t", "card", "c", START)).toEqual({ lost: "too_large" });
    await put({});
    expect(await own.fallback("t", "card", "c", START)).toHaveProperty("values");
  });

  it("is none when the table does not answer, and is not waited for longer than was said", async () => {
    const silent = new SnapshotTable({ table: "t", dynamodb: testClients("http://127.0.0.1:9").dynamodb });
    const reader = createSnapshotReader(cardPlan, silent, Date.now);
    const requests = [
      { tenant: "t", entity: "card", id: "c", features: ["everything:n_1h"] },
      { tenant: "t", entity: "shop", id: "s", features: ["shop_view:n_1h"] },
    ];
    expect(await reader.read(requests, START, 50)).toEqual([{ lost: "unavailable" }, { lost: "not_declared" }]);
  });

  it("of more entities than one call takes comes in one answer, each in its place, twice where asked twice", async () => {
    await emptied();
    const own = await world(cardPlan);
    const ids = Array.from({ length: 230 }, (_, i) => `c${i}`);
    await own.store.applier.apply(ids.map((id, i) => paid("t", `e${i}`, START, { card: id, amount: i })));
    expect((await own.round()).written).toBe(230);
    const reader = createSnapshotReader(cardPlan, own.table, Date.now);
    const features = ["everything:total_1h"];
    const asked = [...ids, "c7"].map((id) => ({ tenant: "t", entity: "card", id, features }));
    const answers = await reader.read(asked, START, 20_000);
    expect(answers.map((answer) => ("values" in answer ? answer.values[0].value : answer.lost))).toEqual([
      ...ids.map((_, i) => i),
      7,
    ]);
  });
});
