/** Plans for tests of bulk builds: an older one, and a newer one with more features and one more entity. */
import { hash64 } from "../../adapters/hash.ts";
import { compile, EMPTY_LOCK } from "../../core/compile/compile.ts";
import * as d from "../../core/definition.ts";
import { card, contracts, payments, shop } from "./fixture-plan.ts";

const total = () => d.sum("amount", { scale: 2 });
const olderFeatures = { n: d.count().over("1h", "24h", "lifetime"), last_country: d.last("country") };
const view = (name: string, entity: typeof card | typeof shop, features: Record<string, d.AggregationDefinition>) =>
  d.featureView(name, { entity: entity as typeof card, source: payments, ttl: "3000d", owner: "tests", features });
const of = (views: ReturnType<typeof view>[], lock: Parameters<typeof compile>[2]) =>
  compile({ entities: [card, shop], streams: [payments], views, services: [] }, contracts, lock, hash64);

export const older = of([view("cards", card, olderFeatures)], EMPTY_LOCK);
/** More features of the card, and an entity that the older plan knew nothing of. */
export const newer = of(
  [
    view("cards", card, {
      ...olderFeatures,
      total: total().over("1h", "24h", "7d", "lifetime"),
      spread: d.stddev("amount", { scale: 2 }).over("7d"),
      low: d.min("amount", { where: d.eq("country", "NO") }).over("24h"),
      shops: d.approxDistinct("shop").over("24h"),
      first_shop: d.first("shop").over("7d"),
    }),
    view("shops", shop, {
      n: d.count().over("1h", "7d"),
      total: total().over("24h"),
      cards: d.approxDistinct("card").over("24h"),
    }),
  ],
  older.lock,
);
