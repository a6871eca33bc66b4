import { count, eq, featureView } from "../core/definition.ts";
import { item } from "./entities.ts";
import { clicks } from "./streams.ts";

export const itemActivity = featureView("item_activity", {
  entity: item,
  source: clicks,
  ttl: "7d",
  owner: "growth",
  description: "How often an item is shown, and what comes of it.",
  tags: ["recommendation"],
  features: {
    shown: count({ where: eq("action", "view") }).over("1h", "24h", "7d"),
    clicked: count({ where: eq("action", "click") }).over("1h", "24h", "7d"),
    purchases: count({ where: eq("action", "purchase") }).over("7d"),
  },
});
