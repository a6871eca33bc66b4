/** The births of slots on a real Valkey: of plans that add, remove and bring back, and of locks that come back from the past. */
import { describe, expect, it } from "vitest";
import { controlKey, encodeGroupControl, groupField } from "../../../adapters/valkey/layout.ts";
import { watermarkKey } from "../../../adapters/valkey/watermark.ts";
import { EMPTY_LOCK, type Lock } from "../../../core/compile/compile.ts";
import * as d from "../../../core/definition.ts";
import type { Plan } from "../../../core/plan.ts";
import { beginRestore, controlStep } from "../../../functions/shared/control-loop.ts";
import { currentEpoch } from "../../../functions/shared/current-store.ts";
import { first, planOf, refunds } from "../../support/control-plans.ts";
import {
  acknowledge,
  births,
  floor,
  group,
  LAG_MS,
  MINUTE,
  NOW,
  open,
  portsOf,
  running,
  TIMEOUT_MS,
  tick,
  useControlWorld,
} from "../../support/control-world.ts";
import { card, payments, shop } from "../../support/fixture-plan.ts";

const world = useControlWorld();

describe("births", () => {
  const born = (nowMs: number) => Math.ceil((nowMs + MINUTE + TIMEOUT_MS) / MINUTE);
  const second = planOf(
    { n: d.count().over("1h"), s: d.sum("amount", { scale: 2 }).over("1h"), last: d.last("country") },
    first.lock,
  );

  it("of added slots lie behind the last writer of the older plan, and stay where they are", async () => {
    await running();
    const later = portsOf(second.plan);
    const at = NOW + 10 * MINUTE;
    await tick(at, [open("a")], later);
    const expected = { "cell 0": 0, "object 0": 0, "cell 1": born(at), "cell 128": born(at) };
    expect(born(at) * MINUTE).toBeGreaterThanOrEqual(at + MINUTE + TIMEOUT_MS);
    for (const bucket of [0, 1_023]) expect(await births(bucket)).toEqual(expected);
    await tick(at + 9 * MINUTE, [open("a")], later);
    expect(await births(77)).toEqual(expected);
  });

  it("of removed slots are unset, and set anew when the plan comes back", async () => {
    await running();
    await tick(NOW + 10 * MINUTE, [open("a")], portsOf(second.plan));
    await tick(NOW + 20 * MINUTE);
    expect(await births(9)).toEqual({ "cell 0": 0, "object 0": 0 });
    const again = NOW + 30 * MINUTE;
    await tick(again, [open("a")], portsOf(second.plan));
    expect(await births(9)).toEqual({ "cell 0": 0, "object 0": 0, "cell 1": born(again), "cell 128": born(again) });
  });

  it("that a cut-off run wrote to some buckets only are set anew in all: others were not filled meanwhile", async () => {
    await running();
    const [{ name }] = second.plan.groups;
    const early = born(NOW + 10 * MINUTE);
    const { sealIndex, births: before } = (await group(0))!;
    const added = [
      { object: false, slot: 1, baseIndex: early },
      { object: false, slot: 128, baseIndex: early },
    ];
    for (const bucket of [0, 1, 2]) {
      await world.admin.hset(
        controlKey(bucket),
        groupField(name),
        encodeGroupControl(sealIndex, [...before, ...added]),
      );
    }
    const at = NOW + 60 * MINUTE;
    await tick(at, [open("a")], portsOf(second.plan));
    for (const bucket of [0, 2, 3, 1_023]) {
      expect(await births(bucket)).toEqual({ "cell 0": 0, "object 0": 0, "cell 1": born(at), "cell 128": born(at) });
    }
  });

  it("keep the seal that each bucket has", async () => {
    await running();
    await acknowledge("a", NOW + 30 * MINUTE);
    await tick(NOW + 31 * MINUTE);
    await controlStep(portsOf(second.plan), {}, NOW + 32 * MINUTE);
    expect((await group(500))!.sealIndex * MINUTE).toBe(floor(NOW + 30 * MINUTE - LAG_MS));
  });

  it("that a build has completed in some buckets stay, while the seal moves and control runs on", async () => {
    await running();
    const second = planOf(
      { n: d.count().over("1h"), last: d.last("country"), total: d.sum("amount", { scale: 2 }).over("1h") },
      first.lock,
    ).plan;
    const now = portsOf(second);
    const at = NOW + 2 * MINUTE;
    await tick(at, [open("a")], now);
    const built = [1, 128].map((slot) => ({ object: false, slot }));
    const [{ id }] = second.groups;
    expect(id).toBe(1);
    const { sealIndex } = (await group(7))!;
    const early = { epoch: 1, sealIndex, fromIndex: 0 };
    // The seal has not passed the birth: what the old plan's code applies above it would be missing.
    expect(await now.controls.complete(second.groups[0], [7], early, built)).toEqual([true]);
    expect((await births(7))["cell 128"]).toBeGreaterThan(sealIndex);

    const later = at + 30 * MINUTE;
    await acknowledge("a", later);
    await tick(later, [open("a")], now);
    const after = { epoch: 1, sealIndex: (await group(7))!.sealIndex, fromIndex: 0 };
    const refused = [
      { ...after, epoch: 2 },
      { ...after, sealIndex },
    ];
    for (const wrong of refused)
      expect(await now.controls.complete(second.groups[0], [7], wrong, built)).toEqual([false]);
    expect(await now.controls.complete(second.groups[0], [7], after, built)).toEqual([true]);
    const done = await births(7);
    expect(done).toEqual({ ...(await births(8)), "cell 1": 0, "cell 128": 0 });
    expect((await births(8))["cell 128"]).toBeGreaterThan(0);

    await acknowledge("a", later + 5 * MINUTE);
    const { unready } = await tick(later + 5 * MINUTE, [open("a")], now);
    const sinceMs = (await births(8))["cell 128"] * MINUTE;
    expect(unready).toEqual([{ view: "v", stream: "payments", bucketsReady: 1, sinceMs }]);
    expect((await group(7))!.sealIndex).toBeGreaterThan(after.sealIndex);
    expect(await births(7)).toEqual(done);
    expect((await births(8))["cell 128"]).toBeGreaterThan(0);
  });

  it("of a new entity on an old stream are later; of a new stream's, its beginning", async () => {
    await running();
    const views = [
      d.featureView("shops", {
        entity: shop,
        source: payments,
        ttl: "2d",
        owner: "o",
        features: { n: d.count().over("1h") },
      }),
      d.featureView("refunded", {
        entity: card,
        source: refunds,
        ttl: "2d",
        owner: "o",
        features: { n: d.count().over("1h") },
      }),
    ];
    const wider = planOf({ n: d.count().over("1h"), last: d.last("country") }, first.lock, {
      streams: [payments, refunds],
      views,
    });
    const at = NOW + 10 * MINUTE;
    const { seals } = await tick(at, [open("a")], portsOf(wider.plan));
    expect((await group(5, "shop:payments"))!.births).toEqual([{ object: false, slot: 0, baseIndex: born(at) }]);
    expect((await group(5, "card:refunds"))!.births).toEqual([{ object: false, slot: 0, baseIndex: 0 }]);
    expect(seals["refunds"]).toBe(floor(at - LAG_MS));
    // The next run does not take the stream for old and set its births again.
    await tick(at + MINUTE, [open("a")], portsOf(wider.plan));
    expect((await group(5, "card:refunds"))!.births).toEqual([{ object: false, slot: 0, baseIndex: 0 }]);
  });

  it("come with the seal that its stream has, which a run of the older plan moves too", async () => {
    await running();
    await acknowledge("a", NOW + MINUTE);
    await tick(NOW + 2 * MINUTE);
    const sealed = floor(NOW + MINUTE - LAG_MS) / MINUTE;
    expect((await group(3))!.sealIndex).toBe(sealed);
    const shops = d.featureView("shops", {
      entity: shop,
      source: payments,
      ttl: "2d",
      owner: "o",
      features: { n: d.count().over("1h") },
    });
    const wider = planOf({ n: d.count().over("1h"), last: d.last("country") }, first.lock, { views: [shops] });
    // As a run that dies after the births: the seal of the shops has not been moved by anybody.
    const dying = portsOf(wider.plan);
    dying.controls.moveSeal = () => Promise.reject(new Error("killed"));
    await acknowledge("a", NOW + 3 * MINUTE);
    await expect(tick(NOW + 3 * MINUTE, [open("a")], dying)).rejects.toThrow("killed");
    expect((await group(3, "shop:payments"))!.sealIndex).toBe(sealed);
    // A store that was restored: its groups alone know how far the stream was sealed.
    for (let bucket = 0; bucket < 1_024; bucket++) {
      await world.admin.hdel(controlKey(bucket), groupField("shop:payments"));
    }
    await world.admin.hdel(watermarkKey("payments"), "seal", "next");
    await expect(tick(NOW + 3 * MINUTE, [open("a")], dying)).rejects.toThrow("killed");
    expect((await group(3, "shop:payments"))!.sealIndex).toBe(sealed);
    await tick(NOW + 4 * MINUTE);
    expect((await group(3, "shop:payments"))!.sealIndex).toBe(sealed + 2);
    expect((await group(3))!.sealIndex).toBe(sealed + 2);
  });

  it("of a stream that had no view until now are later, since its events were acknowledged without one", async () => {
    const without = planOf({ n: d.count().over("1h") }, EMPTY_LOCK, { streams: [payments, refunds] });
    await tick(NOW, [open("a")], portsOf(without.plan));
    const view = d.featureView("refunded", {
      entity: card,
      source: refunds,
      ttl: "2d",
      owner: "o",
      features: { n: d.count().over("1h") },
    });
    const withOne = planOf({ n: d.count().over("1h") }, without.lock, { streams: [payments, refunds], views: [view] });
    await tick(NOW + 10 * MINUTE, [open("a")], portsOf(withOne.plan));
    expect((await group(5, "card:refunds"))!.births).toEqual([
      { object: false, slot: 0, baseIndex: born(NOW + 10 * MINUTE) },
    ]);
  });
});

describe("a lock that comes back from the past", () => {
  const one = planOf({ n: d.count().over("24h"), spent: d.sum("amount", { scale: 2 }).over("1h") });
  const two = planOf(
    { n: d.count().over("24h"), spent: d.sum("amount", { scale: 2 }).over("1h"), far: d.max("amount").over("1h") },
    one.lock,
  );
  const cell = (plan: Plan, kind: string) => `cell ${plan.groups[0].slots.find((slot) => slot.kind === kind)!.id}`;
  const tickOf = ({ plan, lock }: { plan: Plan; lock: Lock }, minute: number) =>
    tick(NOW + minute * MINUTE, [open("a")], portsOf(plan, lock));

  it("may lack what is newer, and a plan that follows it may not give those ids away", async () => {
    await tickOf(one, 0);
    await tickOf(two, 1);
    expect(world.table.lock).toEqual(two.lock);
    const before = await births(0);
    // `git revert` and another feature in one go: the id of the maximum goes to a minimum, in tiles that hold the maximum.
    const reverted = planOf({ n: d.count().over("24h"), near: d.min("amount").over("1h") }, one.lock);
    expect(cell(reverted.plan, "min")).toBe(cell(two.plan, "max"));
    await expect(tickOf(reverted, 2)).rejects.toMatchObject({
      code: "plan_lock_contradicts",
      message: expect.stringMatching(
        /^slot cell 64 of card:payments is min\{.*\} in this .*, but max\{.*\} in what is stored/,
      ),
      repair: expect.stringContaining("take the newest plan.lock.json"),
    });
    expect(await births(0)).toEqual(before);
    expect(world.table.lock).toEqual(two.lock);
    await expect(currentEpoch(world.table.port, reverted.lock)).rejects.toMatchObject({
      code: "plan_lock_contradicts",
    });

    // The revert alone contradicts nothing; the maximum is remembered, and still nobody else's.
    expect(await tickOf(one, 3)).toMatchObject({ state: "ok" });
    expect(Object.keys(await births(0))).not.toContain(cell(two.plan, "max"));
    await expect(tickOf(reverted, 4)).rejects.toMatchObject({ code: "plan_lock_contradicts" });
    const mended = planOf({ n: d.count().over("24h"), near: d.min("amount").over("1h") }, two.lock);
    expect(await tickOf(mended, 5)).toMatchObject({ state: "ok" });
    expect(await currentEpoch(world.table.port, mended.lock)).toBe(1);
  });

  it("may claim windows whose tiles are gone: those slots begin anew", async () => {
    await tickOf(one, 0);
    await tickOf(two, 1);
    const sum = cell(one.plan, "sum");
    // The count stays in its slot when only half a day of it is left, and what the day needed is pruned.
    const half = planOf(
      { n: d.count().over("12h").every("1h"), spent: d.sum("amount", { scale: 2 }).over("1h") },
      two.lock,
    );
    expect(cell(half.plan, "count")).toBe(cell(one.plan, "count"));
    await tickOf(half, 2);
    const before = await births(0);
    await tickOf(one, 30);
    const after = await births(0);
    expect(after[sum]).toBe(before[sum]);
    expect(after[cell(one.plan, "count")] * MINUTE).toBeGreaterThan(NOW + 31 * MINUTE);
    // Once: the claim is true from its birth on.
    await tickOf(one, 40);
    expect(await births(0)).toEqual(after);
  });

  it("is no danger to a store that is restored: nothing in it is older", async () => {
    await tickOf(one, 0);
    await tickOf(two, 1);
    await world.admin.del(controlKey(100));
    const reverted = planOf({ n: d.count().over("24h"), near: d.min("amount").over("1h") }, one.lock);
    expect(await tickOf(reverted, 2)).toMatchObject({ state: "lost" });
    await beginRestore(portsOf(reverted.plan, reverted.lock), NOW + 3 * MINUTE);
    expect(await tickOf(reverted, 4)).toMatchObject({ state: "restoring" });
  });
});
