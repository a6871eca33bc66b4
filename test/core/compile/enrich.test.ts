import { describe, expect, it } from "vitest";
import { hash64 } from "../../../adapters/hash.ts";
import { compile, EMPTY_LOCK } from "../../../core/compile/compile.ts";
import { diffPlans } from "../../../core/compile/plan-diff.ts";
import * as d from "../../../core/definition.ts";
import { contracts } from "../../../schemas/contracts.ts";
import { enrichedDefinitions } from "../../support/enriched-plan.ts";

/** The definitions with other lookups on clicks. */
function enriching(enrich: Record<string, unknown>): d.Definitions {
  const definitions = enrichedDefinitions();
  const [payments, clicks] = definitions.streams;
  return { ...definitions, streams: [payments, { ...clicks, enrich: enrich as never }] };
}
const compiled = (definitions: d.Definitions) => compile(definitions, contracts, EMPTY_LOCK, hash64).plan;
const fill = (field: string, feature: string) => enriching({ [field]: d.lookup(feature) });

it("a stream's lookups are in the plan with their entity and key, and a stream without them is as it was", () => {
  const { streams } = compiled(enrichedDefinitions());
  expect(streams[0]).not.toHaveProperty("enrich");
  expect(streams[1].enrich).toEqual([
    { field: "dwell_ms", feature: "user_spend:tx_count_1h", entity: "user", joinKey: "user_id" },
    { field: "session_id", feature: "user_spend:last_country", entity: "user", joinKey: "user_id" },
    { field: "position", feature: "item_seen:clicks_1h", entity: "item", joinKey: "item_id" },
  ]);
});

describe("refused, with rule, value and repair", () => {
  it.each([
    [
      "a field that the contract lacks",
      fill("mood", "user_spend:tx_count_1h"),
      "enrich of stream clicks fills field mood, which contract clicks.v1 lacks; " +
        'add it as ["null", …] with default null, or fill one of session_id, dwell_ms, position',
    ],
    [
      "a field that may not be null",
      fill("action", "user_spend:last_country"),
      "enrich of stream clicks fills field action, which may not be null in contract clicks.v1; " +
        'declare it as ["null", …] with default null, since a value may be missing',
    ],
    [
      "the event's id",
      fill("click_id", "user_spend:last_country"),
      "enrich of stream clicks fills click_id, which is a key of the event; let the producer send it",
    ],
    [
      "a join key",
      fill("item_id", "user_spend:last_country"),
      "enrich of stream clicks fills item_id, which is a key of the event; let the producer send it",
    ],
    [
      "a feature that there is not",
      fill("session_id", "user_spend:mood"),
      "enrich of stream clicks looks up user_spend:mood for session_id; use one of user_spend:last_country",
    ],
    [
      "a feature of another type",
      fill("dwell_ms", "user_spend:last_country"),
      "enrich of stream clicks looks up user_spend:last_country, string, for dwell_ms, a field of type long; " +
        "a long holds int64; look up another feature, or change the contract",
    ],
    [
      "a double for a whole number",
      fill("dwell_ms", "user_spend:amount_sum_1h"),
      "enrich of stream clicks looks up user_spend:amount_sum_1h, double, for dwell_ms, a field of type long; " +
        "a long holds int64; look up another feature, or change the contract",
    ],
    [
      "a list",
      fill("session_id", "user_spend:countries"),
      "enrich of stream clicks looks up user_spend:countries, string[], for session_id, a field of type string; " +
        "a string holds string; look up another feature, or change the contract",
    ],
    [
      "a feature of an entity that the event does not name",
      fill("dwell_ms", "card_spend:tx_count_1h"),
      "enrich of stream clicks looks up card_spend:tx_count_1h of entity card by card_id, which is no key field of " +
        "contract clicks.v1; look up a feature of an entity that the event names, or add card_id to the contract",
    ],
    [
      "a feature's name where a lookup belongs",
      enriching({ dwell_ms: "user_spend:tx_count_1h" }),
      'enrich of stream clicks gives field dwell_ms a lookup, given string "user_spend:tx_count_1h"; ' +
        'write dwell_ms: lookup("view:feature")',
    ],
  ])("%s", (_, definitions, message) => {
    expect(() => compiled(definitions)).toThrow(message);
  });

  it("a field that is not nullable does not compile", () => {
    const options = {
      schema: "clicks.v1",
      eventId: "click_id",
      eventTime: "event_time",
      partitionKey: "user_id",
    } as const;
    // @ts-expect-error: action may not be null in the contract
    d.stream("clicks", { ...options, enrich: { action: d.lookup("user_spend:last_country") } });
    // @ts-expect-error: the contract has no such field
    d.stream("clicks", { ...options, enrich: { mood: d.lookup("user_spend:last_country") } });
    d.stream("clicks", { ...options, enrich: { dwell_ms: d.lookup("user_spend:tx_count_1h") } });
  });
});

it("freshet plan says what a changed lookup is for", () => {
  const before = compiled(
    enriching({ dwell_ms: d.lookup("user_spend:tx_count_1h"), position: d.lookup("item_seen:clicks_1h") }),
  );
  const after = compiled(
    enriching({ dwell_ms: d.lookup("user_spend:tx_count_24h"), session_id: d.lookup("user_spend:last_country") }),
  );
  expect(diffPlans(before, after)).toEqual([
    {
      kind: "change",
      what: "clicks.dwell_ms",
      effect:
        "was filled with user_spend:tx_count_1h, becomes user_spend:tx_count_24h at HTTP ingest, in events from now on",
    },
    {
      kind: "add",
      what: "clicks.session_id",
      effect: "filled with user_spend:last_country at HTTP ingest, in events from now on",
    },
    {
      kind: "remove",
      what: "clicks.position",
      effect: "no longer filled with item_seen:clicks_1h; what events hold stays",
    },
  ]);
});
