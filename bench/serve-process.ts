/**
 * The server that is measured, in a process of its own: the product's API exactly as `freshet serve` runs it (its router, its
 * reader, its key check) over the benchmark's plan, or the bare baseline. Tells its own CPU over its channel.
 */
import { createInferenceLog } from "../adapters/inference-log/inference-log.ts";
import { createExactExplainer } from "../adapters/model/exact-explainer.ts";
import { ValuesArchive } from "../adapters/pushed/values-archive.ts";
import { isEpochChange, StoreApplier } from "../adapters/valkey/applier.ts";
import { ValkeyConnection } from "../adapters/valkey/connection.ts";
import { createReader, readingConnection } from "../adapters/valkey/reader.ts";
import { createTokenBuckets } from "../adapters/valkey/token-buckets.ts";
import type { ApiDependencies } from "../functions/api/app.ts";
import { createKey, type KeyRecord, type KeyStore } from "../functions/api/keys/keys.ts";
import type { PushedPorts } from "../functions/api/registered/pushed-ports.ts";
import { createPushStore } from "../functions/api/registered/pusher.ts";
import { createScoreLogger } from "../functions/api/scoring/score-log.ts";
import type { ScoringPorts } from "../functions/api/scoring/scoring-ports.ts";
import { listen } from "../functions/api/server.ts";
import { LOOPBACK } from "../local/ports.ts";
import { listenBare } from "./bare-server.ts";
import { type Champion, serveChampion } from "./champion.ts";
import { fraud, pick, servingPlan } from "./definitions.ts";
import { feastPlan, feastServices, pushedFeatures } from "./feast-data.ts";
import { AllocationMeter, ownCpuUs } from "./meters.ts";

export interface ListenOrder {
  readonly listen: "freshet" | "bare";
  readonly valkeyPort: number;
  /** Folder of the champion's artefact. @default rules score */
  readonly model?: string;
  /** Which service the model is of. @default fraud */
  readonly service?: string;
  /** What is served: features over windows, or what is compared with Feast. @default windows */
  readonly definitions?: "windows" | "feast";
  /** What the tenant `bounded` may ask for in a second. @default as much as any */
  readonly boundedTo?: number;
}
export type ServeOrder =
  | ListenOrder
  | { readonly usage: true }
  | { readonly allocated: true }
  /** Answered with the ms until the next version serves. */
  | { readonly promote: true };
export interface Serving {
  readonly port: number;
  readonly key: string;
  /** Of other tenants. */
  readonly neighbours?: { readonly bounded: string; readonly free: string };
}

process.on("disconnect", () => process.exit());
process.on("message", (order: ServeOrder) => {
  answer(order).then(
    (result) => process.send!({ result }),
    (error: unknown) => process.send!({ failed: String(error) }),
  );
});

const allocations = new AllocationMeter();
let champion: Champion | null = null;

async function answer(order: ServeOrder): Promise<Serving | number> {
  if ("usage" in order) return ownCpuUs();
  if ("allocated" in order) return allocations.read();
  if ("promote" in order) return champion!.promote();
  if (order.listen === "bare") return { port: await listenBare(order.valkeyPort), key: "" };
  const keys = keysInMemory();
  const keyOf = async (tenant: string) =>
    (await createKey(keys, { tenant, scopes: ["read", "write", "score"], nowMs: Date.now() })).key;
  const key = await keyOf("default");
  const { url } = await listen({ port: 0, dependencies: await dependencies(order, keys) });
  const neighbours = { bounded: await keyOf("bounded"), free: await keyOf("free") };
  return { port: Number(new URL(url).port), key, neighbours };
}

const DEFINITIONS = {
  windows: { plan: servingPlan, services: [fraud, pick] },
  feast: { plan: feastPlan, services: feastServices },
};

async function dependencies(order: ListenOrder, keys: KeyStore): Promise<ApiDependencies> {
  // As the product does it: one connection for reads and limits, and limits that no load of one machine reaches.
  const connection = readingConnection({ host: LOOPBACK, port: order.valkeyPort });
  const limit = { perSecond: 200_000, burst: 400_000, perDay: null };
  const { boundedTo = limit.perSecond } = order;
  const bounded = { ...limit, perSecond: boundedTo, burst: boundedTo };
  const tenants = { get: async (name: string) => (name === "bounded" ? { name, limits: { score: bounded } } : null) };
  const limits = { defaults: { score: limit, read: limit }, tenants };
  return {
    ...DEFINITIONS[order.definitions ?? "windows"],
    keys,
    audit: { write: async () => {}, page: async () => ({ records: [], next: null }) },
    historical: null,
    quarantine: null,
    erasures: null,
    pushed: order.definitions === "feast" ? pushedFrom(order.valkeyPort) : null,
    materialize: null,
    rebuild: null,
    scoring: order.model === undefined ? null : await scoringWith(order.model, order.service ?? fraud.name),
    ingest: null,
    reader: createReader(DEFINITIONS[order.definitions ?? "windows"].plan, connection),
    limits: { ...limits, store: createTokenBuckets(connection) },
    clock: Date.now,
    log: (message, details, error) => process.stderr.write(`${message} ${JSON.stringify(details)} ${String(error)}\n`),
    version: "bench",
  };
}

/** Features that are registered already, and the archive as far as S3: rows are formatted and compressed. */
function pushedFrom(valkeyPort: number): PushedPorts {
  const connection = new ValkeyConnection({ host: LOOPBACK, port: valkeyPort });
  const current = new Map(pushedFeatures.map(({ view, key, version }) => [`${view}:${key}`, version]));
  const load = async (_: string, known: number | null) =>
    known === 1 ? null : { revision: 1, features: pushedFeatures, current };
  const s3: any = { send: async () => ({}) };
  return {
    registry: { load, register: () => Promise.reject(new Error("nothing is registered here")) } as any,
    store: createPushStore(async () => new StoreApplier(connection, feastPlan, 1), isEpochChange),
    archive: new ValuesArchive({ s3, bucket: "none" }),
    close: () => connection.close(),
  };
}

/** The champion, and the log as far as S3: rows are formatted and compressed. */
async function scoringWith(folder: string, name: string): Promise<ScoringPorts> {
  const service = servingPlan.services.find((each) => each.name === name)!;
  champion = await serveChampion(servingPlan, service, folder);
  const s3: any = { send: async () => ({}) };
  const onFault = ({ error }: { error?: unknown }) => process.stderr.write(`not logged: ${error}\n`);
  const log = createInferenceLog({ bucket: "none", s3, onFault });
  const logger = createScoreLogger({ log, plan: servingPlan, onFault });
  const explainer = createExactExplainer();
  return { serving: champion.serving, logger, explainer, registry: null, close: async () => {} } as any;
}

/** Stands in for the table of keys, which a request reads every 30 s at most. */
function keysInMemory(): KeyStore {
  const records = new Map<string, KeyRecord>();
  return {
    put: async (record) => void records.set(record.id, record),
    get: async (id) => records.get(id) ?? null,
    list: async () => [...records.values()],
    listOf: async () => [...records.values()],
    rotate: async () => false,
    remove: async (id) => records.delete(id),
    removeBeside: async () => "gone",
  };
}
