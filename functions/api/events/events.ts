/** `POST /v1/events/{stream}` and `/v1/labels`: contract check, encoding, publishing, a result for every record. */
import type { EventReader } from "../../../adapters/avro/event-codec.ts";
import type { Publisher, PublishOutcome } from "../../../adapters/broker/broker.ts";
import type { OnlineReader } from "../../../adapters/online-store/online-store.ts";
import { FreshetError, RecordError } from "../../../core/errors.ts";
import type { Plan, Stream } from "../../../core/plan.ts";
import type { WriteLedger } from "../administration/write-ledger.ts";
import { checkFields, emptyBody, isJsonType, type JsonObject, parseJson, readBytes, unsupportedType } from "../body.ts";
import { MAX_BODY_BYTES, MAX_EVENTS } from "../limits.ts";
import type { Telemetry } from "../observability/telemetry.ts";
import { PROBLEMS, Problem, type ProblemCode, shorten, suggest } from "../problems.ts";
import type { Answer, Call } from "../router.ts";
import { createEnrich, type Enrich } from "./enrich.ts";
import {
  createEventChecker,
  type EncodedEvent,
  type EventChecker,
  type EventCodec,
  type ReadEvent,
} from "./event-check.ts";

const AVRO_TYPES = ["application/vnd.freshet.avro", "avro/binary", "application/octet-stream"];

/** The stream of outcomes, which has an address of its own: whoever reports them need not know that they are events. */
export const LABELS = "labels";
export const hasLabels = ({ streams }: Pick<Plan, "streams">): boolean => streams.some(({ name }) => name === LABELS);

interface RecordResult {
  index: number;
  event_id: string | null;
  status: "queued" | "invalid" | "throttled";
  /** Only on streams with lookups. */
  enriched?: boolean;
  not_enriched?: Readonly<Record<string, string>>;
  code?: string;
  field?: string;
  detail?: string;
  repair?: string;
}

export function createEventsHandler(deps: {
  plan: Plan;
  codecs: (contract: string) => EventCodec;
  /** Of records that name their schema by the id of a registry. @default there is none */
  framed?: ((contract: string) => EventReader) | null;
  /** The user records of a KPL-aggregated record; null for bytes that are none. @throws RecordError for a damaged one */
  deaggregate: (bytes: Buffer) => readonly Buffer[] | null;
  publisher: Publisher;
  /** Where enriched streams look their fields up; null where the plan has none. */
  lookups: OnlineReader | null;
  telemetry: Telemetry;
  writes?: WriteLedger;
  clock: () => number;
}): (call: Call, stream?: string) => Promise<Answer> {
  const checkers = new Map<string, EventChecker>();
  const enrichers = new Map<string, Enrich>();
  for (const stream of deps.plan.streams) {
    const { contract } = stream;
    const checker = createEventChecker(deps.plan, stream, deps.codecs(contract), deps.framed?.(contract) ?? null);
    checkers.set(stream.name, checker);
    if (stream.enrich !== undefined) enrichers.set(stream.name, createEnrich(checker, requireLookups(deps, stream)));
  }

  return async ({ c, principal, requestId, ticket }, name = c.req.param("stream") as string) => {
    const checker = checkers.get(name);
    if (checker === undefined) {
      throw new Problem("stream_unknown", `no stream is named "${shorten(name)}"`, {
        field: "stream",
        repair: suggest(name, [...checkers.keys()]),
      });
    }
    const { records, read, learn } = await readRecords(c, checker, deps.deaggregate);
    await ticket.charge(records.length);
    await learn?.();
    const arrivalMs = deps.clock();
    const results: RecordResult[] = new Array(records.length);
    let accepted: { index: number; event: ReadEvent; before?: ReadEvent }[] = [];
    /** A record's own fault is its own result. */
    const attempt = <T>(index: number, eventId: () => string | null, what: () => T): T | null => {
      try {
        return what();
      } catch (error) {
        if (!(error instanceof RecordError)) throw error;
        results[index] = invalid(index, eventId(), error);
        return null;
      }
    };
    records.forEach((record, index) => {
      const event = attempt(
        index,
        () => eventIdOf(record, checker),
        () => read(record, principal.tenant, arrivalMs),
      );
      if (event === null) return;
      results[index] = { index, event_id: event.eventId, status: "queued" };
      accepted.push({ index, event });
    });
    const enrich = enrichers.get(name);
    if (enrich !== undefined && accepted.length > 0) {
      const enriched = await enrich(
        principal.tenant,
        accepted.map(({ event }) => event),
        arrivalMs,
      );
      deps.telemetry.enrichment(name, enriched.counts);
      accepted = accepted.map(({ index, event: before }, i) => {
        const { event, missing } = enriched.events[i];
        results[index].enriched = missing === null;
        if (missing !== null) results[index].not_enriched = missing;
        return { index, event, before };
      });
    }
    const outgoing: { index: number; record: EncodedEvent }[] = [];
    for (const { index, event, before } of accepted) {
      const record = attempt(
        index,
        () => event.eventId,
        () => encodeWithin(checker, event, before, results[index]),
      );
      if (record !== null) outgoing.push({ index, record });
    }
    const encoded = outgoing.map(({ record }) => record);
    const outcomes = encoded.length === 0 ? [] : await deps.publisher.publish(name, encoded);
    outcomes.forEach((outcome, i) => {
      if (outcome !== "queued") Object.assign(results[outgoing[i].index], NOT_QUEUED[outcome]);
    });
    const counts = { queued: 0, invalid: 0, throttled: 0 };
    for (const { status } of results) counts[status]++;
    deps.telemetry.events(name, counts);
    deps.writes?.note(principal, "events.write", name, counts.queued, results.length - counts.queued);
    return answer(name, results, counts, requestId);
  };
}

/** An event that only what was looked up makes too large goes without it: its producer could not mend that. */
function encodeWithin(
  checker: EventChecker,
  event: ReadEvent,
  before: ReadEvent | undefined,
  result: RecordResult,
): EncodedEvent {
  try {
    return checker.encode(event);
  } catch (error) {
    if (before === undefined || !(error instanceof RecordError) || error.code !== "record_too_large") throw error;
    const record = checker.encode(before);
    const refused = (checker.stream.enrich ?? []).map(({ field }) => [field, "VALUE_REFUSED"] as const);
    result.enriched = false;
    result.not_enriched = { ...Object.fromEntries(refused), ...result.not_enriched };
    return record;
  }
}

function requireLookups({ lookups }: { lookups: OnlineReader | null }, { name }: Stream): OnlineReader {
  if (lookups !== null) return lookups;
  throw new FreshetError("environment_missing", `stream ${name} is enriched, and this host reaches no online store`, {
    repair: "deploy with the CDK app, which lets ingest reach it",
  });
}

type Read = (record: any, tenant: string, arrivalMs: number) => ReadEvent;

async function readRecords(
  c: Call["c"],
  checker: EventChecker,
  deaggregate: (bytes: Buffer) => readonly Buffer[] | null,
): Promise<{ records: readonly unknown[]; read: Read; learn?: () => Promise<void> }> {
  const type = c.req.header("content-type");
  if (type === undefined || isJsonType(type)) {
    const body = parseJson(await readBytes(c, MAX_BODY_BYTES));
    return { records: limited(jsonRecords(body)), read: checker.fromJson };
  }
  const bare = type.split(";")[0].trim().toLowerCase();
  if (!AVRO_TYPES.includes(bare)) throw unsupportedType(type, ["application/json", ...AVRO_TYPES]);
  const bytes = await readBytes(c, MAX_BODY_BYTES);
  if (bytes.length === 0) throw emptyBody();
  // One record in single-object encoding or a registry's framing, or many in a KPL aggregate; the first bytes tell. Of the second
  // there is one in a request, so that a request asks a registry for one schema.
  if (checker.isFramed(bytes)) {
    return { records: [bytes], read: checker.fromFramed, learn: () => checker.learn(bytes) };
  }
  try {
    return { records: limited<Buffer>(deaggregate(bytes) ?? [bytes]), read: checker.fromAvro };
  } catch (error) {
    if (!(error instanceof RecordError)) throw error;
    throw new Problem("aggregate_invalid", error.message, { repair: error.repair, cause: error });
  }
}

function jsonRecords(body: unknown): unknown[] {
  if (Array.isArray(body)) return body;
  const events = (body as { events?: unknown } | null)?.events;
  if (Array.isArray(events)) {
    checkFields(body as JsonObject, ["events"], "a list of events");
    return events;
  }
  if (typeof body === "object" && body !== null) return [body];
  throw new Problem("body_shape", 'the body is one event, an array of events, or {"events": [...]}', {
    repair: "send an object or an array of objects",
  });
}

function limited<T>(records: readonly T[]): readonly T[] {
  if (records.length === 0) {
    throw new Problem("body_empty", "the body holds no event", { repair: `send 1 to ${MAX_EVENTS} events` });
  }
  if (records.length <= MAX_EVENTS) return records;
  throw new Problem("too_many_records", `a request holds at most ${MAX_EVENTS} events, given ${records.length}`, {
    repair: "split it into several requests",
  });
}

/** What a caller sees of an id that may be of any type, so that it can find its own record. */
function eventIdOf(record: unknown, checker: EventChecker): string | null {
  const id = (record as Record<string, unknown> | null)?.[checker.stream.eventId];
  return typeof id === "string" ? shorten(id) : typeof id === "number" ? String(id) : null;
}

const invalid = (index: number, eventId: string | null, error: RecordError): RecordResult => ({
  index,
  event_id: eventId,
  status: "invalid",
  code: error.code,
  field: error.field,
  detail: error.message,
  repair: error.repair,
});

const NOT_QUEUED: Record<Exclude<PublishOutcome, "queued">, Partial<RecordResult>> = {
  throttled: {
    status: "throttled",
    code: "throttled",
    detail: "the stream is at its limit",
    repair: "send this record again after a pause; its event id keeps it from counting twice",
  },
  unavailable: {
    status: "throttled",
    code: "broker_unavailable",
    detail: "the broker did not acknowledge the record",
    repair: "send this record again; its event id keeps it from counting twice",
  },
};

type Counts = Readonly<Record<RecordResult["status"], number>>;

function answer(stream: string, results: RecordResult[], counts: Counts, requestId: string): Answer {
  const body = { stream, ...counts, results };
  if (counts.queued > 0) {
    const status = counts.queued === results.length ? 202 : 207;
    return { status, body: JSON.stringify({ ...body, request_id: requestId }) };
  }
  if (counts.throttled > 0) {
    const code = results.some((result) => result.code === "throttled") ? "throttled" : "broker_unavailable";
    throw new Problem(code, "no record was acknowledged", {
      repair: "send the records marked throttled again after a pause",
      extra: body,
      headers: { "retry-after": "1" },
    });
  }
  // One reason speaks for itself; several are told by the results.
  const [first] = results;
  const same = results.every(({ code }) => code === first.code) && (first.code as string) in PROBLEMS;
  throw new Problem(same ? (first.code as ProblemCode) : "records_invalid", first.detail as string, {
    field: results.length === 1 ? first.field : undefined,
    repair: same ? first.repair : "repair the records as their results say",
    extra: body,
  });
}
