// Generated from schemas/*.avsc by `freshet schemas types`; a test refuses it when it is stale.
import type { Contract } from "../core/plan.ts";

export const contracts: Readonly<Record<string, Contract>> = {
  "clicks.v1": {
    name: "clicks.v1",
    fields: {
      tenant: { type: "string", nullable: false },
      click_id: { type: "string", nullable: false },
      event_time: { type: "long", nullable: false },
      user_id: { type: "string", nullable: false },
      item_id: { type: "string", nullable: false },
      action: { type: "string", nullable: false },
      session_id: { type: "string", nullable: true },
      dwell_ms: { type: "long", nullable: true },
      position: { type: "long", nullable: true },
      impression_id: { type: "string", nullable: true },
      category: { type: "string", nullable: true },
    },
  },
  "feature_events.v1": {
    name: "feature_events.v1",
    fields: {
      tenant: { type: "string", nullable: false },
      event_id: { type: "string", nullable: false },
      entity_id: { type: "string", nullable: false },
      event_type: { type: "string", nullable: false },
      value: { type: "double", nullable: true },
      timestamp: { type: "long", nullable: false },
      metadata: { type: "map", nullable: false },
    },
  },
  "labels.v1": {
    name: "labels.v1",
    fields: {
      tenant: { type: "string", nullable: false },
      label_id: { type: "string", nullable: false },
      transaction_id: { type: "string", nullable: false },
      event_time: { type: "long", nullable: false },
      is_fraud: { type: "boolean", nullable: false },
      source: { type: "string", nullable: false },
      reason: { type: "string", nullable: true },
    },
  },
  "transactions.v1": {
    name: "transactions.v1",
    fields: {
      tenant: { type: "string", nullable: false },
      transaction_id: { type: "string", nullable: false },
      event_time: { type: "long", nullable: false },
      card_id: { type: "string", nullable: false },
      user_id: { type: "string", nullable: true },
      merchant_id: { type: "string", nullable: false },
      amount: { type: "double", nullable: false },
      currency: { type: "string", nullable: false },
      country: { type: "string", nullable: false },
      merchant_category: { type: "string", nullable: false },
      status: { type: "string", nullable: false },
      device_id: { type: "string", nullable: true },
      channel: { type: "string", nullable: false },
    },
  },
};

declare module "../core/definition.ts" {
  interface Contracts {
    "clicks.v1": {
      tenant: "string";
      click_id: "string";
      event_time: "long";
      user_id: "string";
      item_id: "string";
      action: "string";
      session_id: "string?";
      dwell_ms: "long?";
      position: "long?";
      impression_id: "string?";
      category: "string?";
    };
    "feature_events.v1": {
      tenant: "string";
      event_id: "string";
      entity_id: "string";
      event_type: "string";
      value: "double?";
      timestamp: "long";
      metadata: "map";
    };
    "labels.v1": {
      tenant: "string";
      label_id: "string";
      transaction_id: "string";
      event_time: "long";
      is_fraud: "boolean";
      source: "string";
      reason: "string?";
    };
    "transactions.v1": {
      tenant: "string";
      transaction_id: "string";
      event_time: "long";
      card_id: "string";
      user_id: "string?";
      merchant_id: "string";
      amount: "double";
      currency: "string";
      country: "string";
      merchant_category: "string";
      status: "string";
      device_id: "string?";
      channel: "string";
    };
  }
}
