/** What is asked of Freshet and of Feast's server, each in its own words. */
import { CARD_FEATURES, ENTITIES, feastPlan } from "./feast-data.ts";
import { httpPost, type LoadOrder } from "./load.ts";
import type { Server } from "./reading.ts";

export type Servers = Readonly<
  Record<"freshet" | "feast" | "feast2", Pick<Server, "port" | "cpuUs"> & { readonly key?: string }>
>;

export interface Way {
  readonly name: string;
  readonly server: keyof Servers;
  readonly path: string;
  /** The body for the n-th request. */
  body(n: number): object;
}
export interface Case {
  readonly name: string;
  readonly ours: readonly Way[];
  readonly theirs: readonly Way[];
  /** Measured with more than one connection alone. */
  readonly theirsWithTwo: Way;
  readonly targets: { readonly p50Ms?: number; readonly p99Ms?: number; readonly cpuUs?: number };
}

const id = (kind: string, n: number): string => `${kind}_${(n * 7919) % ENTITIES}`;
const many = (n: number): string[] => Array.from({ length: 100 }, (_, i) => id("card", n * 100 + i));
const four = (n: number) => ({
  card_id: id("card", n),
  merchant_id: id("merchant", n + 1),
  device_id: id("device", n + 2),
  user_id: id("user", n + 3),
});
const lists = (keys: Readonly<Record<string, string>>) =>
  Object.fromEntries(Object.entries(keys).map(([name, value]) => [name, [value]]));

const feastWay = (name: string, server: keyof Servers, body: Way["body"]): Way => ({
  name,
  server,
  path: "/get-online-features",
  body,
});
const oneByList = (n: number) => ({ entities: { card_id: [id("card", n)] }, features: CARD_FEATURES });
const manyByList = (n: number) => ({ entities: { card_id: many(n) }, features: CARD_FEATURES });
const fourByService = (n: number) => ({ entities: lists(four(n)), feature_service: "four_entities" });

export const CASES: readonly Case[] = [
  {
    name: "1 entity × 50 pushed doubles",
    ours: [
      {
        name: "/v1/features/online",
        server: "freshet",
        path: "/v1/features/online",
        body: (n) => ({ entities: { card_id: id("card", n) }, features: CARD_FEATURES }),
      },
      feastWay("/get-online-features", "freshet", oneByList),
    ],
    theirs: [
      feastWay("Feast, list", "feast", oneByList),
      feastWay("Feast, named service", "feast", (n) => ({
        entities: { card_id: [id("card", n)] },
        feature_service: "wide",
      })),
    ],
    theirsWithTwo: feastWay("Feast, list, 2 workers", "feast2", oneByList),
    targets: { p50Ms: 0.3, p99Ms: 0.8, cpuUs: 150 },
  },
  {
    name: "100 entities × 50 pushed doubles",
    ours: [
      {
        name: "/v1/features/batch",
        server: "freshet",
        path: "/v1/features/batch",
        body: (n) => ({ entities: many(n).map((card_id) => ({ card_id })), features: CARD_FEATURES }),
      },
      feastWay("/get-online-features", "freshet", manyByList),
    ],
    theirs: [
      feastWay("Feast, list", "feast", manyByList),
      feastWay("Feast, named service", "feast", (n) => ({ entities: { card_id: many(n) }, feature_service: "wide" })),
    ],
    theirsWithTwo: feastWay("Feast, list, 2 workers", "feast2", manyByList),
    targets: { p50Ms: 2.5 },
  },
  {
    name: "4 entities through a service, 27 pushed doubles",
    ours: [
      {
        name: "/v1/features/online",
        server: "freshet",
        path: "/v1/features/online",
        body: (n) => ({ entities: four(n), service: "four_entities" }),
      },
      feastWay("/get-online-features", "freshet", fourByService),
    ],
    theirs: [
      feastWay("Feast, named service", "feast", fourByService),
      feastWay("Feast, list", "feast", (n) => ({
        entities: lists(four(n)),
        features: feastPlan.services[0].features,
      })),
    ],
    theirsWithTwo: feastWay("Feast, named service, 2 workers", "feast2", fourByService),
    targets: { p50Ms: 0.4, p99Ms: 1 },
  },
];

/** Load by one way. @param count how many requests, which repeat themselves */
export function orderOf(
  { server, path, body }: Way,
  servers: Servers,
  connections: number,
  count = 200,
): Omit<LoadOrder, "durationMs"> {
  const { port, key } = servers[server];
  const headers: Record<string, string> = key === undefined ? {} : { "x-api-key": key };
  const requests = Array.from({ length: count }, (_, n) => httpPost(path, body(n), headers));
  return { port, protocol: "http", requests, connections, tolerant: true };
}
