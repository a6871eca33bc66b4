import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { hash64 } from "../../adapters/hash.ts";
import { compileGroups, identityText } from "../../core/event.ts";
import type { View } from "../../core/plan.ts";
import { EntityTiles, type Update } from "../../core/tiles.ts";
import { plan } from "../support/fixture-plan.ts";
import { type NaiveEvent, naive } from "./naive.ts";

const [reader] = compileGroups(plan, "payments", hash64);
const view = plan.views.find(({ name }) => name === "everything") as View;
const hash32 = (text: string) => Number.parseInt(hash64(text).slice(0, 8), 16);
const START = Date.UTC(2026, 0, 5, 22, 17);

/** Amounts that hurt: equal, negative, tiny, huge but within the limit, and nulls. */
const amount = fc.oneof(
  fc.constantFrom(null, 0, -0, 0.005, 1.005, -12.34, 100, 87960930222.07),
  fc.double({ min: -1e6, max: 1e6, noNaN: true }),
);
const event = fc.record({
  id: fc.integer({ min: 0, max: 60 }).map((n) => `e${n}`),
  // Minutes to days back and forth, with many equal times.
  offset: fc.oneof(
    fc.integer({ min: 0, max: 40 }).map((m) => m * 60_000),
    fc.integer({ min: 0, max: 9 * 86_400_000 }),
  ),
  amount,
  country: fc.constantFrom("NO", "SE", null),
  shop: fc.integer({ min: 0, max: 80 }).map((n) => `s${n}`),
  online: fc.constantFrom(true, false, null),
});
type Raw = typeof event extends fc.Arbitrary<infer T> ? T : never;

/** The same id always means the same event: identity covers the time, so the offset is made a part of it. */
function toEvent(raw: Raw): NaiveEvent {
  const timeMs = START + raw.offset;
  return {
    identity: hash64(identityText("default", "payments", timeMs, raw.id)),
    timeMs,
    fields: { ...raw, at: timeMs },
  };
}
const toUpdate = (e: NaiveEvent): Update => ({
  identity: e.identity,
  timeMs: e.timeMs,
  contributions: reader.channels.map((channel) => channel(e.fields)),
});
/** Events with equal identity must carry one payload, as the first visible one wins. */
function firstOfEach(events: readonly NaiveEvent[]): NaiveEvent[] {
  const seen = new Map<string, NaiveEvent>();
  for (const e of events) if (!seen.has(e.identity)) seen.set(e.identity, e);
  return [...seen.values()];
}

describe("tiles of one entity", () => {
  it("equal the naive aggregate: any order, duplicates, seals, folds and prunes at any moment", () => {
    fc.assert(
      fc.property(
        fc.array(event, { maxLength: 80 }),
        fc.array(fc.tuple(fc.nat(80), fc.integer({ min: 0, max: 10 * 86_400_000 })), { maxLength: 6 }),
        fc.integer({ min: 0, max: 3 * 86_400_000 }),
        (raws, seals, after) => {
          const tiles = new EntityTiles(reader.group, START - 86_400_000);
          let sealMs = START - 86_400_000;
          const visible: NaiveEvent[] = [];
          let latest = START;
          raws.map(toEvent).forEach((e, index) => {
            for (const [when, offset] of seals) {
              if (when !== index) continue;
              sealMs = Math.max(sealMs, Math.floor((START + offset) / 60_000) * 60_000);
              tiles.fold(sealMs);
            }
            latest = Math.max(latest, e.timeMs);
            const { fate } = tiles.apply(toUpdate(e), sealMs, latest);
            expect(fate === "sealed").toBe(e.timeMs < sealMs);
            if (fate === "applied") visible.push(e);
          });
          // A reader's clock is never behind the seal.
          const t = Math.max(latest, sealMs) + after;
          for (const feature of view.features) {
            const expected = naive(reader.group, feature, visible, t, hash32);
            const newest = Math.max(...visible.map((e) => e.timeMs));
            const read = tiles.read(view, feature, t);
            if (visible.length === 0) expect(read.status).toBe("NOT_FOUND");
            else {
              expect({ feature: feature.name, value: read.value }).toEqual({ feature: feature.name, value: expected });
              expect(read.eventTimeMs).toBe(newest);
            }
          }
        },
      ),
      { numRuns: 400 },
    );
  });

  it("do not depend on order, duplicates or grouping into batches", () => {
    fc.assert(
      fc.property(fc.array(event, { maxLength: 60 }), fc.infiniteStream(fc.nat()), (raws, random) => {
        const events = firstOfEach(raws.map(toEvent));
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
      { numRuns: 200 },
    );
  });

  it("answer a duplicate with the time of the first apply", () => {
    const tiles = new EntityTiles(reader.group, 0);
    const update = toUpdate(toEvent({ id: "a", offset: 0, amount: 1, country: "NO", shop: "s", online: true }));
    expect(tiles.apply(update, 0, 111)).toEqual({ fate: "applied", visibleMs: 111 });
    expect(tiles.apply(update, 0, 999)).toEqual({ fate: "duplicate", visibleMs: 111 });
  });

  it("keep memory bounded: after a week of steady events only what windows need is left", () => {
    const tiles = new EntityTiles(reader.group, START);
    for (let minute = 0; minute < 10 * 24 * 60; minute += 7) {
      const e = toEvent({
        id: `x${minute}`,
        offset: minute * 60_000,
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
