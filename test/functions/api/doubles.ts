/** Ports of the API in memory, for unit tests: keys that are really hashed, a broker that can be told to refuse. */

import type { AuditLog, AuditRecord } from "../../../adapters/audit-log.ts";
import { EventCodec } from "../../../adapters/avro/event-codec.ts";
import type { OutgoingRecord, Publisher, PublishOutcome } from "../../../adapters/broker/broker.ts";
import type { Erasure } from "../../../adapters/erasure/erasures.ts";
import { hash64 } from "../../../adapters/hash.ts";
import { isEnded, type MaterializeRequest } from "../../../adapters/jobs/materialize-requests.ts";
import type { RebuildRequest } from "../../../adapters/jobs/rebuild-requests.ts";
import { deaggregate } from "../../../adapters/kinesis/kpl.ts";
import type { EntityRequest, OnlineReader, StoreState } from "../../../adapters/online-store/online-store.ts";
import type { QuarantineJob } from "../../../adapters/quarantine/quarantine-jobs.ts";
import { compile, EMPTY_LOCK } from "../../../core/compile/compile.ts";
import { InfrastructureError } from "../../../core/errors.ts";
import type { FeatureValue } from "../../../core/plan.ts";
import { fullName, type PushedFeature } from "../../../core/pushed-feature.ts";
import { definitions } from "../../../features/index.ts";
import type { QuarantinePorts } from "../../../functions/api/administration/quarantine.ts";
import type { RebuildPorts } from "../../../functions/api/administration/rebuild.ts";
import type { ApiDependencies } from "../../../functions/api/app.ts";
import type { MaterializePorts } from "../../../functions/api/feast/materialize.ts";
import type { KeyRecord, KeyStore } from "../../../functions/api/keys/keys.ts";
import type { PushedPorts } from "../../../functions/api/registered/pushed-ports.ts";
import { contracts } from "../../../schemas/contracts.ts";

export const { plan } = compile(definitions, contracts, EMPTY_LOCK, hash64);

export function memoryKeyStore(): KeyStore & { reads: number; broken: boolean } {
  const records = new Map<string, KeyRecord>();
  return {
    reads: 0,
    broken: false,
    async put(record) {
      records.set(record.id, record);
    },
    async get(id) {
      this.reads++;
      if (this.broken) throw new Error("the table does not answer");
      return records.get(id) ?? null;
    },
    async list() {
      return [...records.values()];
    },
    async listOf(tenant) {
      return [...records.values()].filter((one) => one.tenant === tenant);
    },
    async rotate(old, oldExpiresAtMs, next) {
      const standing = records.get(old.id);
      if (standing === undefined || standing.rotatedTo !== null) return false;
      records.set(next.id, next);
      records.set(old.id, { ...standing, expiresAtMs: oldExpiresAtMs, rotatedTo: next.id });
      return true;
    },
    async remove(id) {
      return records.delete(id);
    },
    async removeBeside(id, other, untilMs) {
      if (!records.has(id)) return "gone";
      const standing = records.get(other);
      const isLive = standing?.expiresAtMs == null || standing.expiresAtMs > untilMs;
      if (standing === undefined || standing.rotatedTo !== null || !isLive) return "other_gone";
      records.delete(id);
      return null;
    },
  };
}

export interface MemoryBroker extends Publisher {
  readonly sent: { stream: string; record: OutgoingRecord }[];
  /** What the broker says to each record; everything is queued when left out. */
  refuse: ((record: OutgoingRecord, index: number) => PublishOutcome) | null;
}

function memoryBroker(): MemoryBroker {
  return {
    sent: [],
    refuse: null,
    async publish(stream, records) {
      const outcomes = records.map((record, i) => this.refuse?.(record, i) ?? "queued");
      records.forEach((record, i) => {
        if (outcomes[i] === "queued") this.sent.push({ stream, record });
      });
      return outcomes;
    },
  };
}

export interface FaultyReader extends OnlineReader {
  readonly requests: EntityRequest[];
  /** `tenant/entity/id`, then the feature's full name. */
  readonly values: Map<string, Record<string, FeatureValue>>;
  down: boolean;
  /** What a read throws otherwise. */
  fault: Error | null;
  degraded: string | null;
  control: StoreState["control"];
  full: boolean;
}

/** For what a real store cannot be made to do on demand. Knows nothing of windows. */
function faultyReader(): FaultyReader {
  return {
    requests: [],
    values: new Map(),
    down: false,
    fault: null,
    degraded: null,
    control: "ok",
    full: false,
    async read(requests) {
      if (this.down) throw new InfrastructureError("store_unavailable", "the online store does not answer");
      if (this.fault !== null) throw this.fault;
      this.requests.push(...requests);
      return requests.map(({ tenant, entity, id, features }) => {
        const known = this.values.get(`${tenant}/${entity}/${id}`) ?? {};
        const none: FeatureValue = { value: null, status: "NOT_FOUND", eventTimeMs: null };
        return { values: features.map((name) => known[name] ?? none), degraded: this.degraded };
      });
    },
    async state() {
      return { reachable: !this.down, control: this.control, full: this.full, seals: { transactions: 60_000 } };
    },
    async close() {},
  };
}

export interface MemoryAuditLog extends AuditLog {
  /** In the order of their first write, each as it was written last. */
  readonly records: AuditRecord[];
  /** Every write, in order. */
  readonly writes: AuditRecord[];
  broken: boolean;
}

export function memoryAuditLog(): MemoryAuditLog {
  return {
    records: [],
    writes: [],
    broken: false,
    async write(record) {
      if (this.broken) throw new InfrastructureError("audit_unavailable", "writing an audit record failed");
      this.writes.push(record);
      const known = this.records.findIndex(({ id }) => id === record.id);
      if (known < 0) this.records.push(record);
      else this.records[known] = record;
    },
    async page(tenant, { before, limit }) {
      if (this.broken) throw new InfrastructureError("audit_unavailable", "reading the audit log failed");
      const own = this.records.filter((one) => one.tenant === tenant && (before === null || one.id < before));
      const records = own.sort((a, b) => (a.id < b.id ? 1 : -1)).slice(0, limit);
      return { records, next: own.length > limit ? records.at(-1)!.id : null };
    },
  };
}

function memoryErasures() {
  const all: Erasure[] = [];
  return {
    all,
    broken: false,
    async create(erasure: Erasure) {
      if (this.broken) throw new InfrastructureError("erasures_unavailable", "asking the table failed");
      all.push(erasure);
    },
    async get(tenant: string, id: string) {
      if (id.length > 1_024) throw new InfrastructureError("erasures_unavailable", "no table takes so long a key");
      return all.find((one) => one.tenant === tenant && one.id === id) ?? null;
    },
    list: async (tenant: string, limit: number) =>
      all
        .filter((one) => one.tenant === tenant)
        .reverse()
        .slice(0, limit),
  };
}

/** Requests that are as if they had been done at once. @param state what becomes of each */
export function memoryRequests(
  state: MaterializeRequest["state"],
): MaterializePorts["requests"] & { readonly all: MaterializeRequest[] } {
  const all: MaterializeRequest[] = [];
  return {
    all,
    async put(request) {
      const error = state === "failed" ? { code: "view_query_failed", detail: "the query failed" } : null;
      all.push({ ...request, state, error });
    },
    get: async (tenant, id) => all.find((one) => one.tenant === tenant && one.id === id) ?? null,
    open: async (tenant) => all.filter((one) => one.tenant === tenant && !isEnded(one.state)),
  };
}

/** A quarantine with nothing in it. */
export function memoryQuarantine(): QuarantinePorts & {
  readonly asked: QuarantineJob[];
  readonly broken: { it: boolean };
} {
  const asked: QuarantineJob[] = [];
  const broken = { it: false };
  return {
    asked,
    broken,
    index: {
      page: async () => {
        if (broken.it) throw new InfrastructureError("quarantine_unavailable", "reading the quarantine failed");
        return { items: [], examined: 0, next: null };
      },
      get: async () => null,
      bytes: async () => new Map(),
    },
    jobs: {
      put: async (job) => void asked.push(job),
      get: async (tenant, id) => asked.find((job) => job.tenant === tenant && job.id === id) ?? null,
      open: async (tenant) => asked.filter((job) => job.tenant === tenant),
    },
    decode: () => ({}),
  };
}

/** Of a function that never comes to them. */
function memoryRebuilds(): RebuildPorts["requests"] & { readonly all: RebuildRequest[] } {
  const all: RebuildRequest[] = [];
  return {
    all,
    put: async (request) => void all.push(request),
    open: async (tenant) => all.filter((one) => one.tenant === tenant),
  };
}

/** Registered features in memory; what is pushed is accepted and forgotten. */
export function memoryPushed(): PushedPorts & { table: "answers" | "fails" | "hangs" } {
  const tenants = new Map<string, PushedFeature[]>();
  const ports: ReturnType<typeof memoryPushed> = {
    /** What the table of registrations does when it is asked. */
    table: "answers",
    registry: {
      async load(tenant, known) {
        if (ports.table === "hangs") await new Promise(() => {});
        if (ports.table === "fails") throw new Error("the table does not answer");
        const features = tenants.get(tenant) ?? [];
        if (known === features.length) return null;
        const current = new Map(features.map((one) => [fullName(one), one.version]));
        return { revision: features.length, features, current };
      },
      async register(tenant, given) {
        const features = tenants.get(tenant) ?? [];
        const feature: PushedFeature = { ...given, id: features.length, registeredMs: 1 };
        tenants.set(tenant, [...features, feature]);
        return { feature, outcome: "created", current: given.version };
      },
    },
    store: { push: async (rows) => rows.map(() => Date.now()) },
    archive: { append: async () => {} },
    close: async () => {},
  };
  return ports;
}

export interface LogLine {
  readonly message: string;
  readonly details: Readonly<Record<string, unknown>>;
  readonly error: unknown;
}

export function testDependencies() {
  const keys = memoryKeyStore();
  const broker = memoryBroker();
  const reader = faultyReader();
  const audit = memoryAuditLog();
  const erasures = memoryErasures();
  const lines: LogLine[] = [];
  const dependencies: ApiDependencies = {
    plan,
    services: definitions.services,
    keys,
    ingest: { publisher: broker, codecs: (contract) => EventCodec.for(contract), deaggregate, lookups: null },
    reader,
    scoring: null,
    historical: null,
    quarantine: memoryQuarantine(),
    audit,
    pushed: null,
    erasures,
    materialize: { requests: memoryRequests("done"), waitMs: 1_000 },
    rebuild: { requests: memoryRebuilds() },
    clock: Date.now,
    log: (message, details, error) => lines.push({ message, details, error }),
    version: "0.0.0",
  };
  return { dependencies, keys, broker, reader, audit, erasures, lines };
}
