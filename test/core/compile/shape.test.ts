import { describe, expect, it } from "vitest";
import { hash64 } from "../../../adapters/hash.ts";
import { compile, EMPTY_LOCK } from "../../../core/compile/compile.ts";
import * as d from "../../../core/definition.ts";
import type { FreshetError } from "../../../core/errors.ts";
import { contracts } from "../../../schemas/contracts.ts";

/** What somebody may write who does not run the type checker. */
const untyped = d as any;
const pay = d.stream("pay", {
  schema: "transactions.v1",
  eventId: "transaction_id",
  eventTime: "event_time",
  partitionKey: "card_id",
});
const card = d.entity("card", { joinKey: "card_id" });
const VIEW = { entity: card, source: pay, ttl: "40d", owner: "o" };
const withView = (options: object) => ({ views: [untyped.featureView("v", { ...VIEW, ...options })] });
const withFeature = (x: unknown) => withView({ features: { x } });
const withService = (options: object) => ({
  services: [untyped.featureService("s", { features: [], request: {}, task: "binary", ...options })],
});

const REFUSED: readonly [string, object, string][] = [
  [
    "an operator that is not called",
    withFeature(untyped.count),
    "operator_uncalled: feature v:x is given the function count itself; call it: count()",
  ],
  [
    "a window that is not called",
    withFeature(untyped.count().over),
    "operator_uncalled: feature v:x is given the function over itself; call it: over(…)",
  ],
  [
    "a sum without options",
    withFeature(untyped.sum("amount").over("1h")),
    "scale_required: sum of amount in feature v:x adds up exactly only in minor units, given scale none; " +
      "write { scale: 2 } for amounts with two decimal places (0 to 9)",
  ],
  [
    "a standard deviation without options",
    withFeature(untyped.stddev("amount").over("1h")),
    "scale_required: stddev of amount in feature v:x adds up exactly only in minor units, given scale none; " +
      "write { scale: 2 } for amounts with two decimal places (0 to 9)",
  ],
  [
    "an operator without its field",
    withFeature(untyped.max().over("1h")),
    'field_missing: max in feature v:x needs a field; write max("amount", …)',
  ],
  [
    "an operator that there is not",
    withFeature({ ...d.count(), operator: "median" }),
    "operator_unknown: feature v:x uses operator median; use one of count, sum, mean,",
  ],
  [
    "text in place of an aggregation",
    withFeature("count"),
    'definition_invalid: feature v:x is an aggregation, given string "count"; write count().over("1h"), or',
  ],
  [
    "a condition as SQL",
    withFeature(untyped.count({ where: "status = 'declined'" }).over("1h")),
    `condition_invalid: where of feature v:x is a condition, given string "status = 'declined'"; write eq(`,
  ],
  [
    "windows in brackets",
    withFeature(untyped.count().over(["5m", "1h"])),
    "duration_invalid: over of feature v:x is a whole number and s, m, h or d, given a list",
  ],
  [
    "features as a list",
    withView({ features: [d.count()] }),
    "definition_invalid: features of view v are an object, given a list; write features: {",
  ],
  [
    "a ttl that is not there",
    withView({ features: { x: d.count().over("1h") }, ttl: undefined }),
    "duration_invalid: ttl of view v is a whole number and s, m, h or d, given undefined",
  ],
  [
    "an entity by its name",
    withView({ features: { x: d.count().over("1h") }, entity: "card" }),
    'definition_invalid: entity of view v is an entity, given string "card"; make it with entity(…)',
  ],
  [
    "a source that is not there",
    withView({ features: { x: d.count().over("1h") }, source: undefined }),
    "definition_invalid: source of view v is a stream, given undefined; check the name and its import;",
  ],
  [
    "a view that is not there",
    { views: [undefined] },
    "definition_invalid: views[0] is a featureView, given undefined; check the name and its import;",
  ],
  [
    "an entity among the views",
    { views: [card] },
    "definition_invalid: views[0] is a featureView, given an entity; make it with featureView(…)",
  ],
  [
    "views that are no list",
    { views: { v: 1 } },
    "definition_invalid: views is a list, given an object; write views: [ … ]",
  ],
  [
    "a service over names",
    withService({ features: ["card_activity"] }),
    'definition_invalid: features of service s, item 1, is a featureView, given string "card_activity"; make it with',
  ],
  [
    "a service over one view",
    withService({ features: withFeature(d.count()).views[0] }),
    "definition_invalid: features of service s are a list, given a featureView; write features: [ … ]",
  ],
];

describe("what the type checker would have refused is refused with a message", () => {
  it.each(REFUSED)("%s", (_, part, message) => {
    const definitions = { entities: [card], streams: [pay], views: [], services: [], ...part } as d.Definitions;
    let told = "accepted";
    try {
      compile(definitions, contracts, EMPTY_LOCK, hash64);
    } catch (error) {
      const { name, code, message, repair } = error as FreshetError;
      expect([name, typeof repair]).toEqual(["DefinitionError", "string"]);
      told = `${code}: ${message}`;
    }
    expect(told).toContain(message);
  });
});
