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
import { registerAdministration } from "./administration/admin-routes.ts";
import type { QuarantinePorts } from "./administration/quarantine.ts";
import type { RebuildPorts } from "./administration/rebuild.ts";
import type { WriteLedger } from "./administration/write-ledger.ts";
import { createAdmission, type LimitPorts } from "./admission/admission.ts";
import type { LoadGate } from "./admission/load-gate.ts";
import { CATALOGUE_PARAMETERS, createCatalogueHandlers } from "./catalogue/catalogue.ts";
import { Observations } from "./catalogue/observations.ts";
import type { EventCodec } from "./events/event-check.ts";
import { createEventsHandler, hasLabels, LABELS } from "./events/events.ts";
import { registerFamiliar } from "./familiar.ts";
import { registerFeast } from "./feast/feast-routes.ts";
import type { MaterializePorts } from "./feast/materialize.ts";
import { createHistoricalHandlers, type HistoricalPorts } from "./historical/historical.ts";
import { createAuthenticator, type KeyStore } from "./keys/keys.ts";
import { createMetricsHandler, createReadyHandler, health } from "./observability/health.ts";
import { sparing } from "./observability/sparing.ts";
import { bothTelemetries, createPrometheusTelemetry, type Telemetry } from "./observability/telemetry.ts";
import { registerDocuments } from "./openapi/document-routes.ts";
import { CONTEXT_PARAMETERS, createContextHandler } from "./reading/context.ts";
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
    registerAdministration(register, deps, authenticate);
    register("POST", "/v1/features/online", "read", features.online, ITSELF);
    register("POST", "/v1/features/batch", "read", features.batch, ITSELF);
    const pushing =
      pushed === null || registered === null ? null : { registered, pusher: createPusher({ ...pushed, clock }) };
    const registering =
      pushing === null ? null : createRegisterHandler({ ...pushing, plan, registry: pushed!.registry, clock });
    if (pushing !== null) {
      const push = createPushHandler({ ...pushing, catalogue, writes, observations });
      register("POST", "/v1/features/push", "write", push, ITSELF);
    }
    if (registering !== null) {
      register("POST", "/v1/features/register", "admin", registering, { audit: "features.register" });
    }
    registerFeast(register, { ...shared, plan, writes, pushing, materialize: deps.materialize });
    if (deps.historical !== null) {
      const jobs = createHistoricalHandlers({ plan, services, registered, historical: deps.historical, clock });
      register("POST", "/v1/features/historical", "read", jobs.start, { audit: "features.historical" });
      // Before the entity route, whose path fits too.
      register("GET", "/v1/features/historical/:job", "read", jobs.get);
      register("DELETE", "/v1/features/historical/:job", "read", jobs.cancel, { audit: "features.historical_cancel" });
    }
    const told = createCatalogueHandlers({ plan, registered, serving: scoring?.serving ?? null, observations });
    register("GET", "/v1/features", "read", told.list, { parameters: CATALOGUE_PARAMETERS });
    register("GET", "/v1/features/:name", "read", told.one);
    register("GET", "/v1/features/:entity/:id", "read", features.entity, ITSELF);
    registerFamiliar(register, { ...features, ...told, score: score.familiar, register: registering });
    register("GET", "/v1/context/:entity/:id", "read", createContextHandler({ plan, ...shared }), {
      ...ITSELF,
      parameters: CONTEXT_PARAMETERS,
    });
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

  registerDocuments(register, plan, deps.version);
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
