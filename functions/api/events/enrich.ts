/**
 * Fields that are looked up in the online store when an event comes in and recorded in it, so that every replay, and the
 * archive, have what was known then. An event never fails or waits for long because of it: what cannot be had is null, and
 * the record's result says why.
 */
import type { EntityRequest, OnlineReader } from "../../../adapters/online-store/online-store.ts";
import { within } from "../../../adapters/online-store/within.ts";
import { RecordError } from "../../../core/errors.ts";
import { entityId } from "../../../core/event.ts";
import type { Lookup, Scalar, Status } from "../../../core/plan.ts";
import type { Fields } from "../../../core/where.ts";
import type { EventChecker, ReadEvent } from "./event-check.ts";

/** Why a field is null, beside the statuses of a feature that has no value. */
type Reason =
  | Exclude<Status, "PRESENT">
  /** The event names no entity, or none that could be a key. */
  | "KEY_MISSING"
  /** The store did not answer in time, or may lag behind what was acknowledged. */
  | "STORE_UNAVAILABLE"
  /** A window over the field could not take it, as a number beyond its scale. */
  | "VALUE_REFUSED";

interface EnrichedEvent {
  readonly event: ReadEvent;
  /** By field; null when every field has a value. */
  readonly missing: Readonly<Record<string, Reason>> | null;
}
/** Fields of events: with a value, without one, and of those for which the store did not answer. */
export interface EnrichmentCounts {
  filled: number;
  missing: number;
  unavailable: number;
}
/** Takes the events of one request. Reads once, in one pipelined trip. Never throws because of the store. */
export type Enrich = (
  tenant: string,
  events: readonly ReadEvent[],
  nowMs: number,
) => Promise<{ readonly events: readonly EnrichedEvent[]; readonly counts: EnrichmentCounts }>;

/** What a read may take, however many trips and connections it needs. */
const READ_MS = 250;
/** While the store is away one request a second finds out, in the time that a read may take; others go on at once. */
const PAUSE_MS = 1_000;

export function createEnrich(checker: EventChecker, reader: Pick<OnlineReader, "read">): Enrich {
  const lookups = checker.stream.enrich ?? [];
  const entities = [...new Set(lookups.map(({ entity }) => entity))].map((entity) => {
    const own = lookups.filter((lookup) => lookup.entity === entity);
    const features = [...new Set(own.map(({ feature }) => feature))];
    return { entity, joinKey: own[0].joinKey, lookups: own, features };
  });
  let pausedUntilMs = 0;

  async function read(requests: readonly EntityRequest[], nowMs: number) {
    if (requests.length === 0 || nowMs < pausedUntilMs) return null;
    // This one finds out; those that come meanwhile do not wait with it.
    if (pausedUntilMs > 0) pausedUntilMs = nowMs + PAUSE_MS;
    try {
      const answers = await within(READ_MS, reader.read(requests, nowMs));
      pausedUntilMs = 0;
      return answers;
    } catch {
      // The reader's own alarms tell the fault; here it is a count, and a null that says why.
      pausedUntilMs = nowMs + PAUSE_MS;
      return null;
    }
  }

  return async (tenant, events, nowMs) => {
    const requests: EntityRequest[] = [];
    const places = new Map<string, number>();
    // Of each event, for each entity: its place among the requests, -1 without a key. Events of one request share entities.
    const wanted = events.map(({ fields }) =>
      entities.map(({ entity, joinKey, features }) => {
        const id = idOf(fields, joinKey);
        if (id === null) return -1;
        const key = `${entity}/${id}`;
        let place = places.get(key);
        if (place === undefined) {
          place = requests.push({ tenant, entity, id, features }) - 1;
          places.set(key, place);
        }
        return place;
      }),
    );
    const answers = await read(requests, nowMs);
    const counts: EnrichmentCounts = { filled: 0, missing: 0, unavailable: 0 };
    const enriched = events.map((event, e): EnrichedEvent => {
      const fields: Record<string, Fields[string]> = { ...event.fields };
      const missing: Record<string, Reason> = {};
      entities.forEach(({ lookups: own, features }, g) => {
        const place = wanted[e][g];
        const answer = answers?.[place];
        for (const { field, feature } of own) {
          const found = answer?.values[features.indexOf(feature)];
          if (place < 0) missing[field] = "KEY_MISSING";
          else if (answer === undefined || answer.degraded !== null) missing[field] = "STORE_UNAVAILABLE";
          else if (found!.status !== "PRESENT") missing[field] = found!.status;
          else fields[field] = found!.value as Scalar;
        }
      });
      dropRefused(checker, lookups, fields, missing);
      const reasons = Object.values(missing);
      const unavailable = reasons.filter((reason) => reason === "STORE_UNAVAILABLE").length;
      counts.unavailable += unavailable;
      counts.missing += reasons.length - unavailable;
      counts.filled += lookups.length - reasons.length;
      const filled = reasons.length < lookups.length;
      // Bytes of a producer go on as they are when there is nothing to put into them.
      return {
        event: filled ? { ...event, fields, bytes: null } : event,
        missing: reasons.length === 0 ? null : missing,
      };
    });
    return { events: enriched, counts };
  };
}

/** A value that a window refuses would refuse the event, which its producer could do nothing about. */
function dropRefused(
  checker: EventChecker,
  lookups: readonly Lookup[],
  fields: Record<string, Fields[string]>,
  missing: Record<string, Reason>,
): void {
  for (;;) {
    try {
      checker.checkInputs(fields);
      return;
    } catch (error) {
      const field = error instanceof RecordError ? error.field : undefined;
      if (field === undefined || fields[field] === null || !lookups.some((lookup) => lookup.field === field))
        throw error;
      fields[field] = null;
      missing[field] = "VALUE_REFUSED";
    }
  }
}

/** A key that is too long is none here; where a view of the stream needs it, the event was refused before. */
function idOf(fields: Fields, joinKey: string): string | null {
  try {
    return entityId(fields, joinKey);
  } catch {
    return null;
  }
}
