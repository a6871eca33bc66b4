/**
 * Producers that break the rule of identity (DESIGN §2, §6), as far as one batch shows it: an event id with two times, which
 * makes two events of it, or an identity with two payloads, of which the first visible counts. What lies in different batches
 * is for compaction to find, which has all rows of an identity at hand (docs/decisions/0021-identity-conflicts.md).
 */
import { isDeepStrictEqual } from "node:util";

export interface SeenEvent {
  readonly tenant: string;
  readonly eventId: string;
  readonly eventTimeMs: number;
  readonly fields: Readonly<Record<string, unknown>>;
}

export interface Conflicts {
  /** Events whose id another event of the batch has with another time. */
  readonly times: number;
  /** Events whose identity another event of the batch has with other fields. */
  readonly payloads: number;
  /** Some of the ids, for whoever looks for the producer. */
  readonly eventIds: readonly string[];
}

const IDS_TOLD = 5;
const NONE: Conflicts = { times: 0, payloads: 0, eventIds: [] };

/**
 * Costs a look-up for an event; payloads are compared only where an id comes again.
 * @param filled fields that ingest looked up: of an event that is sent again they may differ, and no producer is at fault
 */
export function findConflicts(events: readonly SeenEvent[], filled: readonly string[] = []): Conflicts {
  const tenants = new Map<string, Map<string, SeenEvent>>();
  let times = 0;
  let payloads = 0;
  const eventIds = new Set<string>();
  for (const event of events) {
    let seen = tenants.get(event.tenant);
    if (seen === undefined) {
      seen = new Map();
      tenants.set(event.tenant, seen);
    }
    const first = seen.get(event.eventId);
    if (first === undefined) {
      seen.set(event.eventId, event);
      continue;
    }
    const otherTime = first.eventTimeMs !== event.eventTimeMs;
    if (otherTime) times++;
    else if (isDeepStrictEqual(without(first.fields, filled), without(event.fields, filled))) continue;
    else payloads++;
    if (eventIds.size < IDS_TOLD) eventIds.add(event.eventId);
  }
  return times + payloads === 0 ? NONE : { times, payloads, eventIds: [...eventIds] };
}

const without = (fields: SeenEvent["fields"], names: readonly string[]): SeenEvent["fields"] =>
  names.length === 0 ? fields : Object.fromEntries(Object.entries(fields).filter(([name]) => !names.includes(name)));
