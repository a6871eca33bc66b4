/** Plans that follow each other over one store: a value that is served as ready counts everything, under any history. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { hash64 } from "../../../adapters/hash.ts";
import type { Birth } from "../../../adapters/valkey/layout.ts";
import { compile, EMPTY_LOCK, type Lock } from "../../../core/compile/compile.ts";
import * as d from "../../../core/definition.ts";
import { identityText } from "../../../core/event.ts";
import { isObject } from "../../../core/operators/accumulators.ts";
import type { Feature, Plan } from "../../../core/plan.ts";
import { floorTo } from "../../../core/tiles/window.ts";
import { type NaiveEvent, naive } from "../../core/naive.ts";
import { featureSet } from "../../support/feature-sets.ts";
import { fileStore } from "../../support/file-store.ts";
import { card, contracts, payments } from "../../support/fixture-plan.ts";
import { allBorn, type OneEntity, type RawEvent } from "../../support/one-entity.ts";

const MINUTE = 60_000;
const DAY = 1_440 * MINUTE;
const START = Date.UTC(2026, 0, 5, 22, 17);
const hash32 = (text: string) => Number.parseInt(hash64(text).slice(0, 8), 16);

const store = fileStore();
let tenants = 0;
const fresh = () => store.entity(`t${tenants++}`);

function planOf(features: Record<string, d.AggregationDefinition>, lock: Lock): { plan: Plan; lock: Lock } {
  const view = d.featureView("v", { entity: card, source: payments, ttl: "3650d", owner: "o", features });
  return compile({ entities: [card], streams: [payments], views: [view], services: [] }, contracts, lock, hash64);
}
const windowStart = ({ window }: Feature, t: number): number =>
  window.kind === "lifetime" ? 0 : Math.floor((t - window.delayMs - window.sizeMs) / window.hopMs) * window.hopMs;
const bornMs = (plan: Plan, { slots }: Feature, births: readonly Birth[]): number =>
  Math.max(
    ...slots.map((index) => {
      const { id, kind } = plan.groups[0].slots[index];
      return births.find((b) => b.slot === id && b.object === isObject(kind))!.baseIndex * MINUTE;
    }),
  );

describe("plans that follow each other", () => {
  const share = fc.nat(1_000_000).map((n) => n / 1_000_000);
  const drawn = fc.record({
    id: fc.nat(25).map((n) => `e${n}`),
    // Since the event before: often moments, sometimes days.
    wait: fc.oneof(fc.nat(3 * MINUTE), fc.nat(40 * MINUTE), fc.nat(6 * 60 * MINUTE), fc.nat(2 * DAY)),
    age: fc.oneof(fc.nat(10 * MINUTE), fc.nat(10 * MINUTE), fc.nat(DAY)),
    amount: fc.constantFrom(null, 0, 1.25, -7, 87960930222.07),
    country: fc.constantFrom("NO", "SE", null),
    shop: fc.nat(60).map((n) => `s${n}`),
    old: fc.boolean(),
    touched: fc.constantFrom("no", "no", "new", "old"),
  });
  const phase = fc.record({
    features: featureSet(4).filter((features) => Object.keys(features).length > 0),
    events: fc.array(drawn, { maxLength: 14 }),
    lag: share,
  });

  it("serve as ready only what counts every visible event, with the older plan's last writers among them", async () => {
    let ready = 0;
    let waiting = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(phase, { minLength: 2, maxLength: 4 }), async (phases) => {
        const one = fresh();
        let lock = EMPTY_LOCK;
        let births: Birth[] = [];
        let nowMs = START;
        let sealMs = START - DAY;
        let older: ReturnType<OneEntity["writer"]> | null = null;
        const visible: NaiveEvent[] = [];
        for (const [p, { features, events, lag }] of phases.entries()) {
          const compiled = planOf(features, lock);
          lock = compiled.lock;
          const [group] = compiled.plan.groups;
          const deployedMs = nowMs;
          const birth = p === 0 ? 0 : Math.ceil((deployedMs + 2 * MINUTE) / MINUTE);
          births = allBorn(group, birth).map(
            (b) => births.find((known) => known.slot === b.slot && known.object === b.object) ?? b,
          );
          const writer = one.writer(compiled.plan);
          for (const { wait, age, old, touched, id, ...fields } of events) {
            nowMs += wait;
            sealMs = Math.max(sealMs, floorTo(nowMs - (12 + lag * 30) * MINUTE, MINUTE));
            await one.control([{ group, sealMs, births }]);
            const timeMs = nowMs + MINUTE - age;
            const event: RawEvent = { id, timeMs, fields };
            // Invocations of the older plan end before the birth; its sweeper runs for a quarter of an hour.
            const by = old && older && nowMs < birth * MINUTE ? older : writer;
            const [{ fate }] = await by.apply([event]);
            if (fate === "applied") {
              const identity = hash64(identityText(one.tenant, "payments", timeMs, id));
              visible.push({ identity, timeMs, fields: { ...fields, at: timeMs } });
            }
            if (touched === "new") await writer.touch();
            if (touched === "old" && older && nowMs < deployedMs + 15 * MINUTE) await older.touch();
          }
          await one.control([{ group, sealMs, births }]);
          for (const t of [nowMs + MINUTE, nowMs + MINUTE + Math.round(lag * DAY)]) {
            const values = await one.read(compiled.plan, t);
            const newest = Math.max(...visible.map(({ timeMs }) => timeMs));
            const [{ reachMs, features: all }] = compiled.plan.views;
            for (const feature of all) {
              const { status, value } = values.get(feature.name)!;
              const isReady = windowStart(feature, t) >= bornMs(compiled.plan, feature, births);
              if (isReady) ready++;
              else waiting++;
              if (!isReady) expect(status).toBe("NOT_READY");
              else if (visible.length === 0 || (reachMs !== null && newest <= t - reachMs))
                expect(status).toBe("NOT_FOUND");
              else {
                const expected = naive(group, feature, visible, t, hash32);
                expect({ feature: feature.name, phase: p, value }).toEqual({
                  feature: feature.name,
                  phase: p,
                  value: expected,
                });
              }
            }
          }
          older = writer;
        }
      }),
      { numRuns: 120 },
    );
    // Both kinds were seen, or the property would say nothing.
    expect(Math.min(ready, waiting)).toBeGreaterThan(100);
  });
});

describe("a slot", () => {
  const amount = () => d.sum("amount", { scale: 2 });
  const at = (minutes: number) => START + minutes * MINUTE;
  const index = (ms: number) => Math.floor(ms / MINUTE);
  const event = (id: string, timeMs: number, value = 1): RawEvent => ({ id, timeMs, fields: { amount: value } });

  /** Two plans: the second adds a sum and a last value to the first's count. */
  async function twoPlans(size: d.Duration = "1h") {
    const first = planOf({ n: d.count().over(size) }, EMPTY_LOCK);
    const second = planOf(
      { n: d.count().over(size), s: amount().over(size), last: d.last("amount").over(size) },
      first.lock,
    );
    const one = fresh();
    const [group] = second.plan.groups;
    const births = (added: number) => [
      ...allBorn(first.plan.groups[0]),
      ...allBorn(group, added).filter(({ slot, object }) => object || slot !== 0),
    ];
    return { one, first: first.plan, second: second.plan, group, births };
  }
  const value = async (one: OneEntity, plan: Plan, t: number, feature: string) =>
    (await one.read(plan, t)).get(`v:${feature}`)!;

  it("without a birth is not filled", async () => {
    const { one, first, second, group } = await twoPlans();
    await one.control([{ group, sealMs: at(-60), births: allBorn(first.groups[0]) }]);
    await one.writer(second).apply([event("a", at(0), 5)]);
    expect(await value(one, second, at(1), "n_1h")).toMatchObject({ value: 1, status: "PRESENT" });
    expect(await value(one, second, at(1), "s_1h")).toMatchObject({ value: null, status: "NOT_READY" });
    // One count cell in the base tile: u8 1, u8 slot 0, u40 1.
    const tiles = [...(await one.dump())].filter(([field]) => field.length === 10 && field.startsWith("00"));
    expect(tiles.map(([, bytes]) => bytes.toString("hex"))).toEqual(["01000100000000"]);
    expect([...(await one.dump()).keys()].filter((field) => field.startsWith("73"))).toEqual([]);
  });

  it("is filled from its birth on, and served from the first window that starts there", async () => {
    const { one, second, group, births } = await twoPlans();
    await one.control([{ group, sealMs: at(-60), births: births(index(at(10))) }]);
    const writer = one.writer(second);
    await writer.apply([event("before", at(9), 100), event("edge", at(10), 7), event("after", at(30), 2)]);
    const read = async (t: number) => ({ ...(await value(one, second, t, "s_1h")), eventTimeMs: undefined });
    // The hour starts at multiples of five minutes: 22:25 at 23:29, 22:30 from 23:30 on; the birth is at 22:27.
    expect(await read(at(72))).toMatchObject({ value: null, status: "NOT_READY" });
    expect(await read(at(73))).toMatchObject({ value: 2, status: "PRESENT" });
    expect(await value(one, second, at(73), "last_1h")).toMatchObject({ value: 2 });
    expect(await value(one, second, at(30), "n_1h")).toMatchObject({ value: 3, status: "PRESENT" });
  });

  it("of a newer plan is kept whole by an older library, which folds nothing meanwhile", async () => {
    const { one, first, second, group, births } = await twoPlans("24h");
    const [older, newer] = [one.writer(first), one.writer(second)];
    const born = births(index(at(-600)));
    await one.control([{ group, sealMs: at(-30), births: born }]);
    await newer.apply([event("a", at(0), 5), event("b", at(1), 6)]);
    await older.apply([event("c", at(0), 1_000)]);
    await one.control([{ group, sealMs: at(200), births: born }]);
    const before = await one.dump();
    await older.touch();
    await older.apply([event("late", at(0))]);
    expect(await one.dump()).toEqual(before);
    await older.apply([event("d", at(201))]);
    expect([...(await one.dump()).keys()].filter((field) => field.startsWith("02"))).toEqual([]);
    await newer.touch();
    expect([...(await one.dump()).keys()].filter((field) => field.startsWith("02"))).toHaveLength(1);
    // What the older library applied, it could not add to a slot that it does not know: such writers are gone at birth.
    expect(await value(one, second, at(201), "n_24h")).toMatchObject({ value: 4 });
    expect(await value(one, second, at(900), "s_24h")).toMatchObject({ value: 11, status: "PRESENT" });
  });

  it("of a plan that was taken back is left behind when the older one folds", async () => {
    const { one, first, second, group } = await twoPlans("24h");
    await one.control([{ group, sealMs: at(-30), births: allBorn(group) }]);
    await one.writer(second).apply([event("a", at(0), 5)]);
    // The plan goes back: its control function drops the births of slots that it does not have.
    await one.control([{ group: first.groups[0], sealMs: at(120), births: allBorn(first.groups[0]) }]);
    await one.writer(first).touch();
    expect(await value(one, first, at(121), "n_24h")).toMatchObject({ value: 1 });
    const hour = [...(await one.dump())].filter(([field]) => field.length === 10 && field.startsWith("02"));
    expect(hour.map(([, bytes]) => bytes.subarray(0, 2).toString("hex"))).toEqual(["0100"]);
  });

  it("that was removed leaves its objects behind for a day at most, the lifetime's too; others stay", async () => {
    const first = planOf(
      { n: d.count(), last: d.last("amount"), shops: d.approxDistinct("shop").over("24h") },
      EMPTY_LOCK,
    );
    const second = planOf({ n: d.count(), shops: d.approxDistinct("shop").over("24h") }, first.lock);
    const [group] = second.plan.groups;
    const removed = first.plan.groups[0].slots.find(({ kind }) => kind === "last")!.id;
    const kept = group.slots.find(({ kind }) => kind === "distinct")!.id;
    const midnight = Math.ceil(START / DAY) * DAY;
    const one = fresh();
    const shop = (id: string, timeMs: number) => ({ id, timeMs, fields: { amount: 1, shop: id } });
    const control = (plan: Plan, sealMs: number) =>
      one.control([{ group: plan.groups[0], sealMs, births: allBorn(plan.groups[0]) }]);
    await control(first.plan, at(-60));
    await one.writer(first.plan).apply([shop("a", at(0)), shop("b", midnight + 60 * MINUTE)]);
    await control(first.plan, midnight + 2 * DAY);
    await one.writer(first.plan).touch();
    await one.writer(first.plan).apply([shop("c", midnight + 2 * DAY + 5 * MINUTE)]);
    const objects = async (slot: number) =>
      [...(await one.dump()).keys()].filter((field) => {
        const bytes = Buffer.from(field, "hex");
        return (bytes[0] === 0x73 || (bytes[0] === 0x41 && bytes.length === 2)) && bytes[1] === slot;
      }).length;
    expect(await objects(removed)).toBe(2);
    // The new plan's code: held while control still has the slot's birth, and within a day it names what it knows.
    await control(first.plan, midnight + 2 * DAY + 60 * MINUTE);
    await one.writer(second.plan).touch();
    await control(second.plan, midnight + 2 * DAY + 60 * MINUTE);
    await one.writer(second.plan).touch();
    expect(await objects(removed)).toBe(2);
    expect(await objects(kept)).toBeGreaterThan(0);
    await control(second.plan, midnight + 3 * DAY);
    await one.writer(second.plan).touch();
    expect(await objects(removed)).toBe(0);
    expect(await objects(kept)).toBeGreaterThan(0);
    expect(await value(one, second.plan, midnight + 3 * DAY, "n")).toMatchObject({ value: 3 });
    expect(await value(one, second.plan, midnight + 3 * DAY, "shops_24h")).toMatchObject({ value: 1 });
  });

  it("of a lifetime is absorbed from its first whole day on: before, it is built in bulk", async () => {
    const { plan } = planOf({ n: d.count(), s: amount(), last: d.last("amount") }, EMPTY_LOCK);
    const [group] = plan.groups;
    const one = fresh();
    const midnight = Math.ceil(START / DAY) * DAY;
    const births = allBorn(group, index(at(0)));
    await one.control([{ group, sealMs: at(-60), births }]);
    const writer = one.writer(plan);
    await writer.apply([
      event("born", at(5), 1_000),
      event("day one", midnight + 60 * MINUTE, 3),
      event("day two", midnight + DAY, 4),
    ]);
    await one.control([{ group, sealMs: midnight + 3 * DAY, births }]);
    await writer.touch();
    const absorbed = (await one.dump()).get(Buffer.from("A").toString("hex"))!;
    // n (slot 0) and the sum's count (slot 1) are 2, the sum (slot 128) is 700: the first evening is not in.
    expect(absorbed.toString("hex")).toBe("030001800200000000020000000000000000bc02000000");
    expect((await value(one, plan, midnight + 3 * DAY, "n")).status).toBe("NOT_READY");
  });

  it("that is as old as its stream is absorbed whole", async () => {
    const { plan } = planOf({ n: d.count(), last: d.last("amount") }, EMPTY_LOCK);
    const [group] = plan.groups;
    const one = fresh();
    const midnight = Math.ceil(START / DAY) * DAY;
    await one.control([{ group, sealMs: at(-60), births: allBorn(group) }]);
    const writer = one.writer(plan);
    await writer.apply([event("evening", at(5), 1), event("morning", midnight + 60 * MINUTE, 3)]);
    await one.control([{ group, sealMs: midnight + 3 * DAY, births: allBorn(group) }]);
    await writer.touch();
    expect([...(await one.dump()).keys()].filter((field) => field.length === 10)).toEqual([]);
    expect(await value(one, plan, midnight + 90 * DAY, "n")).toMatchObject({ value: 2, status: "PRESENT" });
    expect(await value(one, plan, midnight + 90 * DAY, "last")).toMatchObject({ value: 3 });
  });
});

describe("the end of a key", () => {
  const event = (id: string, timeMs: number): RawEvent => ({ id, timeMs, fields: { amount: 1 } });
  const ttl = (one: OneEntity) => one.command<number>("PTTL");

  it("goes when a plan with a lifetime window follows, however often the older one writes in between", async () => {
    const first = planOf({ n: d.count().over("1h") }, EMPTY_LOCK);
    const second = planOf({ n: d.count().over("1h", "lifetime") }, first.lock);
    const one = fresh();
    const births = [...allBorn(first.plan.groups[0]), ...allBorn(second.plan.groups[0])];
    const control = (plan: Plan) => one.control([{ group: plan.groups[0], sealMs: START - DAY, births }]);
    await control(first.plan);
    const [older, newer] = [one.writer(first.plan), one.writer(second.plan)];
    await older.apply([event("a", START)]);
    expect(await ttl(one)).toBeGreaterThan(0);
    await control(second.plan);
    await newer.apply([event("b", START + MINUTE)]);
    expect(await ttl(one)).toBe(-1);
    await older.apply([event("c", START + 60 * MINUTE)]);
    expect(await ttl(one)).toBeGreaterThan(0);
    // In the same hour of event time as the write before.
    await newer.apply([event("d", START + 61 * MINUTE)]);
    expect(await ttl(one)).toBe(-1);
  });

  it("is set by the first event, moves with the hour, and lies a day behind the longest window", async () => {
    const { plan } = planOf({ n: d.count().over("24h").delayedBy("3h") }, EMPTY_LOCK);
    const [group] = plan.groups;
    const one = fresh();
    await one.control([{ group, sealMs: 0, births: allBorn(group) }]);
    const writer = one.writer(plan);
    const [now] = await store.connection.demand([{ key: one.key, name: "TIME", args: [] }]);
    const storeMs = Number((now as Buffer[])[0]) * 1_000;
    const end = () => one.command<number>("PEXPIRETIME");
    const span = (24 + 3 + 24) * 60 * MINUTE;
    await writer.apply([event("past", START)]);
    const set = await end();
    // An event from the past: the key lives as long as if it were new, since somebody may read it now.
    expect(set - storeMs - span).toBeGreaterThanOrEqual(0);
    expect(set - storeMs - span).toBeLessThan(60_000);
    await writer.apply([event("same hour", START + MINUTE)]);
    expect(await end()).toBe(set);
    const ahead = Math.ceil((storeMs + 2 * 60 * MINUTE) / (60 * MINUTE)) * 60 * MINUTE;
    await writer.apply([event("later", ahead)]);
    expect(await end()).toBe(ahead + span);
    await writer.apply([event("same hour again", ahead + 59 * MINUTE)]);
    expect(await end()).toBe(ahead + span);
    await writer.apply([event("next hour", ahead + 60 * MINUTE)]);
    expect(await end()).toBe(ahead + 60 * MINUTE + span);
    // Older events move nothing.
    await writer.apply([event("straggler", START - 60 * MINUTE)]);
    expect(await end()).toBe(ahead + 60 * MINUTE + span);
  });
});
