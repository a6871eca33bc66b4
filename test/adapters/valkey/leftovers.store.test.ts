/** What a busy entity keeps: nothing that only another slot's windows, or a plan of the past, would need. */
import { expect, it } from "vitest";
import { hash64 } from "../../../adapters/hash.ts";
import { compile, EMPTY_LOCK, type Lock } from "../../../core/compile/compile.ts";
import * as d from "../../../core/definition.ts";
import { identityText } from "../../../core/event.ts";
import type { Plan } from "../../../core/plan.ts";
import { type NaiveEvent, naive } from "../../core/naive.ts";
import { fileStore } from "../../support/file-store.ts";
import { card, contracts, payments } from "../../support/fixture-plan.ts";
import { allBorn, type OneEntity } from "../../support/one-entity.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const START = Date.UTC(2026, 0, 5, 22, 17);
const store = fileStore();
const hash32 = (text: string) => Number.parseInt(hash64(text).slice(0, 8), 16);

function planOf(features: Record<string, d.AggregationDefinition>, lock: Lock = EMPTY_LOCK) {
  const view = d.featureView("v", { entity: card, source: payments, ttl: "3650d", owner: "o", features });
  return compile({ entities: [card], streams: [payments], views: [view], services: [] }, contracts, lock, hash64);
}

/** One payment each half hour, with the seal a quarter of an hour behind. */
class BusyCard {
  readonly events: NaiveEvent[] = [];
  readonly one: OneEntity;
  nowMs = START;

  constructor(tenant: string) {
    this.one = store.entity(tenant);
  }

  async pay(plan: Plan, forMs: number): Promise<void> {
    const [group] = plan.groups;
    const writer = this.one.writer(plan);
    for (const endMs = this.nowMs + forMs; this.nowMs < endMs; this.nowMs += 30 * MINUTE) {
      await this.one.control([{ group, sealMs: this.nowMs - 15 * MINUTE, births: allBorn(group) }]);
      const id = `e${this.events.length}`;
      const fields = { shop: `s${this.events.length % 7}`, amount: 1.25 };
      await writer.apply([{ id, timeMs: this.nowMs, fields }]);
      const identity = hash64(identityText(this.one.tenant, "payments", this.nowMs, id));
      this.events.push({ identity, timeMs: this.nowMs, fields });
    }
  }

  async expectRight(plan: Plan): Promise<void> {
    const asOfMs = this.nowMs - MINUTE;
    const values = await this.one.read(plan, asOfMs);
    for (const feature of plan.views[0].features) {
      const expected = naive(plan.groups[0], feature, this.events, asOfMs, hash32);
      expect([feature.name, values.get(feature.name)!.value]).toEqual([feature.name, expected]);
    }
  }

  /** Tiles by level id, and objects by slot and level id: where each starts, in ms. */
  async stored(plan: Plan) {
    const tiles: { level: number; index: number }[] = [];
    const objects: { slot: number; level: number; startMs: number }[] = [];
    const sizes = new Map(plan.groups[0].levels.map(({ id, sizeMs }) => [id, sizeMs]));
    for (const hex of (await this.one.dump()).keys()) {
      const name = Buffer.from(hex, "hex");
      if (name.length === 5 && name[0] < 65) tiles.push({ level: name[0], index: name.readUInt32BE(1) });
      if (name.length === 7 && name[0] === 0x73) {
        const size = sizes.get(name[2]) ?? Number.NaN;
        objects.push({ slot: name[1], level: name[2], startMs: name.readUInt32BE(3) * size });
      }
    }
    return { tiles, objects };
  }
}

it("objects go when their own windows have passed them, although counts of the same level stay for weeks", async () => {
  const { plan } = planOf({
    n: d.count().over("21d"),
    week: d.count().over("9d"),
    shops: d.approxDistinct("shop").over("24h"),
  });
  const busy = new BusyCard("objects");
  await busy.pay(plan, 6 * DAY);
  const { tiles, objects } = await busy.stored(plan);
  const hourly = plan.groups[0].levels.find(({ sizeMs }) => sizeMs === HOUR)!.id;
  expect(tiles.filter(({ level }) => level === hourly).length).toBeGreaterThan(5 * 24);
  // A day for the window, one until the daily look.
  expect(Math.min(...objects.map(({ startMs }) => startMs))).toBeGreaterThan(busy.nowMs - 2 * DAY - 3 * HOUR);
  await busy.expectRight(plan);
});

it("tiles and objects of sizes that only removed windows had go while the entity stays busy", async () => {
  const kept = { ever: d.count().over("lifetime"), day: d.count().over("24h"), last_shop: d.last("shop") };
  const first = planOf({
    ...kept,
    n: d.count().over("70m").every("7m"),
    shops: d.approxDistinct("shop").over("70m").every("7m"),
  });
  const second = planOf(kept, first.lock);
  const busy = new BusyCard("removed");
  await busy.pay(first.plan, 1.5 * DAY);
  const gone = first.plan.groups[0].levels.filter(
    ({ id }) => !second.plan.groups[0].levels.some((level) => level.id === id),
  );
  expect(gone.map(({ sizeMs }) => sizeMs)).toEqual([7 * MINUTE]);
  const before = await busy.stored(first.plan);
  expect(before.tiles.some(({ level }) => level === gone[0].id)).toBe(true);
  expect(before.objects.some(({ level }) => level === gone[0].id)).toBe(true);
  await busy.pay(second.plan, 1.5 * DAY);
  const { tiles, objects } = await busy.stored(second.plan);
  expect([...tiles, ...objects].filter(({ level }) => level === gone[0].id)).toEqual([]);
  await busy.expectRight(second.plan);
});

it("a plan that comes back finds nothing of its removed sizes, and what it serves as ready is right", async () => {
  const kept = { ever: d.count().over("lifetime") };
  const first = planOf({ ...kept, n: d.count().over("70m").every("7m") });
  const second = planOf(kept, first.lock);
  const busy = new BusyCard("back");
  await busy.pay(first.plan, DAY);
  await busy.pay(second.plan, DAY);
  // As the control function has it: a slot that was away is born anew, and its window is ready once it begins after that.
  await busy.pay(first.plan, 3 * HOUR);
  await busy.expectRight(first.plan);
});
