/** Clicks that are enriched with what their user spends and how busy their item is, and views over the recorded fields. */
import { hash64 } from "../../adapters/hash.ts";
import { compile, EMPTY_LOCK } from "../../core/compile/compile.ts";
import * as d from "../../core/definition.ts";
import { contracts } from "../../schemas/contracts.ts";

export function enrichedDefinitions(): d.Definitions {
  const user = d.entity("user", { joinKey: "user_id" });
  const item = d.entity("item", { joinKey: "item_id" });
  const card = d.entity("card", { joinKey: "card_id" });
  const transactions = d.stream("transactions", {
    schema: "transactions.v1",
    eventId: "transaction_id",
    eventTime: "event_time",
    partitionKey: "card_id",
  });
  const clicks = d.stream("clicks", {
    schema: "clicks.v1",
    eventId: "click_id",
    eventTime: "event_time",
    partitionKey: "user_id",
    enrich: {
      dwell_ms: d.lookup("user_spend:tx_count_1h"),
      session_id: d.lookup("user_spend:last_country"),
      position: d.lookup("item_seen:clicks_1h"),
    },
  });
  const options = { ttl: "1d", owner: "tests" } as const;
  const userSpend = d.featureView("user_spend", {
    ...options,
    entity: user,
    source: transactions,
    features: {
      tx_count: d.count().over("1h", "24h"),
      amount_sum: d.sum("amount", { scale: 2 }).over("1h"),
      last_country: d.last("country"),
      countries: d.lastN("country", { n: 3 }),
    },
  });
  const cardSpend = d.featureView("card_spend", {
    ...options,
    entity: card,
    source: transactions,
    features: { tx_count: d.count().over("1h") },
  });
  const itemSeen = d.featureView("item_seen", {
    ...options,
    entity: item,
    source: clicks,
    features: { clicks: d.count().over("1h") },
  });
  const userClicks = d.featureView("user_clicks", {
    ...options,
    entity: user,
    source: clicks,
    features: {
      clicks: d.count().over("1h", "24h"),
      spent: d.sum("dwell_ms", { scale: 2 }).over("1h"),
      from: d.last("session_id").over("1h"),
      filled: d.count({ where: d.not(d.isNull("dwell_ms")) }).over("1h"),
    },
  });
  return {
    entities: [user, item, card],
    streams: [transactions, clicks],
    views: [userSpend, cardSpend, itemSeen, userClicks],
    services: [],
  };
}

export const { plan: enrichedPlan } = compile(enrichedDefinitions(), contracts, EMPTY_LOCK, hash64);
