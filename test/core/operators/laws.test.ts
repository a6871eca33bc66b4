/** Every operator under every law: a row that is added to `ROWS` is held to all of them. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { hash64 } from "../../../adapters/hash.ts";
import * as d from "../../../core/definition.ts";
import { compileGroups, identityText } from "../../../core/event.ts";
import { accumulatorOf, type State } from "../../../core/operators/accumulators.ts";
import type { Scalar } from "../../../core/plan.ts";
import { EntityTiles, type Update } from "../../../core/tiles/tiles.ts";
import { viewPlan } from "../../support/group-plans.ts";
import { runs } from "../../support/runs.ts";
import { type NaiveEvent, naive } from "../naive.ts";

const START = Date.UTC(2026, 2, 1, 12, 3);
const LARGEST = (2 ** 43 - 1) / 100;

const amounts = fc.oneof(
  fc.constantFrom(0, -0, 0.005, -1.005, LARGEST, -LARGEST),
  fc.integer({ min: -1e9, max: 1e9 }).map((n) => n / 100),
);
/** Beyond what buckets tell apart, at their edges, and between. */
const extremes = fc.oneof(
  fc.integer({ min: -70, max: 70 }).map((n) => 2 ** n),
  fc.integer({ min: -130, max: 130 }).map((n) => n / 64),
  fc.constantFrom(0, -0, 5e-324, -1.7976931348623157e308, 2 ** 64, 2 ** -64, -(2 ** -65), 1 - 2 ** -53),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
);
const texts = fc.oneof(fc.constantFrom("", "NO", "ｚ", "𝄞", "'; --"), fc.string({ maxLength: 5 }));
const scaled = { scale: 2 } as const;

interface Row {
  readonly feature: d.AggregationDefinition;
  /** What one event may carry in the field that the operator reads. */
  readonly values: fc.Arbitrary<Scalar>;
  readonly field: string;
}
const ROWS: Readonly<Record<string, Row>> = {
  count: { feature: d.count(), field: "amount", values: amounts },
  sum: { feature: d.sum("amount", scaled), field: "amount", values: amounts },
  mean: { feature: d.mean("amount", scaled), field: "amount", values: amounts },
  min: { feature: d.min("amount"), field: "amount", values: amounts },
  max: { feature: d.max("amount"), field: "amount", values: amounts },
  variance: { feature: d.variance("amount", scaled), field: "amount", values: amounts },
  stddev: { feature: d.stddev("amount", scaled), field: "amount", values: amounts },
  "sample stddev": { feature: d.stddev("amount", { scale: 2, sample: true }), field: "amount", values: amounts },
  "first number": { feature: d.first("amount"), field: "amount", values: amounts },
  "last number": { feature: d.last("amount"), field: "amount", values: amounts },
  "last text": { feature: d.last("country"), field: "country", values: texts },
  "last boolean": { feature: d.last("online"), field: "online", values: fc.boolean() },
  decayedSum: {
    feature: d.decayedSum("amount", { scale: 2, halfLife: "1m" }).over("10m"),
    field: "amount",
    values: amounts,
  },
  "lastN of texts": { feature: d.lastN("country", { n: 3 }), field: "country", values: texts },
  "lastN of numbers": { feature: d.lastN("amount", { n: 7 }), field: "amount", values: amounts },
  "topK of texts": { feature: d.topK("country", { k: 3 }), field: "country", values: texts },
  "topK of many": { feature: d.topK("shop", { k: 2 }), field: "shop", values: fc.nat(9).map((n) => `s${n}`) },
  "topK of booleans": { feature: d.topK("online", { k: 2 }), field: "online", values: fc.boolean() },
  approxPercentile: { feature: d.approxPercentile("amount", { p: 0.9 }), field: "amount", values: amounts },
  "low approxPercentile": { feature: d.approxPercentile("amount", { p: 0.07 }), field: "amount", values: extremes },
  approxDistinct: { feature: d.approxDistinct("shop"), field: "shop", values: fc.nat(90).map((n) => `s${n}`) },
  timeSinceLast: { feature: d.timeSinceLast(), field: "amount", values: amounts },
};
const hash32 = (text: string) => Number.parseInt(hash64(text).slice(0, 8), 16);

function setUp({ feature: definition, field, values }: Row) {
  const plan = viewPlan({ x: definition });
  const [reader] = compileGroups(plan, "payments", hash64);
  const [view] = plan.views;
  const [feature] = view.features;
  const { group } = reader;

  const toEvent = (value: Scalar, n: number, minute: number): NaiveEvent => {
    const timeMs = START + minute * 20_000;
    const fields = { id: `e${n}`, at: timeMs, card: "c", [field]: value };
    return { identity: hash64(identityText("default", "payments", timeMs, `e${n}`)), timeMs, fields };
  };
  const toUpdate = (e: NaiveEvent): Update => ({
    identity: e.identity,
    timeMs: e.timeMs,
    contributions: reader.channels.map((channel) => channel(e.fields)),
  });
  /** Events with few distinct times, so that ties are common. */
  const events = fc
    .array(fc.tuple(values, fc.nat(8)), { maxLength: 25 })
    .map((drawn) => drawn.map(([value, minute], n) => toEvent(value, n, minute)));
  const slots = group.slots.map((slot) => ({ ...accumulatorOf(slot), channel: slot.channel }));
  /** The state of each slot after some events, straight from its accumulator. */
  const fold = (list: readonly NaiveEvent[]): State[] =>
    slots.map(({ empty, lift, combine, channel }) =>
      list.map(toUpdate).reduce((state: State, { contributions, timeMs, identity }) => {
        const contribution = contributions[channel];
        return contribution === null ? state : combine(state, lift(contribution, timeMs, identity));
      }, empty),
    );
  const merge = (a: readonly State[], b: readonly State[]) => slots.map(({ combine }, s) => combine(a[s], b[s]));
  /** The served value, through tiles that are folded half-way. */
  const serve = (list: readonly NaiveEvent[], sealMs = START) => {
    const tiles = new EntityTiles(group, START - 86_400_000);
    for (const e of list) tiles.apply(toUpdate(e), START - 86_400_000, START);
    tiles.fold(sealMs);
    return tiles.read(view, feature, START + 240_000);
  };
  const expected = (list: readonly NaiveEvent[]) => naive(group, feature, list, START + 240_000, hash32);
  return { events, fold, merge, serve, expected, toEvent, slots };
}

type Bench = ReturnType<typeof setUp>;
const shuffled = <T>(items: readonly T[]) => fc.shuffledSubarray([...items], { minLength: items.length });

/** Of any draws. */
const hold = <T>(property: fc.IProperty<T>) => fc.assert(property, { numRuns: runs(100) });

const LAWS: Readonly<Record<string, (bench: Bench, row: Row) => void>> = {
  "is commutative": ({ events, fold, merge }) =>
    hold(
      fc.property(events, fc.nat(25), (all, cut) => {
        const [a, b] = [fold(all.slice(0, cut)), fold(all.slice(cut))];
        expect(merge(b, a)).toEqual(merge(a, b));
      }),
    ),
  "is associative": ({ events, fold, merge }) =>
    hold(
      fc.property(events, fc.nat(12), fc.nat(12), (all, first, more) => {
        const parts = [all.slice(0, first), all.slice(first, first + more), all.slice(first + more)].map(fold);
        expect(merge(merge(parts[0], parts[1]), parts[2])).toEqual(merge(parts[0], merge(parts[1], parts[2])));
      }),
    ),
  "has an identity": ({ events, fold, merge }) =>
    hold(
      fc.property(events, (all) => {
        expect(merge(fold([]), fold(all))).toEqual(fold(all));
        expect(merge(fold(all), fold([]))).toEqual(fold(all));
      }),
    ),
  "folds in any order to the same state": ({ events, fold }) =>
    hold(
      fc.property(
        events.chain((all) => fc.tuple(fc.constant(all), shuffled(all))),
        ([all, other]) => {
          expect(fold(other)).toEqual(fold(all));
        },
      ),
    ),
  "folds in any grouping to the same state": ({ events, fold, merge }) =>
    hold(
      fc.property(events, fc.integer({ min: 1, max: 7 }), (all, size) => {
        const groups = Array.from({ length: Math.ceil(all.length / size) }, (_, i) =>
          fold(all.slice(i * size, (i + 1) * size)),
        );
        expect(groups.reduce(merge, fold([]))).toEqual(fold(all));
      }),
    ),
  "counts a duplicate once": ({ events, serve }) =>
    hold(
      fc.property(
        events.chain((all) => fc.tuple(fc.constant(all), shuffled([...all, ...all.slice(0, 9)]))),
        ([all, repeated]) => {
          expect(serve(repeated)).toEqual(serve(all));
        },
      ),
    ),
  "is what the naive aggregate is, folded up to anywhere": ({ events, serve, expected }) =>
    hold(
      fc.property(events, fc.integer({ min: -2, max: 4 }), (all, minutes) => {
        const { value, status } = serve(all, START + minutes * 60_000 - 180_000);
        if (all.length === 0) expect(status).toBe("NOT_FOUND");
        else expect(value).toEqual(expected(all));
      }),
    ),
  "of one event is that event's": ({ serve, expected, toEvent }, { values }) =>
    hold(
      fc.property(values, (value) => {
        expect(serve([toEvent(value, 1, 3)]).value).toEqual(expected([toEvent(value, 1, 3)]));
      }),
    ),
  "takes -0 for 0": ({ fold, toEvent }, { field }) => {
    const zero = (sign: number) => fold([toEvent(field === "amount" ? sign * 0 : "x", 1, 0)]);
    expect(zero(-1)).toEqual(zero(1));
  },
  "is not touched by an absent input": ({ events, fold, toEvent }, { feature }) =>
    hold(
      fc.property(events, (all) => {
        const absent = [toEvent(null, 900, 1), toEvent(null, 901, 9)];
        // What takes no field has no input that could be absent: it counts the event itself.
        const takesNoField = feature.operator === "count" || feature.operator === "timeSinceLast";
        if (takesNoField) expect(fold([...all, ...absent])).not.toEqual(fold(all));
        else expect(fold([...all, ...absent])).toEqual(fold(all));
      }),
    ),
  "of an empty window is null, and 0 for a count": ({ slots, fold }, { feature }) => {
    const plan = viewPlan({ x: feature.over("5m"), n: d.count().over("24h") });
    const [reader] = compileGroups(plan, "payments", hash64);
    const [view] = plan.views;
    const tiles = new EntityTiles(reader.group, 0);
    const contributions = reader.channels.map(() => null);
    tiles.apply({ identity: "00", timeMs: START - 3_600_000, contributions }, 0, START);
    const empty =
      feature.operator === "count" ? { value: 0, status: "PRESENT" } : { value: null, status: "NULL_VALUE" };
    expect(tiles.read(view, view.features[0], START)).toMatchObject(empty);
    expect(fold([])).toEqual(slots.map(({ empty }) => empty));
  },
};

describe.each(Object.entries(ROWS))("%s", (_, row) => {
  const bench = setUp(row);
  it.each(Object.entries(LAWS))("%s", (_, law) => law(bench, row));
});

describe("numbers at their limits", () => {
  const numeric = (feature: d.AggregationDefinition) => setUp({ feature, field: "amount", values: amounts });
  const many = (bench: Bench, values: readonly number[]) => values.map((value, n) => bench.toEvent(value, n, n % 9));
  const repeat = (times: number, value: number) => new Array<number>(times).fill(value);

  it("a running sum that passes 2^53 and comes back is exact, in any order", () => {
    const bench = numeric(d.sum("amount", scaled));
    const values = [...repeat(1_100, LARGEST), 0.01, ...repeat(1_100, -LARGEST)];
    const mixed = values.map((_, i) => values[(i * 577) % values.length]);
    expect(bench.serve(many(bench, values)).value).toBe(0.01);
    expect(bench.serve(many(bench, mixed)).value).toBe(0.01);
    expect(bench.serve(many(bench, [...values].reverse())).value).toBe(0.01);
  });

  it.each([
    ["sum", d.sum("amount", scaled), 1],
    ["mean", d.mean("amount", scaled), 1],
    ["sum", d.sum("amount", scaled), -1],
    ["mean", d.mean("amount", scaled), -1],
  ])("a %s is null from 2^53 minor units on, exact below (%#)", (_, feature, sign) => {
    const bench = numeric(feature);
    const count = 1_024;
    // 1,024 times 2^43 - 1 is 2^53 - 1,024: the greatest total below 2^53 of so many.
    const below = many(bench, repeat(count, sign * LARGEST));
    expect(bench.serve(below).value).toBe(bench.expected(below));
    expect(bench.serve(below).value).not.toBeNull();
    const at = many(bench, [...repeat(count, sign * LARGEST), sign * 10.24]);
    expect(bench.serve(at)).toMatchObject({ value: null, status: "NULL_VALUE" });
  });

  it("a variance is exact as long as its squares fit 2^93, and null from there on, in any order and grouping", () => {
    const bench = numeric(d.variance("amount", scaled));
    const half = 2 ** 42 / 100;
    const fits = many(bench, [...repeat(200, half), ...repeat(200, -half), 1]);
    expect(bench.serve(fits).value).toBe(bench.expected(fits));
    for (const count of [512, 513, 4_096, 8_192]) {
      const full = many(bench, repeat(count, half));
      expect(bench.serve(full).value).toBeNull();
      expect(bench.fold([...full].reverse())).toEqual(bench.fold(full));
      const [left, right] = [bench.fold(full.slice(0, 300)), bench.fold(full.slice(300))];
      expect(bench.merge(left, right)).toEqual(bench.fold(full));
    }
  });

  it("sums of 0.01 are exact where doubles are not", () => {
    const bench = numeric(d.sum("amount", scaled));
    const cents = repeat(1_000, 0.01);
    expect(bench.serve(many(bench, cents)).value).toBe(10);
    expect(cents.reduce((a, b) => a + b, 0)).not.toBe(10);
  });

  it("a variance far from zero does not cancel", () => {
    const bench = numeric(d.variance("amount", scaled));
    const values = many(bench, [LARGEST, LARGEST - 0.02, LARGEST, LARGEST - 0.02]);
    expect(bench.serve(values).value).toBe(0.0001);
  });

  it("ties of first and last go by the identity's hash, whatever comes first", () => {
    const bench = numeric(d.last("amount"));
    const tied = [1, 2, 3, 4].map((value) => bench.toEvent(value, value, 0));
    const winner = [...tied].sort((a, b) => (a.identity < b.identity ? 1 : -1))[0];
    expect(bench.serve(tied).value).toBe(winner.fields["amount"]);
    expect(bench.serve([...tied].reverse()).value).toBe(winner.fields["amount"]);
  });

  it("a decayed sum halves each half-life, by whole hops of its window", () => {
    const feature = d.decayedSum("amount", { scale: 2, halfLife: "2m" }).over("10m");
    const bench = numeric(feature);
    // Served in minute 4: minutes 4 and 2 weigh 1 and 1/2, a value 5 s before a minute ends as much as one at its start.
    expect(bench.serve([bench.toEvent(8, 1, 12), bench.toEvent(8, 2, 14)]).value).toBe(16);
    expect(bench.serve([bench.toEvent(8, 1, 12), bench.toEvent(8, 2, 6)]).value).toBe(12);
    expect(bench.serve([bench.toEvent(8, 1, 12), bench.toEvent(8, 2, 3)]).value).toBeCloseTo(8 + 8 / 2 ** 1.5, 8);
  });

  it("a decayed sum of values that cancel is 0, and of none null", () => {
    const bench = numeric(d.decayedSum("amount", { scale: 2, halfLife: "1m" }).over("10m"));
    expect(bench.serve([bench.toEvent(LARGEST, 1, 1), bench.toEvent(-LARGEST, 2, 1)]).value).toBe(0);
    expect(bench.serve([bench.toEvent(null, 1, 1)])).toMatchObject({ value: null, status: "NULL_VALUE" });
  });

  it("a topK is exact to 64 different values and null beyond, in any order and grouping", () => {
    const bench = setUp({ feature: d.topK("shop", { k: 1 }), field: "shop", values: texts });
    const shops = Array.from({ length: 64 }, (_, n) => bench.toEvent(`s${n}`, n, n % 9));
    const most = [...shops, bench.toEvent("s7", 64, 1)];
    expect(bench.serve(most)).toMatchObject({ value: ["s7"], status: "PRESENT" });
    const beyond = [
      ...most,
      bench.toEvent("another", 65, 2),
      ...shops.slice(0, 9).map((_, n) => bench.toEvent("s7", 70 + n, 3)),
    ];
    expect(bench.serve(beyond)).toMatchObject({ value: null, status: "NULL_VALUE" });
    expect(bench.serve([...beyond].reverse()).value).toBeNull();
    for (const cut of [1, 40, 66]) {
      const merged = bench.merge(bench.fold(beyond.slice(0, cut)), bench.fold(beyond.slice(cut)));
      expect(merged).toEqual(bench.fold(beyond));
      expect(merged).toEqual(["overflow"]);
    }
  });

  it("time since last is never negative, and counts from the newest event", () => {
    const bench = numeric(d.timeSinceLast());
    expect(bench.serve([bench.toEvent(1, 1, 12)]).value).toBe(0);
    expect(bench.serve([bench.toEvent(1, 1, 0), bench.toEvent(1, 2, 3)]).value).toBe(180);
  });
});
