import { stream } from "../core/definition.ts";

export const transactions = stream("transactions", {
  schema: "transactions.v1",
  eventId: "transaction_id",
  eventTime: "event_time",
  partitionKey: "card_id",
  allowedLateness: "10m",
});

export const clicks = stream("clicks", {
  schema: "clicks.v1",
  eventId: "click_id",
  eventTime: "event_time",
  partitionKey: "user_id",
});

/** Outcomes, as a chargeback: they arrive days later, and train models rather than feed windows. */
export const labels = stream("labels", {
  schema: "labels.v1",
  eventId: "label_id",
  eventTime: "event_time",
  partitionKey: "transaction_id",
});

/** For teams whose events fit no contract of their own: a number or a text about an entity. */
export const featureEvents = stream("feature_events", {
  schema: "feature_events.v1",
  eventId: "event_id",
  eventTime: "timestamp",
  partitionKey: "entity_id",
});
