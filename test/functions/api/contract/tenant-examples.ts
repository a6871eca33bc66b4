/**
 * One line for each route of the OpenAPI document: how a caller asks for `things`, whoever's they are. The walk in
 * contract-tenants.ts fails for a route that has none. Paths are templates: `{stream}` and `{service}` stand for each name.
 */
import { randomUUID } from "node:crypto";
import { transaction } from "./contract-calls.ts";

/** What a tenant has, by the names that requests give it. Values are unlike any other text. */
export interface Things {
  readonly card: string;
  readonly merchant: string;
  readonly user: string;
  readonly item: string;
  readonly job: string;
  readonly key: string;
  readonly feature: string;
  /** Of the feature. */
  readonly view: string;
}

export interface Example {
  /** @param name the stream or service that the path names. @default nothing is sent but method and path */
  readonly body?: (things: Things, name: string) => unknown;
  /** Values of the path's parameters. @default none */
  readonly path?: (things: Things) => Readonly<Record<string, string>>;
  /**
   * Whether the owner's answer shows that the thing is there. False where every caller is answered alike, whatever exists.
   * @default true where the request names a thing
   */
  readonly tells?: boolean;
  /** What its owner is answered where nobody is answered otherwise yet. @default a success */
  readonly status?: number;
  /** Asking changes something, so the owner is not asked for a comparison before and after. @default true but for GET */
  readonly changes?: boolean;
  /** The owner has asked for this once before the walk, in the order of the document: so it has its things. @default false */
  readonly owns?: boolean;
  /** The owner's own questions change the answer, as they do an audit log. @default false */
  readonly grows?: boolean;
}

const cardFeatures = ["card_activity:tx_count_1h", "card_activity:amount_sum_24h"];
const scorable = ({ card, merchant, user, item }: Things, service: string) =>
  ({
    fraud: { card_id: card, merchant_id: merchant, user_id: user, device_id: null, amount: 10, country: "SE" },
    recommendation: { user_id: user, item_id: item, category: null },
  })[service];

const event = ({ card, user, item }: Things, stream: string): unknown => {
  const now = Date.now();
  const id = randomUUID();
  return {
    transactions: transaction({ card_id: card }),
    clicks: { click_id: id, event_time: now, user_id: user, item_id: item, action: "view" },
    labels: { label_id: id, transaction_id: card, event_time: now, is_fraud: true, source: "test" },
    feature_events: { event_id: id, entity_id: card, event_type: "x", timestamp: now, metadata: {} },
  }[stream];
};

const frame = (card: string) => ({
  card_id: [card],
  age: [2],
  event_timestamp: [new Date(Date.now() - 500).toISOString()],
});

export const EXAMPLES: Readonly<Record<string, Example>> = {
  "POST /v1/events/{stream}": { body: event, owns: true, tells: false },
  "POST /v1/labels": { body: (things) => event(things, "labels"), tells: false },
  "POST /v1/features/online": {
    body: ({ card }) => ({ entities: { card_id: card }, features: cardFeatures }),
    changes: false,
  },
  "POST /v1/features/batch": {
    body: ({ card }) => ({ entities: [{ card_id: card }], features: cardFeatures }),
    changes: false,
  },
  "POST /get-online-features": {
    body: ({ card }) => ({ entities: { card_id: [card] }, features: cardFeatures }),
    changes: false,
  },
  "GET /v1/context/{entity}/{id}": { path: ({ card }) => ({ entity: "card", id: card }) },
  "GET /v1/features/{entity}/{id}": { path: ({ card }) => ({ entity: "card", id: card }) },
  "POST /api/v1/features/online": {
    body: ({ card }) => ({ entities: { card_id: card }, features: cardFeatures }),
    changes: false,
  },
  "POST /api/v1/features/batch": {
    body: ({ card }) => ({ entities: [{ card_id: card }], features: cardFeatures }),
    changes: false,
  },
  "POST /api/v1/features/register": {
    body: ({ feature }) => ({ name: `${feature}_again`, entity: "card", dtype: "double" }),
    tells: false,
  },
  "GET /api/v1/features": {},
  "GET /api/v1/features/{name}": { path: ({ feature }) => ({ name: feature }) },
  "GET /api/v1/features/{entity}/{id}": { path: ({ card }) => ({ entity: "card", id: card }) },
  "DELETE /v1/cache/{entity}/{id}": { path: ({ card }) => ({ entity: "card", id: card }), tells: false },
  "DELETE /api/v1/cache/invalidate/{id}": { path: ({ card }) => ({ id: card }), tells: false },
  "POST /score/{service}": { body: scorable, changes: false },
  "POST /v1/features/register": {
    body: ({ feature }) => ({ name: feature, entity: "card", dtype: "double" }),
    owns: true,
  },
  "POST /v1/features/push": {
    body: ({ feature, card }) => ({
      features: [feature],
      rows: [{ id: card, event_time_ms: Date.now() - 1_000, values: [1] }],
    }),
    owns: true,
  },
  "POST /write-to-online-store": {
    body: ({ view, card }) => ({ feature_view_name: view, df: frame(card) }),
    owns: true,
  },
  "POST /materialize": {
    body: () => ({ start_ts: "2026-01-01", end_ts: "2026-01-02", feature_views: ["merchant_risk"] }),
  },
  "POST /materialize-incremental": { body: () => ({ end_ts: "2026-01-02", feature_views: ["merchant_risk"] }) },
  "POST /push": { body: ({ view, card }) => ({ push_source_name: view, df: frame(card) }), owns: true },
  "GET /v1/features": {},
  "GET /v1/features/{name}": { path: ({ feature }) => ({ name: feature }) },
  "POST /v1/features/historical": {
    body: ({ card }) => ({ service: "fraud", rows: [{ as_of_ms: 1_790_000_000_000, card_id: card, amount: 1 }] }),
    tells: false,
  },
  "GET /v1/features/historical/{job}": { path: ({ job }) => ({ job }) },
  // The owner's is done by then.
  "DELETE /v1/features/historical/{job}": { path: ({ job }) => ({ job }), status: 409 },
  // Rules score by features of the card: `features_missing` tells what is known of it.
  "POST /v1/score/{service}": { body: scorable, changes: false },
  "POST /v1/score/{service}/batch": {
    body: (things, service) => ({ rows: [scorable(things, service)] }),
    changes: false,
  },
  "POST /v1/rank/{service}": {
    body: ({ user, item }) => ({ user_id: user, category: null, candidates: [item] }),
    changes: false,
  },
  "GET /v1/models": {},
  "POST /v1/models/{name}/aliases/{alias}": {
    path: () => ({ name: "fraud", alias: "shadow" }),
    body: () => ({ version: 1 }),
  },
  "POST /v1/keys": { body: () => ({ scopes: ["read"], name: "walk" }) },
  "GET /v1/keys": {},
  "POST /v1/keys/{id}/rotate": { path: ({ key }) => ({ id: key }) },
  "DELETE /v1/keys/{id}": { path: ({ key }) => ({ id: key }) },
  "GET /v1/quarantine": {},
  "GET /v1/quarantine/records": {},
  // Whose records are whose: test/functions/shared/replay/quarantine.store.test.ts.
  "GET /v1/quarantine/{id}": { path: () => ({ id: "0".repeat(32) }), status: 404 },
  "POST /v1/quarantine/replay": { body: () => ({ all: true }) },
  "POST /v1/quarantine/drop": { body: () => ({ all: true }) },
  "GET /v1/quarantine/jobs/{job}": { path: ({ job }) => ({ job }), tells: false, status: 404 },
  // Of nobody: the walk's own cards are read all along. Two tenants' erasures: erasures.test.ts.
  "POST /v1/erasures": { body: () => ({ subjects: [{ entity: "card", id: "nobody" }] }) },
  "GET /v1/erasures": {},
  "GET /v1/erasures/{id}": { path: () => ({ id: "none" }), status: 404 },
  "GET /v1/audit": { grows: true },
  "GET /health": {},
  "GET /ready": {},
  "GET /metrics": {},
};
