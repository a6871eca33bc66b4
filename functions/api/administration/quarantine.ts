/**
 * `/v1/quarantine`: a tenant's administrators look at what of its events was refused, and have it replayed or dropped. Records that
 * no tenant answers for are the operator's alone (docs/decisions/0051-replay.md). A function does the work, a minute later at most.
 */
import { randomUUID } from "node:crypto";
import { jobId } from "../../../adapters/jobs/historical-jobs.ts";
import {
  QUARANTINE_STATUSES,
  type QuarantineFilter,
  type QuarantineIndex,
  type QuarantineItem,
  type QuarantineStatus,
  quarantineJson,
  WAITING,
} from "../../../adapters/quarantine/quarantine-index.ts";
import type { QuarantineJob, QuarantineJobs } from "../../../adapters/quarantine/quarantine-jobs.ts";
import { typeName } from "../../../core/errors.ts";
import { parseIsoOrDay } from "../../../core/iso-time.ts";
import type { Plan } from "../../../core/plan.ts";
import { groupJson, quarantineGroups } from "../../shared/replay/quarantine-groups.ts";
import { checkFields, type JsonObject, readObject } from "../body.ts";
import { MAX_QUERY_BYTES, MAX_SELECTOR } from "../limits.ts";
import { Problem, shorten, suggest } from "../problems.ts";
import { limitOf } from "../query.ts";
import type { Answer, Call, Handle } from "../router.ts";

export interface QuarantinePorts {
  readonly index: Pick<QuarantineIndex, "page" | "get" | "bytes">;
  readonly jobs: Pick<QuarantineJobs, "put" | "get" | "open">;
  /** A record's fields by the contract's newest version. Throws for what cannot be read. */
  readonly decode: (contract: string, bytes: Buffer) => object;
}

const USUAL_PAGE = 100;
/** Of calls to the table for one page of an answer: a rare reason among many others is found page by page. */
const MAX_READS = 80;
const MAX_OPEN_JOBS = 10;
const MAX_IDS = 500;
const SELECTORS = ["stream", "reason", "field", "since"];
export const GROUP_PARAMETERS = [...SELECTORS, "status"];
export const RECORD_PARAMETERS = [...GROUP_PARAMETERS, "limit", "after"];
const NO_STORE = { "cache-control": "no-store" };
const ID = /^[0-9a-f]{32}$/;

export function createQuarantineHandlers({
  plan,
  ports,
  clock,
}: {
  readonly plan: Plan;
  readonly ports: QuarantinePorts;
  readonly clock: () => number;
}): Readonly<Record<"groups" | "records" | "show" | "replay" | "drop" | "job", Handle>> {
  const { index, jobs } = ports;
  const names = plan.streams.map(({ name }) => name);

  const change =
    (kind: QuarantineJob["kind"]): Handle =>
    async ({ c, principal, requestId }: Call) => {
      const { tenant } = principal;
      const body = await readObject(c, MAX_QUERY_BYTES);
      checkBody(body);
      const ids = idsOf(body["ids"]);
      const filter = filterOf(names, tenant, body as Record<string, string | undefined>);
      const { length } = await jobs.open(tenant);
      if (length >= MAX_OPEN_JOBS) throw tooMany(length);
      const nowMs = clock();
      const id = jobId(nowMs, randomUUID());
      const counts = { replayed: 0, stillRefused: 0, dropped: 0, unreadable: 0, applied: 0, duplicates: 0, late: 0 };
      const times = { createdMs: nowMs, updatedMs: nowMs };
      const job: QuarantineJob = { tenant, id, kind, filter, ids, state: "queued", ...times, counts };
      await jobs.put(job);
      const headers = { location: `/v1/quarantine/jobs/${id}` };
      return { ...answer(202, jobJson(job), requestId, headers), target: `job ${id}` };
    };

  return {
    async groups({ c, principal, requestId }: Call) {
      const query = c.req.query();
      const filter = { ...filterOf(names, principal.tenant, query), statuses: statusesOf(query["status"]) };
      const { groups, complete } = await quarantineGroups(index, filter);
      return answer(200, { groups: groups.map(groupJson), complete }, requestId);
    },

    async records({ c, principal, requestId }: Call) {
      const query = c.req.query();
      const filter = { ...filterOf(names, principal.tenant, query), statuses: statusesOf(query["status"]) };
      const limit = limitOf(query["limit"], USUAL_PAGE);
      const found: QuarantineItem[] = [];
      let next: string | null = afterOf(query["after"]);
      let reads = 0;
      do {
        const page: Awaited<ReturnType<QuarantineIndex["page"]>> = await index.page(filter, next, limit - found.length);
        found.push(...page.items);
        next = page.next;
      } while (next !== null && found.length < limit && ++reads < MAX_READS);
      return answer(200, { records: found.map(quarantineJson), next }, requestId);
    },

    async show({ c, principal, requestId }: Call) {
      const id = c.req.param("id") as string;
      const item = ID.test(id) ? await index.get(principal.tenant, names, id) : null;
      // The partition is the tenant's; what it holds says so itself.
      if (item === null || item.tenant !== principal.tenant) throw recordUnknown(id);
      const bytes = (await index.bytes([item])).get(id) ?? null;
      const { contract } = plan.streams.find(({ name }) => name === item.stream)!;
      const payload = bytes?.toString("base64") ?? null;
      const event = bytes === null ? null : decoded(() => ports.decode(contract, bytes));
      return answer(200, { ...quarantineJson(item), payload, event }, requestId);
    },

    replay: change("replay"),
    drop: change("drop"),

    async job({ c, principal, requestId }: Call) {
      const id = c.req.param("job") as string;
      const job = await jobs.get(principal.tenant, id.slice(0, 100));
      if (job !== null) return answer(200, jobJson(job), requestId);
      throw new Problem("job_unknown", `no job has the id "${shorten(id)}"`, {
        field: "job",
        repair: "start one with POST /v1/quarantine/replay",
      });
    },
  };
}

const answer = (status: number, body: object, requestId: string, headers: Record<string, string> = {}): Answer => ({
  status,
  body: JSON.stringify({ ...body, request_id: requestId }),
  headers: { ...NO_STORE, ...headers },
});

const jobJson = ({ id, kind, state, createdMs, updatedMs, counts }: QuarantineJob) => ({
  job_id: id,
  kind,
  state,
  created_ms: createdMs,
  updated_ms: updatedMs,
  replayed: counts.replayed,
  still_refused: counts.stillRefused,
  dropped: counts.dropped,
  unreadable: counts.unreadable,
  applied: counts.applied,
  duplicates: counts.duplicates,
  late: counts.late,
});

function decoded(decode: () => object): object | null {
  try {
    return decode();
  } catch {
    return null;
  }
}

/** @param given of a query or a body */
function filterOf(
  names: readonly string[],
  tenant: string,
  { stream, reason, field, since }: Readonly<Record<string, string | undefined>>,
): Omit<QuarantineFilter, "statuses"> {
  if (stream !== undefined && !names.includes(stream)) {
    throw new Problem("stream_unknown", `no stream is named "${shorten(stream)}"`, {
      field: "stream",
      repair: suggest(stream, names),
    });
  }
  return {
    tenant,
    streams: stream === undefined ? names : [stream],
    ...(reason === undefined ? {} : { reason: selector("reason", reason) }),
    ...(field === undefined ? {} : { field: selector("field", field) }),
    ...(since === undefined ? {} : { sinceMs: sinceOf(since) }),
  };
}

/** Cut to what fits it would pick other records than were meant. @throws Problem `value_too_long` */
function selector(name: string, given: string): string {
  // By characters, as the schema counts: some take two units of UTF-16.
  const length = given.length <= MAX_SELECTOR ? given.length : [...given].length;
  if (length <= MAX_SELECTOR) return given;
  throw new Problem("value_too_long", `${name} is at most ${MAX_SELECTOR} characters, given ${length}`, {
    field: name,
    repair: "send it as GET /v1/quarantine shows it",
  });
}

function sinceOf(given: string): number {
  const ms = /^\d{1,14}$/.test(given) ? Number(given) : parseIsoOrDay(given);
  if (!Number.isNaN(ms)) return ms;
  throw new Problem("wrong_type", `since is a time, given "${shorten(given)}"`, {
    field: "since",
    repair: "send ISO 8601 with its zone, as 2026-11-21T10:00:00Z, a day, or epoch milliseconds",
  });
}

function statusesOf(given: string | undefined): readonly QuarantineStatus[] {
  if (given === undefined) return WAITING;
  if (given === "all") return QUARANTINE_STATUSES;
  const status = QUARANTINE_STATUSES.find((one) => one === given);
  if (status !== undefined) return [status];
  throw new Problem(
    "wrong_type",
    `status is one of ${QUARANTINE_STATUSES.join(", ")} or all, given "${shorten(given)}"`,
    {
      field: "status",
      repair: "leave it out for records that wait: open and still_refused",
    },
  );
}

function afterOf(given: string | undefined): string | null {
  if (given === undefined || /^\d{1,6}\.([0-9a-f]{32})?$/.test(given)) return given ?? null;
  throw new Problem("wrong_type", `after is what \`next\` of a page was, given "${shorten(given)}"`, {
    field: "after",
    repair: "send `next` of the page before, or leave it out for the first",
  });
}

/** Everything at once is said in so many words: a slip must not drop all there is. */
function checkBody(body: JsonObject): void {
  const known = [...SELECTORS, "ids", "all"];
  checkFields(body, known);
  for (const field in body) {
    const value = body[field];
    const right = field === "ids" ? Array.isArray(value) : field === "all" ? value === true : typeof value === "string";
    if (right) continue;
    const kind = field === "ids" ? "a list of ids" : field === "all" ? "true" : "a string";
    throw new Problem("wrong_type", `${field} is ${kind}, given ${typeName(value)}`, {
      field,
      repair: 'send what the records have in common, as {"reason": "schema_unknown"}',
    });
  }
  if (Object.keys(body).length > 0) return;
  throw new Problem("field_missing", "which records are meant is not said", {
    field: "reason",
    repair: 'send one or more of stream, reason, field, since and ids; {"all": true} for all that wait',
  });
}

function idsOf(given: unknown): readonly string[] | undefined {
  if (given === undefined) return undefined;
  const ids = given as readonly unknown[];
  if (ids.length > 0 && ids.length <= MAX_IDS && ids.every((id) => typeof id === "string" && ID.test(id))) {
    return ids as readonly string[];
  }
  throw new Problem("wrong_type", `ids is a list of 1 to ${MAX_IDS} ids of 32 hex digits`, {
    field: "ids",
    repair: "take them from GET /v1/quarantine/records",
  });
}

const recordUnknown = (id: string) =>
  new Problem("record_unknown", `no record of the quarantine has the id "${shorten(id)}"`, {
    field: "id",
    repair: "GET /v1/quarantine/records lists them",
  });

const tooMany = (length: number) =>
  new Problem("too_many_jobs", `${length} jobs of the tenant wait or run, the limit is ${MAX_OPEN_JOBS}`, {
    repair: "wait until one of them is done: GET /v1/quarantine/jobs/{job} tells of it",
    headers: { "retry-after": "30" },
  });
