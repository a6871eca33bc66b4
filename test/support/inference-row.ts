import type { InferenceRow } from "../../adapters/inference-log/inference-log-format.ts";

/** A row of the inference log: `inferenceRow({ asOfMs })`. */
export const inferenceRow = (more: Partial<InferenceRow> = {}): InferenceRow => ({
  tenant: "team-a",
  service: "fraud",
  requestId: "r-1",
  row: 0,
  eventId: "t-1",
  asOfMs: 1_800_000_000_000,
  planHash: "0123456789abcdef",
  keys: { card_id: "c1", device_id: null },
  request: { amount: 12.5, country: "sha256:0011223344556677" },
  features: ["card:count_1h", "card:last_country", "ratio", "request:amount", "request:country"],
  values: [3, null, 1.25, 12.5, "sha256:0011223344556677"],
  statuses: ["PRESENT", "NULL_VALUE"],
  vector: [3, null, 1.25, 12.5, null],
  model: "fraud-lightgbm@7",
  variant: "champion",
  assigned: "hash",
  score: 0.25,
  raw: -1.0986122886681098,
  decision: "review",
  degraded: null,
  shadow: { model: "fraud-lightgbm@8", score: 0.5, raw: 0 },
  ...more,
});
