import { approxDistinct, count, featureView } from "../core/definition.ts";
import { device } from "./entities.ts";
import { transactions } from "./streams.ts";

export const deviceActivity = featureView("device_activity", {
  entity: device,
  source: transactions,
  ttl: "7d",
  owner: "fraud",
  description: "How many cards one device pays with.",
  tags: ["fraud"],
  features: {
    cards: approxDistinct("card_id").over("1h", "24h"),
    tx_count: count().over("1h"),
  },
});
