import { batchFeatureView } from "../core/definition.ts";
import { merchant } from "./entities.ts";

/** Outcomes are known days after their payments, so there is nothing to gain from a stream: a query each day will do. */
export const merchantRisk = batchFeatureView("merchant_risk", {
  entity: merchant,
  sql: `
SELECT t.merchant_id, {to_ms} AS event_time_ms,
  count(*) AS outcomes_30d,
  sum(CASE WHEN l.is_fraud AND l.source = 'chargeback' THEN 1 ELSE 0 END) AS chargebacks_30d,
  CAST(sum(CASE WHEN l.is_fraud AND l.source = 'chargeback' THEN 1 ELSE 0 END) AS double) / count(*) AS chargeback_rate_30d
FROM labels AS l JOIN transactions AS t ON t.transaction_id = l.transaction_id
WHERE l.event_time_ms >= {to_ms} - 2592000000
GROUP BY t.merchant_id`,
  every: "1d",
  lookback: "120d",
  ttl: "3d",
  owner: "fraud",
  description: "How many of a merchant's payments, of those whose outcome became known lately, were charged back.",
  tags: ["fraud"],
  features: { outcomes_30d: "long", chargebacks_30d: "long", chargeback_rate_30d: "double" },
});
