import { approxDistinct, count, eq, featureView, last, sum, timeSinceLast } from "../core/definition.ts";
import { user } from "./entities.ts";
import { clicks, transactions } from "./streams.ts";

export const userClicks = featureView("user_clicks", {
  entity: user,
  source: clicks,
  ttl: "7d",
  owner: "growth",
  description: "What a customer is shown, looks at and buys.",
  tags: ["recommendation"],
  features: {
    clicks: count().over("5m", "1h", "24h"),
    purchases: count({ where: eq("action", "purchase") }).over("24h", "7d"),
    items: approxDistinct("item_id").over("24h"),
    last_item: last("item_id").over("7d"),
    seconds_since_last: timeSinceLast().over("24h"),
    clicked: count({ where: eq("action", "click") }).over("24h", "7d"),
    last_category: last("category", { where: eq("action", "click") }).over("7d"),
  },
});

export const userSpend = featureView("user_spend", {
  entity: user,
  source: transactions,
  ttl: "30d",
  owner: "growth",
  description: "What a customer spends, over all of their cards.",
  tags: ["recommendation", "fraud"],
  features: {
    tx_count: count().over("24h", "lifetime"),
    amount_sum: sum("amount", { scale: 2 }).over("24h", "30d"),
  },
});
