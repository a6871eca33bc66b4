/** Features of one view as somebody might declare them, for properties over plans that follow each other. */
import fc from "fast-check";
import * as d from "../../core/definition.ts";

const SIZES = { "10m": 10, "30m": 30, "1h": 60, "6h": 360, "12h": 720, "24h": 1_440, "7d": 10_080 } as const;
const HOPS = { "5m": 5, "6m": 6, "1h": 60, "6h": 360 } as const;
const OPERATORS = [
  d.count(),
  d.sum("amount", { scale: 2 }),
  d.min("amount"),
  d.last("country"),
  d.approxDistinct("shop"),
  d.lastN("country", { n: 3 }),
  d.approxPercentile("amount", { p: 0.5 }),
  d.topK("shop", { k: 3 }),
  d.decayedSum("amount", { scale: 2, halfLife: "6h" }),
  d.stddev("amount", { scale: 2 }),
];

const keys = <T extends object>(of: T) => Object.keys(of) as (keyof T)[];
const feature = fc
  .tuple(
    fc.constantFrom(...OPERATORS),
    fc.constantFrom(...keys(SIZES), "lifetime" as const),
    fc.constantFrom(null, ...keys(HOPS)),
    fc.constantFrom(null, null, "12h" as const, "24h" as const),
  )
  .map(([operator, size, hop, delay]) => {
    // A sum that fades has no lifetime.
    const windowed = (size === "lifetime" && operator.operator === "decayedSum" ? d.count() : operator).over(size);
    if (size === "lifetime") return windowed;
    // Each hop of a sum that fades is a tile to read.
    const hops = operator.operator === "decayedSum" ? 1_000 : Number.POSITIVE_INFINITY;
    const stepped =
      hop !== null && SIZES[size] / HOPS[hop] <= hops && SIZES[size] % HOPS[hop] === 0 ? windowed.every(hop) : windowed;
    return delay === null ? stepped : stepped.delayedBy(delay);
  });

export const featureSet = (maxLength: number): fc.Arbitrary<Record<string, d.AggregationDefinition>> =>
  fc
    .array(feature, { maxLength })
    .map((list) => Object.fromEntries(list.map((aggregation, i) => [`f${i}`, aggregation])));
