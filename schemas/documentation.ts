// Generated from schemas/*.avsc by `freshet schemas types`; a test refuses it when it is stale.
import type { ContractDocumentation } from "../adapters/avro/contract-source.ts";

/** By contract. */
export const documentation: Readonly<Record<string, ContractDocumentation>> = {
  "clicks.v1": {
    about: "One action of a user on an item in the shop.",
    fields: {
      tenant: "The team that owns the event. Ingest fills it from the API key; `default` on a laptop.",
      click_id: "Event id: unique for ever in the tenant, and repeated by a producer that tries again.",
      event_time: "When the user acted, by the producer's clock, in epoch milliseconds.",
      user_id: "The user who acted; the partition key of the stream.",
      item_id: "The item that was acted on.",
      action: "What was done: `view` (the item was shown), `click`, `cart` or `purchase`.",
      session_id: "The visit that the action belongs to, where the producer tracks visits.",
      dwell_ms: "How long the item was on screen before the action, in milliseconds.",
      position: "Place of the item in the list it was shown in, from 0; null outside a list.",
      impression_id:
        "The `view` that the action followed, by its click_id: where the item was shown before it was clicked.",
      category: "The item's category, where the producer knows it.",
    },
  },
  "feature_events.v1": {
    about: "A generic event about one entity, for sources that have no contract of their own yet.",
    fields: {
      tenant: "The team that owns the event. Ingest fills it from the API key; `default` on a laptop.",
      event_id: "Event id: unique for ever in the tenant, and repeated by a producer that tries again.",
      entity_id: "The entity that the event is about; the partition key of the stream.",
      event_type: "What happened, as `login_failed`; features filter on it.",
      value: "The measured value, where the event has one.",
      timestamp: "When it happened, by the producer's clock, in epoch milliseconds.",
      metadata: "Further facts by name; carried to the archive, not aggregated.",
    },
  },
  "labels.v1": {
    about: "What a transaction turned out to be, known days or weeks after it.",
    fields: {
      tenant: "The team that owns the event. Ingest fills it from the API key; `default` on a laptop.",
      label_id: "Event id: unique for ever in the tenant, and repeated by a producer that tries again.",
      transaction_id: "The transaction that is judged; the partition key of the stream.",
      event_time: "When the outcome became known, never before the transaction itself, in epoch milliseconds.",
      is_fraud: "True for fraud, false for a transaction that was confirmed as genuine.",
      source: "Who said so: `chargeback`, `analyst`, `customer` or `settlement`.",
      reason: "Reason code of the source, as a chargeback's `10.4`.",
    },
  },
  "transactions.v1": {
    about: "One attempt to pay by card, as the authorisation system saw it.",
    fields: {
      tenant: "The team that owns the event. Ingest fills it from the API key; `default` on a laptop.",
      transaction_id: "Event id: unique for ever in the tenant, and repeated by a producer that tries again.",
      event_time: "When the authorisation was asked for, by the producer's clock, in epoch milliseconds.",
      card_id: "The card that pays; the partition key of the stream.",
      user_id: "The holder of the card, where the producer knows it.",
      merchant_id: "The merchant that is paid.",
      amount: "Amount in major units of `currency`; negative for a refund. Aggregates keep two decimal places.",
      currency: "ISO 4217 code, as `EUR`.",
      country: "ISO 3166-1 alpha-2 code of the merchant's country, as `DE`.",
      merchant_category: "Kind of merchant, as `grocery`, `fuel` or `gift_cards`.",
      status: "Outcome of the authorisation: `approved`, `declined` or `reversed`.",
      device_id: "Device that the payment was made from; null where there is none, as at a till.",
      channel: "How the card was used: `pos`, `online`, `app`, `atm`; `unknown` for producers that do not say.",
    },
  },
};
