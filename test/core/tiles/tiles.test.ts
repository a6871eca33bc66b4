import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { hash64 } from "../../../adapters/hash.ts";
import { compileGroups, identityText } from "../../../core/event.ts";
import { EntityTiles, type Update, withStatus } from "../../../core/tiles/tiles.ts";
import { floorTo } from "../../../core/tiles/window.ts";
import { plan } from "../../support/fixture-plan.ts";
import { GROUP_PLANS } from "../../support/group-plans.ts";
import { runs } from "../../support/runs.ts";
import { type NaiveEvent, naive } from "../naive.ts";

const hash32 = (text: string) => Number.parseInt(hash64(text).slice(0, 8), 16);
const [reader] = compileGroups(plan, "payments", hash64);
const START = Date.UTC(2026, 0, 5, 22, 17);

/** Of a whole. Not `fc.double`, which draws nearly all of its values close to 0. */
const share = fc.nat(1_000_000).map((n) => n / 1_000_000);
/** Amounts that hurt: equal, negative, tiny, huge but within the limit, and nulls. */
const amount = fc.oneof(
  fc.constantFrom(null, 0, -0, 0.005, 1.005, -12.34, 100, 87960930222.07),
  fc.double({ min: -1e6, max: 1e6, noNaN: true }),
);
const event = fc.record({
  id: fc.integer({ min: 0, max: 60 }).map((n) => `e${n}`),
  /** Share of the run's span; sometimes one of few values, so that times are often equal. */
  at: fc.oneof(
    fc.nat(20).map((n) => n / 20),
    share,
  ),
  amount,
  country: fc.constantFrom("NO", "SE", null),
  shop: fc.integer({ min: 0, max: 80 }).map((n) => `s${n}`),
  online: fc.constantFrom(true, false, null),
});
type Raw = typeof event extends fc.Arbitrary<infer T> ? T : never;

/** A run plays within minutes, hours or days: each has its own boundaries to fall on. */
const span = fc.constantFrom(40 * 60_000, 7 * 3_600_000, 9 * 86_400_000);

/** The same id always means the same event: identity covers the time, so the offset is made a part of it. */
function toEvent(raw: Raw, spanMs = 9 * 86_400_000): NaiveEvent {
  const timeMs = START + Math.round(raw.at * spanMs);
  return {
    identity: hash64(identityText("default", "payments", timeMs, raw.id)),
    timeMs,
    fields: { ...raw, at: timeMs },
  };
}
const toUpdate = (e: NaiveEvent, { channels } = reader): Update => ({
  identity: e.identity,
  timeMs: e.timeMs,
  contributions: channels.map((channel) => channel(e.fields)),
});
/** Events with equal identity must carry one payload, as the first visible one wins. */
function firstOfEach(events: readonly NaiveEvent[]): NaiveEvent[] {
  const seen = new Map<string, NaiveEvent>();
  for (const e of events) if (!seen.has(e.identity)) seen.set(e.identity, e);
  return [...seen.values()];
}

const SLOW = new Set(["every operator", "only lifetime windows", "lists", "percentiles", "sums that fade"]);

describe("tiles of one entity", () => {
  it.each(Object.entries(GROUP_PLANS))(
    "equal the naive aggregate, whatever order, duplicates, seals, folds and prunes: %s",
    (name, groupPlan) => {
      const [reader] = compileGroups(groupPlan, "payments", hash64);
      const { group } = reader;
      const [view] = groupPlan.views;
      fc.assert(
        fc.property(
          fc.array(event, { maxLength: 60 }),
          fc.array(fc.tuple(fc.nat(60), share), { maxLength: 6 }),
          span,
          fc.array(share, { minLength: 4, maxLength: 4 }),
          (raws, seals, spanMs, afters) => {
            let sealMs = floorTo(START - 86_400_000, group.baseMs);
            const tiles = new EntityTiles(group, sealMs);
            const visible: NaiveEvent[] = [];
            let latest = START;
            raws.forEach((raw, index) => {
              const e = toEvent(raw, spanMs);
              for (const [when, at] of seals) {
                if (when !== index) continue;
                sealMs = Math.max(sealMs, floorTo(START + at * spanMs, group.baseMs));
                tiles.fold(sealMs);
              }
              latest = Math.max(latest, e.timeMs);
              const { fate } = tiles.apply(toUpdate(e, reader), sealMs, latest);
              const isBelow = e.timeMs < sealMs;
              if ((fate === "sealed") !== isBelow)
                throw new Error(`${fate} at ${e.timeMs}, with the seal at ${sealMs}`);
              if (fate === "applied") visible.push(e);
            });
            const newest = Math.max(...visible.map((e) => e.timeMs));
            for (const after of afters) {
              // A reader's clock is never behind the seal.
              const t = Math.max(latest, sealMs) + Math.round(after * spanMs);
              const silent = view.reachMs !== null && newest <= t - view.reachMs;
              for (const feature of view.features) {
                const read = tiles.read(view, feature, t);
                if (visible.length === 0 || silent) expect(read.status).toBe("NOT_FOUND");
                else {
                  const value = naive(group, feature, visible, t, hash32);
                  // An assertion is dearer than what it is about, so none is made of what is the same number or text.
                  if (!Object.is(read.value, value)) {
                    expect({ feature: feature.name, value: read.value }).toEqual({ feature: feature.name, value });
                  }
                  if (read.eventTimeMs !== newest) expect(read.eventTimeMs).toBe(newest);
                }
              }
            }
          },
        ),
        { numRuns: runs(SLOW.has(name) ? 100 : 500) },
      );
    },
  );

  it("do not depend on order, duplicates or grouping into batches", () => {
    fc.assert(
      fc.property(fc.array(event, { maxLength: 60 }), fc.infiniteStream(fc.nat()), (raws, random) => {
        const events = firstOfEach(raws.map((raw) => toEvent(raw)));
        const shuffled = [...events, ...events.slice(0, 10)]
          .map((e) => ({ e, key: random.next().value as number }))
          .sort((a, b) => a.key - b.key)
          .map(({ e }) => e);
        const [a, b] = [new EntityTiles(reader.group, 0), new EntityTiles(reader.group, 0)];
        for (const e of events) a.apply(toUpdate(e), 0, 1);
        for (const e of shuffled) b.apply(toUpdate(e), 0, 2);
        expect(b.levels).toEqual(a.levels);
        expect(b.newest).toEqual(a.newest);
      }),
      { numRuns: runs(200) },
    );
  });

  it("answer a duplicate with the time of the first apply", () => {
    const tiles = new EntityTiles(reader.group, 0);
    const update = toUpdate(toEvent({ id: "a", at: 0, amount: 1, country: "NO", shop: "s", online: true }));
    expect(tiles.apply(update, 0, 111)).toEqual({ fate: "applied", visibleMs: 111 });
    expect(tiles.apply(update, 0, 999)).toEqual({ fate: "duplicate", visibleMs: 111 });
  });

  it("keep memory bounded: after a week of steady events only what windows need is left", () => {
    const tiles = new EntityTiles(reader.group, START);
    for (let minute = 0; minute < 10 * 24 * 60; minute += 7) {
      const e = toEvent({
        id: `x${minute}`,
        at: minute / (9 * 24 * 60),
        amount: 1,
        country: "NO",
        shop: "s",
        online: true,
      });
      tiles.apply(toUpdate(e), tiles.foldedMs, e.timeMs);
      tiles.fold(Math.floor((e.timeMs - 720_000) / 60_000) * 60_000);
    }
    const sizes = tiles.levels.map((level, index) => [reader.group.levels[index].sizeMs / 60_000, level.size]);
    expect(tiles.ids.size).toBeLessThan(4);
    for (const [minutes, count] of sizes) {
      // Nothing is kept longer than its longest window, its hop and the parts of the coarser interval that is still open.
      const { retainMs } = reader.group.levels.find((level) => level.sizeMs === minutes * 60_000)!;
      expect(count * minutes).toBeLessThan(retainMs / 60_000 + 2 * 1440);
    }
  });
});

describe("the status of a value", () => {
  const T = START;
  const of = (ttlMs: number, reachMs: number | null) => ({ ...plan.views[0], ttlMs, reachMs });
  const DAY = 86_400_000;

  it.each([
    { name: "as old as its ttl", value: 7, age: 30 * DAY, status: "PRESENT" },
    { name: "as old as its ttl, without a value", value: null, age: 30 * DAY, status: "NULL_VALUE" },
    { name: "a millisecond older than its ttl", value: 7, age: 30 * DAY + 1, status: "OUTSIDE_MAX_AGE" },
    { name: "a millisecond older, without a value", value: null, age: 30 * DAY + 1, status: "OUTSIDE_MAX_AGE" },
    { name: "ahead of the reader", value: 7, age: -1, status: "PRESENT" },
  ])("$name: $status", ({ value, age, status }) => {
    const eventTimeMs = T - age;
    const served = status === "PRESENT" ? value : null;
    expect(withStatus(of(30 * DAY, null), value, eventTimeMs, T, true)).toEqual({ value: served, status, eventTimeMs });
  });

  it.each([
    { age: DAY - 1, status: "PRESENT" },
    { age: DAY, status: "NOT_FOUND" },
    // The reach comes first: what no window can hold any more is gone, however long a value may be served.
    { age: 30 * DAY + 1, status: "NOT_FOUND" },
  ])("of a view that reaches back a day, for an event $age ms ago: $status", ({ age, status }) => {
    const found = status === "PRESENT";
    expect(withStatus(of(30 * DAY, DAY), 7, T - age, T, true)).toEqual({
      value: found ? 7 : null,
      status,
      eventTimeMs: found ? T - age : null,
    });
  });
});
