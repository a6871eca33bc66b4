import { approxDistinct, count, eq, featureView, mean, sum } from "../core/definition.ts";
import { merchant } from "./entities.ts";
import { transactions } from "./streams.ts";

export const merchantActivity = featureView("merchant_activity", {
  entity: merchant,
  source: transactions,
  ttl: "7d",
  owner: "fraud",
  description: "How busy a merchant is, and how much of it is declined.",
  tags: ["fraud"],
  features: {
    tx_count: count().over("5m", "1h", "24h"),
    amount_sum: sum("amount", { scale: 2 }).over("1h"),
    amount_mean: mean("amount", { scale: 2 }).over("24h"),
    declines: count({ where: eq("status", "declined") }).over("1h", "24h"),
    cards: approxDistinct("card_id").over("1h"),
  },
});
