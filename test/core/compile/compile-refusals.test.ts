/** What the compiler refuses, each with rule, given value and repair. */
import { describe, expect, it } from "vitest";
import * as d from "../../../core/definition.ts";
import type { FreshetError } from "../../../core/errors.ts";
import { card, compiled, one, pay, using, view } from "../../support/one-view.ts";

function refusal(definitions: d.Definitions): string {
  try {
    compiled(definitions);
  } catch (error) {
    const { name, code, message, repair } = error as FreshetError;
    expect(name).toBe("DefinitionError");
    // The message ends with the repair, which can also be shown alone.
    if (code !== "duration_invalid") expect(message.endsWith(`; ${repair}`)).toBe(true);
    return `${code}: ${message}`;
  }
  return "accepted";
}

const repeated = (n: number) =>
  Object.fromEntries(Array.from({ length: n }, (_, i) => [`x${i}`, d.count({ where: d.gt("amount", i) })]));
const other = d.entity("shop", { joinKey: "shop" });

const REFUSED: readonly [string, d.Definitions, string][] = [
  [
    "a hop that does not divide the window",
    one(d.count().over("1h").every("7m")),
    "hop_does_not_divide: hop 7m of feature v:x does not divide window 1h; use 5m, 6m or 10m",
  ],
  [
    "a hop longer than its window",
    one(d.count().over("5m").every("1h")),
    "hop_does_not_divide: hop 1h of feature v:x does not divide window 5m; use 1m or 5m",
  ],
  [
    "a window finer than its stream's base",
    one(d.count().over("90s")),
    "hop_does_not_divide: hop 1m of feature v:x does not divide window 90s; use a window that is a multiple of the base 1m",
  ],
  [
    "a hop finer than the base",
    one(d.count().over("1h").every("30s")),
    "hop_not_multiple_of_base: hop 30s of feature v:x is no multiple of the stream's base 1m; use 1m",
  ],
  [
    "a hop that is no multiple of the base",
    one(d.count().over("1h").every("150s")),
    "hop_not_multiple_of_base: hop 150s of feature v:x is no multiple of the stream's base 1m; use 3m",
  ],
  [
    "a delay that is no multiple of the hop",
    one(d.count().over("24h").delayedBy("90m")),
    "delay_not_multiple_of_hop: delay 90m of feature v:x is no multiple of hop 1h; use 2h",
  ],
  [
    "a delayed lifetime",
    one(d.count().delayedBy("1h")),
    "delay_invalid: feature v:x delays a lifetime window; delay hopping windows only",
  ],
  [
    "a window that reaches back before 1970",
    one(d.count().over("3650d").every("1d").delayedBy("1d")),
    'window_too_long: window 3650d of feature v:x reaches back 3651d, the limit is 3650d; use a shorter window, or "lifetime"',
  ],
  [
    "a duration of another form",
    one(d.count().over("1 hour" as d.Duration)),
    'duration_invalid: over of feature v:x is a whole number and s, m, h or d, given "1 hour"',
  ],
  [
    "a duration of nothing",
    one(d.count().over("0m")),
    'duration_invalid: over of feature v:x is a whole number and s, m, h or d, given "0m"',
  ],
  [
    "a ttl shorter than window and delay",
    one(d.count().over("7d").delayedBy("7d"), { ttl: "10d" }),
    "ttl_too_short: ttl 10d of view v is shorter than its longest window with delay, 14d; use a ttl of at least 14d",
  ],
  [
    "a sum without a scale",
    one(d.sum("amount", {} as { scale: number })),
    "scale_required: sum of amount in feature v:x adds up exactly only in minor units, given scale none; " +
      "write { scale: 2 } for amounts with two decimal places (0 to 9)",
  ],
  [
    "a scale that is no number of digits",
    one(d.variance("amount", { scale: 1.5 })),
    "scale_required: variance of amount in feature v:x adds up exactly only in minor units, given scale 1.5; " +
      "write { scale: 2 } for amounts with two decimal places (0 to 9)",
  ],
  ...([undefined, 0, 33, 2.5] as number[]).map((n): [string, d.Definitions, string] => [
    `the last ${n ?? "unsaid number of"} values`,
    one(d.lastN("country", { n })),
    `parameter_invalid: lastN in feature v:x needs n, a whole number from 1 to 32, given ${n ?? "none"}; write { n: 5 }`,
  ]),
  ...([95, 0, 1, 0.9999999] as number[]).map((p): [string, d.Definitions, string] => [
    `the percentile ${p}`,
    one(d.approxPercentile("amount", { p })),
    "parameter_invalid: approxPercentile in feature v:x needs p, above 0 and below 1, of at most five decimals, given " +
      `${p}; write { p: 0.95 } for the 95th percentile`,
  ]),
  [
    "the top 33 values",
    one(d.topK("country", { k: 33 })),
    "parameter_invalid: topK in feature v:x needs k, a whole number from 1 to 32, given 33; write { k: 3 }",
  ],
  [
    "the most frequent of numbers with fractions",
    one(d.topK("amount", { k: 3 })),
    "field_type: feature v:x needs string or long or boolean, field amount is double; use another field",
  ],
  ...([undefined, 3_600_000] as any[]).map((halfLife): [string, d.Definitions, string] => [
    `a decayed sum with half-life ${halfLife}`,
    one(d.decayedSum("amount", { scale: 2, halfLife }).over("24h")),
    `parameter_invalid: decayedSum in feature v:x needs halfLife, a duration, given ${halfLife ?? "none"}; ` +
      'write { scale: 2, halfLife: "6h" }',
  ]),
  [
    "a half-life that is no duration",
    one(d.decayedSum("amount", { scale: 2, halfLife: "6 hours" as d.Duration }).over("24h")),
    'duration_invalid: halfLife of feature v:x is a whole number and s, m, h or d, given "6 hours"',
  ],
  [
    "a decayed sum without a scale",
    one(d.decayedSum("amount", { halfLife: "6h" } as any).over("24h")),
    "scale_required: decayedSum of amount in feature v:x adds up exactly only in minor units, given scale none; " +
      "write { scale: 2 } for amounts with two decimal places (0 to 9)",
  ],
  [
    "a decayed sum for ever",
    one(d.decayedSum("amount", { scale: 2, halfLife: "6h" })),
    "decay_lifetime: decayedSum in feature v:x needs a window, given lifetime: what has faded would be read for ever; " +
      'write .over("3d"), about ten half-lives',
  ],
  [
    "a half-life within a hop",
    one(d.decayedSum("amount", { scale: 2, halfLife: "20m" }).over("24h")),
    "half_life_too_short: half-life 20m of feature v:x is shorter than the hop 1h, within which all weighs the same; " +
      "use a smaller .every(…), or a half-life of at least 1h",
  ],
  [
    "a decayed sum of too many hops",
    one(d.decayedSum("amount", { scale: 2, halfLife: "6h" }).over("7d").every("1m")),
    "too_many_hops: window 7d of feature v:x has 10080 hops of 1m, each a tile to read; the limit is 1000; " +
      "use a larger .every(…), or a shorter window",
  ],
  [
    "a percentile of texts",
    one(d.approxPercentile("country", { p: 0.5 })),
    "field_type: feature v:x needs double or long, field country is string; use another field",
  ],
  [
    "a list that a service takes with its view",
    using([view({ x: d.lastN("country", { n: 3 }).over("1h"), y: d.count() })], {
      services: [d.featureService("s", { features: [view({})], request: {}, task: "binary" })],
    }),
    'list_in_service: service s takes v:x_1h, a list of lastN, which no model has an input for; take the others with .only("y")',
  ],
  [
    "a list that a service takes by its name, of a view of lists",
    using([view({ x: d.lastN("country", { n: 3 }) })], {
      services: [d.featureService("s", { features: [view({}).only("x")], request: {}, task: "binary" })],
    }),
    "list_in_service: service s takes v:x, a list of lastN, which no model has an input for; leave view v out of the service",
  ],
  [
    "a field that the contract lacks",
    one(d.min("amonut")),
    "field_unknown: feature v:x uses field amonut; use one of tenant, id, at, card, amount, country, online, extra",
  ],
  [
    "a sum of text",
    one(d.sum("country", { scale: 2 })),
    "field_type: feature v:x needs double or long, field country is string; use another field",
  ],
  [
    "distinct amounts, which are not exact",
    one(d.approxDistinct("amount")),
    "field_type: feature v:x needs string or long or boolean, field amount is double; use another field",
  ],
  [
    "the last of a map",
    one(d.last("extra")),
    "field_type: feature v:x needs string or double or long or boolean, field extra is map; use another field",
  ],
  [
    "a condition over a field that the contract lacks",
    one(d.count({ where: d.eq("state", "ok") })),
    "field_unknown: feature v:x uses field state; use one of tenant, id, at, card, amount, country, online, extra",
  ],
  [
    "a condition that compares text with a number",
    one(d.count({ where: d.and(d.isNull("amount"), d.not(d.eq("country", 47))) })),
    "where_type: feature v:x compares field country, a string, with 47; compare it with a string",
  ],
  [
    "a condition that compares a number with text, in a list",
    one(d.count({ where: d.isIn("amount", [1, "2"]) })),
    'where_type: feature v:x compares field amount, a double, with "2"; compare it with a number',
  ],
  [
    "a condition that compares with null",
    one(d.count({ where: d.eq("online", null as unknown as boolean) })),
    "where_type: feature v:x compares field online, a boolean, with null; use isNull",
  ],
  [
    "a condition that compares with NaN",
    one(d.count({ where: d.gt("amount", Number.NaN) })),
    "where_type: feature v:x compares field amount, a double, with NaN; compare it with a number",
  ],
  [
    "a view name that is no name",
    using([d.featureView("Card", { entity: card, source: pay, ttl: "1d", owner: "o", features: {} } as any)]),
    'name_invalid: a name is 1 to 63 of a-z, 0-9 and _, given "Card"; rename the feature view',
  ],
  ["a view of nothing", using([view({})]), "view_empty: view v has no feature; add one, or remove the view"],
  [
    "a feature name with a colon",
    using([view({ "a:b": d.count() })]),
    'name_invalid: a name is 1 to 63 of a-z, 0-9 and _, given "a:b"; rename the feature',
  ],
  [
    "a feature whose name and window are another's name",
    using([view({ x: d.count().over("1h"), x_1h: d.count() })]),
    "name_taken: two of v's features are named x_1h; rename one of them",
  ],
  [
    "one window twice",
    one(d.count().over("1h", "1h")),
    "name_taken: two of v's features are named x_1h; rename one of them",
  ],
  [
    "two views of one name",
    using([view({ x: d.count() }), view({ y: d.count() })]),
    "name_taken: two of feature view are named v; rename one of them",
  ],
  [
    "two entities of one name",
    using([], { entities: [card, card] }),
    "name_taken: two of entity are named card; rename one of them",
  ],
  [
    "an entity that is not listed",
    using([view({ x: d.count() })], { entities: [] }),
    "entity_unknown: view v uses entity card, which the definitions do not list; add it to entities in features/index.ts",
  ],
  [
    "a stream that is not listed",
    using([view({ x: d.count() })], { streams: [] }),
    "stream_unknown: view v reads stream pay, which the definitions do not list; add it to streams in features/index.ts",
  ],
  [
    "a join key that the stream lacks",
    using([view({ x: d.count() }, { entity: other })], { entities: [other] }),
    "field_unknown: view v uses field shop; use one of tenant, id, at, card, amount, country, online, extra",
  ],
  [
    "a join key that is a double",
    using([view({ x: d.count() }, { entity: { ...other, joinKey: "amount" } })], { entities: [other] }),
    "field_type: view v needs string or long, field amount is double; use another field",
  ],
  [
    "a contract that is not there",
    using([], { streams: [{ ...pay, schema: "pay.v2" }] }),
    "contract_unknown: stream pay has contract pay.v2; use one of pay.v1, or add schemas/pay.v2.avsc",
  ],
  [
    "an event time that is no time",
    using([], { streams: [{ ...pay, eventTime: "country" }] }),
    "field_type: stream pay needs long, field country is string; use another field",
  ],
  [
    "a base that does not divide a day",
    using([], { streams: [{ ...pay, base: "7m" }] }),
    "base_invalid: base 7m of stream pay divides no day; use 1s, 10s, 1m or 5m",
  ],
  [
    "more inputs than a mask holds",
    using([view(repeated(33))]),
    "too_many_inputs: card:pay has 33 distinct inputs (field, where, scale), the limit is 32; " +
      "share conditions between features or split the stream",
  ],
  [
    "a service over a view that is not listed",
    using([], {
      services: [d.featureService("s", { features: [view({ x: d.count() })], request: {}, task: "binary" })],
    }),
    "view_unknown: service s uses view v, which the definitions do not list; add it to views in features/index.ts",
  ],
  [
    "a service that selects what the view lacks",
    using([view({ x: d.count().over("1h") })], {
      services: [d.featureService("s", { features: [view({}).only("x")], request: {}, task: "binary" })],
    }),
    "feature_unknown: service s uses v:x; use one of v:x_1h",
  ],
  [
    "a service that takes a feature twice",
    using([view({ x: d.count() })], {
      services: [d.featureService("s", { features: [view({}), view({}).only("x")], request: {}, task: "binary" })],
    }),
    "feature_repeated: service s takes v:x twice; leave one of them out",
  ],
  [
    "a default for a feature outside the service",
    using([view({ x: d.count().over("1h") })], {
      services: [d.featureService("s", { features: [], request: {}, task: "binary", defaults: { "v:x_1h": 0 } })],
    }),
    "default_unknown: service s has a default for v:x_1h; name one of its features",
  ],
];

describe("compile refuses", () => {
  it.each(REFUSED)("%s", (_, definitions, message) => {
    expect(refusal(definitions)).toBe(message);
  });

  it("more entities on one stream than an applier can number", () => {
    const entities = Array.from({ length: 65 }, (_, i) => d.entity(`e${i}`, { joinKey: "card" }));
    const views = entities.map((entity, i) =>
      d.featureView(`v${i}`, {
        entity,
        source: pay,
        ttl: "1d",
        owner: "o",
        features: { x: d.count().over("1h") },
      } as any),
    );
    expect(refusal(using(views, { entities }))).toBe(
      "too_many_entities: stream pay feeds 65 entities, the limit is 64; split it",
    );
    expect(refusal(using(views.slice(1), { entities }))).toBe("accepted");
  });

  it("another base than the one that is stored", () => {
    const { lock } = compiled(using([view({ x: d.count() })]));
    const source = { ...pay, base: "5m" } as const;
    const moved = using([view({ x: d.count() }, { source })], { streams: [source] });
    expect(() => compiled(moved, lock)).toThrow(
      "the base of card:pay is 1m, part of what is stored, given 5m; use 1m, or declare a new stream with the new base",
    );
  });

  it("the 65th tile size and the 65th slot of a kind over a group's life", () => {
    let { lock } = compiled(using([]));
    for (let minutes = 1; minutes <= 64; minutes++) {
      // 1m, 5m, 1h and 1d are there from the first hops that they divide or that divide them.
      const hop = `${minutes}m` as const;
      lock = compiled(
        one(
          d
            .count({ where: d.gt("amount", minutes % 9) })
            .over(`${minutes * 2}m`)
            .every(hop),
        ),
        lock,
      ).lock;
    }
    const next = one(d.count().over("134m").every("67m"));
    expect(() => compiled(next, lock)).toThrow(
      "card:pay has used 64 tile sizes over its life, hop 67m needs another; use a hop that another window of this entity and stream has",
    );
    for (let i = 0; ; i++) {
      const changed = one(d.min("amount", { where: d.gt("amount", i) }).over("10m"));
      try {
        lock = compiled(changed, lock).lock;
      } catch (error) {
        expect(i).toBe(64);
        expect(error).toMatchObject({
          code: "too_many_slots",
          message:
            "card:pay has used all 64 slots for min over its life; put the new features on a stream of their own",
        });
        break;
      }
    }
  });
});
