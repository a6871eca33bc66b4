import {
  approxDistinct,
  count,
  eq,
  featureView,
  last,
  max,
  mean,
  stddev,
  sum,
  timeSinceLast,
} from "../core/definition.ts";
import { card } from "./entities.ts";
import { transactions } from "./streams.ts";

export const cardActivity = featureView("card_activity", {
  entity: card,
  source: transactions,
  ttl: "40d",
  owner: "fraud",
  description: "What a card has been doing: how often, how much, where, and how often it was declined.",
  tags: ["fraud"],
  features: {
    tx_count: count().over("5m", "1h", "24h", "7d"),
    amount_sum: sum("amount", { scale: 2 }).over("1h", "24h"),
    amount_mean: mean("amount", { scale: 2 }).over("24h", "7d"),
    amount_stddev: stddev("amount", { scale: 2 }).over("7d"),
    amount_max: max("amount").over("24h"),
    declines: count({ where: eq("status", "declined") }).over("1h"),
    merchants: approxDistinct("merchant_id").over("24h"),
    countries: approxDistinct("country").over("24h"),
    // Only settled transactions have a known outcome; this window leaves the newest week out.
    tx_settled: count().over("7d", "30d").delayedBy("7d"),
    last_country: last("country"),
    seconds_since_last: timeSinceLast().over("24h"),
  },
});
