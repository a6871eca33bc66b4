/** Definitions that the simulated deployments run: short lateness, so that seals pass many tiles in an hour, and one is the next's past. */
import { hash64 } from "../../adapters/hash.ts";
import { compile, EMPTY_LOCK } from "../../core/compile/compile.ts";
import * as d from "../../core/definition.ts";
import { contracts } from "../../schemas/contracts.ts";

export const STREAM = "transactions";
export const LATENESS_MS = 120_000;
/** Longest life of an invocation. */
export const TIMEOUT_MS = 20_000;

const card = d.entity("card", { joinKey: "card_id" });
const merchant = d.entity("merchant", { joinKey: "merchant_id" });
const device = d.entity("device", { joinKey: "device_id" });
/** In the order of their groups. */
export const JOIN_KEYS = { card: "card_id", merchant: "merchant_id", device: "device_id" } as const;

const transactions = d.stream(STREAM, {
  schema: "transactions.v1",
  eventId: "transaction_id",
  eventTime: "event_time",
  partitionKey: "card_id",
  allowedLateness: "2m",
});

const view = <E extends typeof card | typeof merchant | typeof device>(
  name: string,
  entity: E,
  features: Record<string, d.AggregationDefinition<any>>,
) =>
  d.featureView(name, {
    entity: entity as typeof card,
    source: transactions,
    ttl: "3000d",
    owner: "simulation",
    features,
  });

const amount = () => d.sum("amount", { scale: 2 });
const cards = {
  n: d.count().over("5m", "1h", "lifetime"),
  total: amount().over("20m", "24h"),
  last_country: d.last("country"),
};
const merchants = { n: d.count().over("2h"), low: d.min("amount").over("20m") };

const of = (views: ReturnType<typeof view>[], lock: Parameters<typeof compile>[2]) =>
  compile(
    { entities: [card, merchant, device], streams: [transactions], views, services: [] },
    contracts,
    lock,
    hash64,
  );

export type Deployed = ReturnType<typeof compile>;
export const older: Deployed = of([view("cards", card, cards), view("merchants", merchant, merchants)], EMPTY_LOCK);
/** New slots beside the older ones, and an entity that the older plan knew nothing of. */
export const newer: Deployed = of(
  [
    view("cards", card, {
      ...cards,
      spread: d.stddev("amount", { scale: 2 }).over("1h"),
      declined: d.count({ where: d.eq("status", "declined") }).over("1h", "lifetime"),
    }),
    view("merchants", merchant, { ...merchants, cards: d.approxDistinct("card_id").over("1h") }),
    view("devices", device, { n: d.count().over("1h", "lifetime"), first: d.first("country").over("24h") }),
  ],
  older.lock,
);
