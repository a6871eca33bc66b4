/** Features as they were: `POST /v1/features/historical` starts a job, `GET` and `DELETE /v1/features/historical/{job}` tell of it and cancel it. */
import { randomUUID } from "node:crypto";
import { type HistoricalJob, type HistoricalRequest, hasEnded, jobId } from "../../../adapters/jobs/historical-jobs.ts";
import { SILENT_MS } from "../../../adapters/jobs/job-items.ts";
import type { FeatureServiceDefinition } from "../../../core/definition.ts";
import { typeName } from "../../../core/errors.ts";
import { parseIsoOrDay } from "../../../core/iso-time.ts";
import type { Plan } from "../../../core/plan.ts";
import type { PushedFeature } from "../../../core/pushed-feature.ts";
import { inputsOf } from "../../../core/registered-feature.ts";
import { checkFields, type JsonObject, readObject } from "../body.ts";
import { MAX_BODY_BYTES, MAX_FEATURES } from "../limits.ts";
import { Problem, shorten, suggest } from "../problems.ts";
import { isPossibleId } from "../query.ts";
import type { RegisteredFeatures } from "../registered/tenant-features.ts";
import type { Answer, Call, Handle } from "../router.ts";
import { rowsOf } from "./historical-rows.ts";

export interface HistoricalPorts {
  readonly runner: HistoricalJob["runner"];
  readonly jobs: {
    create(job: HistoricalJob): Promise<void>;
    get(tenant: string, id: string): Promise<HistoricalJob | null>;
    open(tenant: string, nowMs: number): Promise<readonly HistoricalJob[]>;
    cancel(found: HistoricalJob, nowMs: number): Promise<boolean>;
  };
  /** Keeps the request's own rows for the run. @returns where */
  putSpine(job: { tenant: string; id: string }, rows: readonly unknown[]): Promise<string>;
  /** Address of a file that needs no key, for an hour. */
  sign(key: string): Promise<string>;
  /** Begins the job, where nobody else is woken by it. */
  start(job: HistoricalJob): void;
  /** Ends one that is cancelled, where it was begun here; elsewhere it ends by itself. */
  stop(job: HistoricalJob): void;
  /** Ends what was begun here. */
  close(): Promise<void>;
}

const URL_LIFE_MS = 3_600_000;
/** Of one tenant: jobs of all tenants wait in the same few queues. */
const MAX_OPEN_JOBS = 10;
const FIELDS = ["service", "features", "labels", "from", "to", "as_of", "from_log", "rows"];

export function createHistoricalHandlers(deps: {
  plan: Plan;
  services: readonly FeatureServiceDefinition[];
  historical: HistoricalPorts;
  registered: RegisteredFeatures | null;
  clock: () => number;
}): { start: Handle; get: Handle; cancel: Handle } {
  const { plan, services, historical, registered, clock } = deps;
  /** Looked up under the key's tenant: another tenant's job is not there. @throws Problem `job_unknown` */
  const found = async ({ c, principal }: Call): Promise<HistoricalJob> => {
    const id = c.req.param("job") as string;
    const job = isPossibleId(id) ? await historical.jobs.get(principal.tenant, id) : null;
    if (job !== null) return job;
    throw new Problem("job_unknown", `no job has the id "${shorten(id)}"`, {
      field: "job",
      repair: "start one with POST /v1/features/historical; jobs are kept for a week",
    });
  };
  const told = async (job: HistoricalJob, requestId: string): Promise<Answer> => ({
    status: 200,
    body: JSON.stringify({ ...(await jobJson(historical, job, clock())), request_id: requestId }),
    headers: { "cache-control": "no-store" },
  });
  return {
    async start({ c, principal, requestId }: Call): Promise<Answer> {
      const body = await readObject(c, MAX_BODY_BYTES);
      const { rows, ...asked } = readRequest(plan, services, body);
      const service = plan.services.find(({ name }) => name === asked.service)!;
      const besides = await featuresOf(registered, principal.tenant, body["features"], service.entities);
      const own = service.registered === undefined ? undefined : await registered?.newest(principal.tenant);
      const inputs = own === undefined ? undefined : [...inputsOf(service, own.all).values()];
      const nowMs = clock();
      await checkOpen(historical, principal.tenant, nowMs);
      const id = jobId(nowMs, randomUUID());
      const of = { tenant: principal.tenant, id };
      const spineKey = rows === null ? null : await historical.putSpine(of, rows);
      const job: HistoricalJob = {
        ...of,
        request: { ...asked, spineKey, inputs, registered: besides },
        runner: historical.runner,
        state: "queued",
        progress: 0,
        createdMs: nowMs,
        updatedMs: nowMs,
        files: [],
        manifest: null,
        error: null,
      };
      await historical.jobs.create(job);
      historical.start(job);
      return {
        status: 202,
        body: JSON.stringify({ ...(await jobJson(historical, job, nowMs)), request_id: requestId }),
        headers: { location: `/v1/features/historical/${id}` },
        target: `job ${id} for ${job.request.service}`,
      };
    },

    get: async (call) => told(await found(call), call.requestId),

    async cancel(call): Promise<Answer> {
      // As often as a run takes it or goes on with it in between, which is once in many minutes.
      for (;;) {
        const job = await found(call);
        if (job.state === "cancelled") return told(job, call.requestId);
        if (hasEnded(job) || isLost(job, clock())) {
          throw new Problem("job_ended", `the job is ${hasEnded(job) ? job.state : "failed"} already`, {
            field: "job",
            repair:
              "nothing is left to be cancelled; files of a job that is done are removed a week after it was started",
          });
        }
        if (!(await historical.jobs.cancel(job, clock()))) continue;
        historical.stop(job);
        return told(await found(call), call.requestId);
      }
    },
  };
}

/** Jobs that come at the same instant may go past it by each other. @throws Problem `too_many_jobs` */
async function checkOpen({ jobs }: HistoricalPorts, tenant: string, nowMs: number): Promise<void> {
  const { length } = await jobs.open(tenant, nowMs);
  if (length < MAX_OPEN_JOBS) return;
  throw new Problem("too_many_jobs", `${length} jobs of the tenant wait or run, the limit is ${MAX_OPEN_JOBS}`, {
    repair: "wait until one of them is done: GET /v1/features/historical/{job} tells of it",
    headers: { "retry-after": "30" },
  });
}

/** One that waits behind others is silent, too, and not lost. */
const isLost = ({ state, updatedMs }: HistoricalJob, nowMs: number): boolean =>
  state === "running" && nowMs - updatedMs > SILENT_MS;

async function jobJson(historical: HistoricalPorts, job: HistoricalJob, nowMs: number) {
  const lost = isLost(job, nowMs);
  const expiresMs = Math.floor(nowMs + URL_LIFE_MS);
  return {
    job_id: job.id,
    service: job.request.service,
    state: lost ? "failed" : job.state,
    progress: job.progress,
    created_ms: job.createdMs,
    updated_ms: job.updatedMs,
    files: await Promise.all(
      job.files.map(async (key) => ({
        name: key.slice(key.lastIndexOf("/") + 1),
        url: await historical.sign(key),
        expires_ms: expiresMs,
      })),
    ),
    manifest: job.manifest,
    error: lost
      ? {
          code: "job_lost",
          detail: "the job has not been heard of for 16 minutes",
          repair: "start it again, with a shorter range",
        }
      : job.error,
  };
}

function readRequest(
  plan: Plan,
  services: readonly FeatureServiceDefinition[],
  body: JsonObject,
): Omit<HistoricalRequest, "spineKey"> & { rows: readonly unknown[] | null } {
  checkFields(body, FIELDS, "a historical request");
  const service = text(body, "service");
  if (service === null) {
    throw new Problem("field_missing", "service is required", { field: "service", repair: 'send "service": "fraud"' });
  }
  const known = plan.services.find(({ name }) => name === service);
  if (known === undefined) {
    throw new Problem("service_unknown", `no feature service is named "${shorten(service)}"`, {
      field: "service",
      repair: suggest(
        service,
        plan.services.map(({ name }) => name),
      ),
    });
  }
  const rows = rowsOf(body["rows"], new Set(plan.entities.map(({ joinKey }) => joinKey)));
  const named = text(body, "labels");
  const declared = services.find(({ name }) => name === service)?.labels?.stream.name ?? null;
  const labels = rows === null ? (named ?? declared) : null;
  if (rows === null && !plan.streams.some(({ name }) => name === labels)) {
    throw new Problem("stream_unknown", `no stream of labels is named "${shorten(labels ?? "")}"`, {
      field: "labels",
      repair: suggest(
        labels ?? "",
        plan.streams.map(({ name }) => name),
      ),
    });
  }
  const asOf = text(body, "as_of") ?? "event_time";
  if (asOf !== "event_time" && asOf !== "arrival") {
    throw new Problem("selection_invalid", `as_of is event_time or arrival, given "${shorten(asOf)}"`, {
      field: "as_of",
      repair: "leave it out for the event time",
    });
  }
  const fromLog = flag(body, "from_log");
  const other = ["rows", "as_of"].find((field) => body[field] !== undefined && body[field] !== null);
  if (fromLog && other !== undefined) {
    throw new Problem("selection_invalid", `from_log takes rows and instants from the log, and ${other} is given`, {
      field: other,
      repair: `leave out ${other}, or from_log`,
    });
  }
  const [fromMs, toMs] = [timeOf(body, "from"), timeOf(body, "to")];
  if (fromMs !== null && toMs !== null && fromMs >= toMs) {
    throw new Problem("selection_invalid", "the range from `from` to `to` is empty", {
      field: "to",
      repair: "give a later `to`",
    });
  }
  return { service, labels, asOf, fromLog, fromMs, toMs, rows };
}

/** Registered features, to be joined beside what the service takes: of its entities, whose keys the rows have. */
async function featuresOf(
  registered: RegisteredFeatures | null,
  tenant: string,
  given: unknown,
  entities: readonly string[],
): Promise<readonly PushedFeature[] | undefined> {
  if (given === undefined || given === null) return undefined;
  if (!Array.isArray(given) || given.length > MAX_FEATURES || !given.every((name) => typeof name === "string")) {
    throw new Problem("wrong_type", `features is an array of at most ${MAX_FEATURES} names`, {
      field: "features",
      repair: 'send "features": ["profile:age"], or leave it out',
    });
  }
  const own = await registered?.newest(tenant);
  const found = given.map((name, i) => {
    const feature = own?.find(name);
    if (feature !== undefined && entities.includes(feature.entity)) return feature;
    const what = feature === undefined ? "is not registered" : `describes ${feature.entity}`;
    throw new Problem(
      feature === undefined ? "feature_unknown" : "entities_differ",
      `feature "${shorten(name)}" ${what}`,
      {
        field: `features[${i}]`,
        repair: `name registered features of ${entities.join(", ")}; those of the service are joined anyway`,
      },
    );
  });
  return [...new Set(found)];
}

function text(body: JsonObject, field: string): string | null {
  const value = body[field];
  if (value === undefined || value === null) return null;
  if (typeof value === "string") return value;
  throw new Problem("wrong_type", `${field} is a string, given ${typeName(value)}`, {
    field,
    repair: "send it in quotes",
  });
}

function flag(body: JsonObject, field: string): boolean {
  const value = body[field] ?? false;
  if (typeof value === "boolean") return value;
  throw new Problem("wrong_type", `${field} is true or false, given ${typeName(value)}`, {
    field,
    repair: "send it without quotes, or leave it out",
  });
}

/** Epoch milliseconds, or ISO 8601: a day, or a time with its zone. */
function timeOf(body: JsonObject, field: string): number | null {
  const value = body[field];
  if (value === undefined || value === null) return null;
  const ms = typeof value === "string" ? parseIsoOrDay(value) : value;
  if (typeof ms === "number" && Number.isSafeInteger(ms) && ms >= 0) return ms;
  throw new Problem(
    "wrong_type",
    `${field} is a day or a time with its zone, given ${typeof value === "string" ? `"${shorten(value)}"` : typeName(value)}`,
    {
      field,
      repair: "send epoch milliseconds, or 2026-11-01T00:00:00Z",
    },
  );
}
