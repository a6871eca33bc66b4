/**
 * What Feast and Freshet are filled with alike: views of doubles that are given as they are. 50 features of a card, and a service over
 * four entity types. `python/feast_repo.py` declares and fills the same in Feast.
 */
import { hash64 } from "../adapters/hash.ts";
import { compile, EMPTY_LOCK } from "../core/compile/compile.ts";
import { batchFeatureView, entity, featureService } from "../core/definition.ts";
import type { PushedFeature } from "../core/pushed-feature.ts";
import { contracts } from "../schemas/contracts.ts";
import { transactions } from "./definitions.ts";

/** Features of each entity's view: `card_profile:card_0` to `card_profile:card_49`. Names differ, so that a service needs no full ones. */
const WIDTHS = { card: 50, merchant: 6, device: 3, user: 3 } as const;
/** Of the card's, those that the service takes. */
const SERVICE_CARD_FEATURES = 15;
/** Enough that what a store takes for the first of them alone is no part of it. */
export const ENTITIES = 20_000;

const named = (entity: string, width: number): string[] => Array.from({ length: width }, (_, f) => `${entity}_${f}`);

const views = (Object.entries(WIDTHS) as [keyof typeof WIDTHS, number][]).map(([name, width]) => {
  const of = entity(name, { joinKey: `${name}_id` });
  return batchFeatureView(`${name}_profile`, {
    entity: of,
    sql: `SELECT ${name}_id, event_time_ms, ${named(name, width)
      .map((f) => `amount AS ${f}`)
      .join(", ")} FROM transactions`,
    every: "1h",
    ttl: "30d",
    owner: "bench",
    features: Object.fromEntries(named(name, width).map((f) => [f, "double"])),
  });
});

const fourEntities = featureService("four_entities", {
  features: [views[0].only(...named("card", SERVICE_CARD_FEATURES)), views[1], views[2], views[3]],
  request: {},
  task: "binary",
});
const wideService = featureService("wide", { features: [views[0]], request: {}, task: "binary" });
export const feastServices = [fourEntities, wideService];

export const { plan: feastPlan } = compile(
  {
    entities: views.map((view) => view.entity),
    streams: [transactions],
    views: [],
    batchViews: views,
    services: feastServices,
  },
  contracts,
  EMPTY_LOCK,
  hash64,
);
/** What pushes write: as many doubles of a card, registered. */
export const PUSHED_VIEW = "card_pushed";
export const pushedFeatures: readonly PushedFeature[] = named("card", WIDTHS.card).map((key, id) => ({
  ...{ view: PUSHED_VIEW, key, id, version: 1, entity: "card", dtype: "double", ttlMs: 30 * 86_400_000 },
  ...{ description: "", unit: "", owner: "bench", tags: [], deprecated: null, registeredMs: 0 },
}));

export const CARD_FEATURES = feastPlan.batchViews[0].features.map(({ name }) => name);

/** The value of a feature of the n-th entity; the same in `python/feast_repo.py`. */
export const valueAt = (n: number, feature: number): number => ((n * 7919 + feature * 104_729) % 100_003) / 7;

/** What `python/feast_repo.py` is told. */
export const feastSpec = {
  entities: ENTITIES,
  views: feastPlan.batchViews.map((view) => ({
    name: view.name,
    entity: view.entity,
    features: view.features.map(({ name }) => name.slice(view.name.length + 1)),
  })),
  services: feastPlan.services.map(({ name, features }) => ({ name, features })),
};
