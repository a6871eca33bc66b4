/**
 * The HTTP API: one router for every host. Behind API Gateway two functions share it (ingest outside the VPC, the rest
 * inside), so a route exists only where the port that it needs is given.
 */
import { Hono } from "hono";
import type { AuditLog } from "../../adapters/audit-log.ts";
import type { EventReader } from "../../adapters/avro/event-codec.ts";
import type { Publisher } from "../../adapters/broker/broker.ts";
import type { Erasures } from "../../adapters/erasure/erasures.ts";
import { FallbackReader, type ReadBudget } from "../../adapters/online-store/fallback-reader.ts";
import type { OnlineReader, SnapshotSource } from "../../adapters/online-store/online-store.ts";
import type { FeatureServiceDefinition } from "../../core/definition.ts";
import type { Plan } from "../../core/plan.ts";
import { createScorer } from "../../core/scoring/scoring.ts";
import { createAuditHandler } from "./administration/audit.ts";
import { createErasureHandlers } from "./administration/erasures.ts";
import { createQuarantineHandlers, type QuarantinePorts } from "./administration/quarantine.ts";
import { createRebuildHandlers, type RebuildPorts } from "./administration/rebuild.ts";
import type { WriteLedger } from "./administration/write-ledger.ts";
import { createAdmission, type LimitPorts } from "./admission/admission.ts";
import type { LoadGate } from "./admission/load-gate.ts";
import { createCatalogueHandlers } from "./catalogue/catalogue.ts";
import { Observations } from "./catalogue/observations.ts";
import type { EventCodec } from "./events/event-check.ts";
import { createEventsHandler, hasLabels, LABELS } from "./events/events.ts";
import { registerFamiliar } from "./familiar.ts";
import { feastError } from "./feast/errors.ts";
import { createFeastMaterialize, type MaterializePorts } from "./feast/materialize.ts";
import { createFeastOnline } from "./feast/online.ts";
import { createFeastWrites } from "./feast/write.ts";
import { createHistoricalHandlers, type HistoricalPorts } from "./historical/historical.ts";
import { createKeyHandlers } from "./keys/key-routes.ts";
import { createAuthenticator, type KeyStore } from "./keys/keys.ts";
import { createMetricsHandler, createReadyHandler, health } from "./observability/health.ts";
import { sparing } from "./observability/sparing.ts";
import { bothTelemetries, createPrometheusTelemetry, type Telemetry } from "./observability/telemetry.ts";
import { PROBLEMS } from "./problems.ts";
import { createContextHandler } from "./reading/context.ts";
import { createFeatureHandlers } from "./reading/features.ts";
import { createCatalogue } from "./reading/selection.ts";
import { createPushHandler } from "./registered/push.ts";
import type { PushedPorts } from "./registered/pushed-ports.ts";
import { createPusher } from "./registered/pusher.ts";
import { createRegisterHandler } from "./registered/register.ts";
import { createRegisteredFeatures } from "./registered/tenant-features.ts";
import { createRouter, type RouterOptions } from "./router.ts";
import { createModelHandlers } from "./scoring/models.ts";
import { createRankHandler } from "./scoring/rank.ts";
import { createScoreHandlers } from "./scoring/score.ts";
import { createScoreRunner, type ScoreFault } from "./scoring/score-run.ts";
import type { ScoringPorts } from "./scoring/scoring-ports.ts";

export interface IngestPorts {
  readonly publisher: Publisher;
  /** Codec of a contract by name with version, as `transactions.v1`. */
  readonly codecs: (contract: string) => EventCodec;
  /** Reads what names its schema by the id of a registry. @default there is no registry, and such a record is refused */
  readonly framed?: ((contract: string) => EventReader) | null;
  /** The user records of a KPL aggregate; null for bytes that are none. */
  readonly deaggregate: (bytes: Buffer) => readonly Buffer[] | null;
  /** Where fields of enriched streams are looked up; null where the plan has no such stream. */
  readonly lookups: OnlineReader | null;
}
export interface FallbackPorts {
  /** Null where no snapshots are kept. */
  readonly snapshots: SnapshotSource | null;
  readonly budget: ReadBudget;
}
export interface HostOptions extends Pick<RouterOptions, "compresses" | "onRoute"> {
  /** Of a host that takes many calls at once. @default none is turned away, none is drained */
  readonly state?: {
    readonly gate: LoadGate;
    /** True from the signal to end on. */
    readonly isDraining: boolean;
  };
}
export interface ApiDependencies {
  readonly plan: Plan;
  /** Definitions behind the plan's services: their on-demand functions and rules. */
  readonly services: readonly FeatureServiceDefinition[];
  /** Hosts without an audit log only look them up. */
  readonly keys: KeyStore;
  /** Null for a host that does not take events. */
  readonly ingest: IngestPorts | null;
  /** Null for a host that cannot reach the online store. */
  readonly reader: OnlineReader | null;
  /** What answers while the store behind `reader` does not, and how long it may take. @default nothing does */
  readonly fallback?: FallbackPorts;
  /** Null for a host that scores with rules alone, and logs no score. */
  readonly scoring: ScoringPorts | null;
  /** Where changes and what administrators read are recorded. Null for a host that has neither. */
  readonly audit: AuditLog | null;
  /** Counts who writes what, for the audit log. @default nobody does */
  readonly writes?: WriteLedger;
  /** Null for a host that erases nothing. */
  readonly erasures: Pick<Erasures, "create" | "get" | "list"> | null;
  /** Null for a host without registered features. */
  readonly pushed: PushedPorts | null;
  /** Null for a host that cannot have batch views run. */
  readonly materialize: MaterializePorts | null;
  /** Null for a host that does not reach the quarantine. */
  readonly quarantine: QuarantinePorts | null;
  /** Null for a host that takes no rebuilds of single entities. */
  readonly rebuild: RebuildPorts | null;
  /** Null for a host without historical jobs. */
  readonly historical: HistoricalPorts | null;
  /** What a tenant may ask for. @default no limits */
  readonly limits?: LimitPorts;
  /** Epoch milliseconds. */
  readonly clock: () => number;
  /** Beside the Prometheus page, as EMF in a Lambda. */
  readonly telemetry?: Telemetry;
  readonly log: Log;
  readonly version: string;
}
/** Ids, codes and causes only; never a payload, a key or a secret. */
export type Log = (message: string, details: Readonly<Record<string, unknown>>, error?: unknown) => void;

const ITSELF = { charges: "itself" } as const;

/** @throws DefinitionError when a service's functions do not fit the plan */
export function createApp(deps: ApiDependencies, host: HostOptions = {}): Hono {
  const { plan, ingest, clock, log, writes } = deps;
  const prometheus = createPrometheusTelemetry();
  const telemetry = deps.telemetry === undefined ? prometheus : bothTelemetries(prometheus, deps.telemetry);
  const reader = deps.reader === null ? null : readerOf(deps, deps.reader, telemetry);
  if (host.state !== undefined) prometheus.watchLoad(host.state.gate);
  const app = new Hono();
  const spare = sparing(log, clock);
  const onFault = (code: string, error: unknown) => log("limits degraded", { code }, error);
  const { limits } = deps;
  const authenticate = createAuthenticator(deps.keys, clock);
  const register = createRouter(app, {
    compresses: host.compresses,
    onRoute: host.onRoute,
    admission: limits && createAdmission({ ports: limits, clock, telemetry, onFault }),
    gate: host.state?.gate,
    authenticate,
    telemetry,
    onError(error, context) {
      // A fault that nobody has foreseen is told each time.
      if (context.code === "internal") log("request failed", context, error);
      else spare(`${context.route} ${context.code}`, "request failed", context, error);
    },
    audit: deps.audit && {
      log: deps.audit,
      clock,
      onUnrecorded: (record, error) => log("audit record not written", { ...record }, error),
    },
  });

  if (reader !== null) {
    const catalogue = createCatalogue(plan);
    const scorers = new Map(
      deps.services
        .map((definition) => ({ definition, service: plan.services.find(({ name }) => name === definition.name) }))
        .flatMap(({ definition, service }) => (service ? [[service.name, createScorer(service, definition)]] : [])),
    );
    const { pushed } = deps;
    const load = pushed === null ? null : pushed.registry.load.bind(pushed.registry);
    const registered = load === null ? null : createRegisteredFeatures(load, plan, clock);
    const observations = new Observations(clock());
    const shared = { catalogue, registered, reader, scorers, telemetry, clock, observations };
    const features = createFeatureHandlers(shared);
    const onFault = ({ error, ...details }: ScoreFault) =>
      spare(`${details.service} ${details.code}`, "score degraded", details, error);
    const { scoring, services } = deps;
    const runner = createScoreRunner({ ...shared, models: scoring?.serving ?? null, onFault });
    const scored = { ...shared, plan, services, runner, scoring };
    const score = createScoreHandlers(scored);
    register("POST", "/v1/score/:service", "score", score.one, ITSELF);
    register("POST", "/v1/score/:service/batch", "score", score.batch, ITSELF);
    register("POST", "/v1/rank/:service", "score", createRankHandler(scored), ITSELF);
    if (scoring !== null) {
      prometheus.watch(scoring.serving);
      const models = createModelHandlers({ catalogue, services, ...scoring, clock });
      register("GET", "/v1/models", "admin", models.list, { audit: "models.list" });
      register("POST", "/v1/models/:name/aliases/:alias", "admin", models.alias, { audit: "models.alias" });
    }
    if (deps.audit !== null) {
      register("GET", "/v1/audit", "admin", createAuditHandler(deps.audit), { audit: "audit.read" });
      if (deps.erasures !== null) {
        const erasing = createErasureHandlers({ plan, erasures: deps.erasures, clock });
        register("POST", "/v1/erasures", "admin", erasing.create, { audit: "erasures.create" });
        register("GET", "/v1/erasures", "admin", erasing.list, { audit: "erasures.list" });
        register("GET", "/v1/erasures/:id", "admin", erasing.one, { audit: "erasures.show" });
      }
      const keys = createKeyHandlers({ keys: deps.keys, authenticate, clock });
      register("POST", "/v1/keys", "admin", keys.create, { audit: "keys.create" });
      register("GET", "/v1/keys", "admin", keys.list, { audit: "keys.list" });
      register("POST", "/v1/keys/:id/rotate", "admin", keys.rotate, { audit: "keys.rotate" });
      register("DELETE", "/v1/keys/:id", "admin", keys.revoke, { audit: "keys.revoke", auditKind: "urgent" });
    }
    if (deps.quarantine !== null) {
      const quarantine = createQuarantineHandlers({ plan, ports: deps.quarantine, clock });
      register("GET", "/v1/quarantine", "admin", quarantine.groups, { audit: "quarantine.list" });
      register("GET", "/v1/quarantine/records", "admin", quarantine.records, { audit: "quarantine.list" });
      register("GET", "/v1/quarantine/jobs/:job", "admin", quarantine.job, { audit: "quarantine.job" });
      // After the two above, whose paths fit too.
      register("GET", "/v1/quarantine/:id", "admin", quarantine.show, { audit: "quarantine.show" });
      register("POST", "/v1/quarantine/replay", "admin", quarantine.replay, { audit: "quarantine.replay" });
      register("POST", "/v1/quarantine/drop", "admin", quarantine.drop, { audit: "quarantine.drop" });
    }
    register("POST", "/get-online-features", "read", createFeastOnline(shared), { errors: feastError, ...ITSELF });
    register("POST", "/v1/features/online", "read", features.online, ITSELF);
    register("POST", "/v1/features/batch", "read", features.batch, ITSELF);
    if (pushed !== null && registered !== null) {
      const { registry } = pushed;
      const pusher = createPusher({ ...pushed, clock });
      register("POST", "/v1/features/register", "admin", createRegisterHandler({ plan, registry, registered, clock }), {
        audit: "features.register",
      });
      register(
        "POST",
        "/v1/features/push",
        "write",
        createPushHandler({ catalogue, registered, pusher, writes, observations }),
        ITSELF,
      );
      const feast = createFeastWrites({ catalogue, registered, pusher, writes, observations });
      register("POST", "/push", "write", feast.push, { errors: feastError, ...ITSELF });
      register("POST", "/write-to-online-store", "write", feast.write, { errors: feastError, ...ITSELF });
    }
    if (deps.materialize !== null) {
      const materialize = createFeastMaterialize({ plan, ports: deps.materialize, clock });
      const options = { errors: feastError, audit: "features.materialize" };
      register("POST", "/materialize", "admin", materialize.range, options);
      register("POST", "/materialize-incremental", "admin", materialize.incremental, options);
    }
    if (deps.historical !== null) {
      const jobs = createHistoricalHandlers({ plan, services, registered, historical: deps.historical, clock });
      register("POST", "/v1/features/historical", "read", jobs.start, { audit: "features.historical" });
      // Before the entity route, whose path fits too.
      register("GET", "/v1/features/historical/:job", "read", jobs.get);
      register("DELETE", "/v1/features/historical/:job", "read", jobs.cancel, { audit: "features.historical_cancel" });
    }
    const told = createCatalogueHandlers({ plan, registered, serving: scoring?.serving ?? null, observations });
    register("GET", "/v1/features", "read", told.list);
    register("GET", "/v1/features/:name", "read", told.one);
    register("GET", "/v1/features/:entity/:id", "read", features.entity, ITSELF);
    const registering =
      pushed === null || registered === null
        ? null
        : createRegisterHandler({ plan, registry: pushed.registry, registered, clock });
    registerFamiliar(register, { ...features, ...told, score: score.familiar, register: registering });
    if (deps.rebuild !== null) {
      const rebuild = createRebuildHandlers({ plan, ports: deps.rebuild, clock });
      register("DELETE", "/v1/cache/:entity/:id", "admin", rebuild.one, { audit: "cache.rebuild" });
      register("DELETE", "/api/v1/cache/invalidate/:id", "admin", rebuild.every, { audit: "cache.rebuild" });
    }
    register("GET", "/v1/context/:entity/:id", "read", createContextHandler({ plan, ...shared }), ITSELF);
    register(
      "GET",
      "/ready",
      null,
      createReadyHandler(plan, reader, deps.scoring?.serving ?? null, {
        hasFallback: (deps.fallback?.snapshots ?? null) !== null,
        open: () => (reader instanceof FallbackReader ? reader.open : null),
        isDraining: () => host.state?.isDraining ?? false,
      }),
    );
  }
  if (ingest !== null) {
    const events = createEventsHandler({ plan, telemetry, clock, writes, ...ingest });
    register("POST", "/v1/events/:stream", "write", events, ITSELF);
    if (hasLabels(plan)) register("POST", "/v1/labels", "write", (call) => events(call, LABELS), ITSELF);
  }
  register("GET", "/health", null, health);
  register("GET", "/metrics", null, createMetricsHandler(prometheus, deps.telemetry !== undefined));

  // Loaded on first use: schemas and their library are of no use to any other call.
  let document: Promise<object> | undefined;
  const openApi = () => {
    document ??= import("./openapi/openapi.ts").then((module) => module.createOpenApiDocument(plan, deps.version));
    return document;
  };
  // Texts are kept, since anyone may ask for them, as often as they like.
  let [json, page]: (Promise<string> | undefined)[] = [];
  register("GET", "/openapi.json", null, async () => {
    json ??= openApi().then((found) => JSON.stringify(found));
    return { status: 200, body: await json };
  });
  register("GET", "/docs", null, async () => {
    page ??= import("./openapi/docs-page.ts").then(async ({ docsPage }) => docsPage(await openApi(), PROBLEMS));
    return {
      status: 200,
      body: await page,
      contentType: "text/html; charset=utf-8",
      headers: { "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'" },
    };
  });
  return app;
}

function readerOf({ fallback, log }: ApiDependencies, store: OnlineReader, { reads }: Telemetry): OnlineReader {
  if (fallback === undefined) return store;
  return new FallbackReader(store, fallback.snapshots, fallback.budget, {
    ...reads,
    breaker(of, isOpen) {
      reads.breaker(of, isOpen);
      log(isOpen ? "calls are spared what does not answer" : "it answers again", { of });
    },
  });
}
