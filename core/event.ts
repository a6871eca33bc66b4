/** What the engine takes from an event: checked once, at the edge and again behind direct producers. */

import { FreshetError, RecordError } from "./errors.ts";
import { type Contribution, keepsValues } from "./operators/accumulators.ts";
import type { Channel, Group, Plan, Scalar, Stream } from "./plan.ts";
import { compileWhere, type Fields } from "./where.ts";

/** Further ahead of its arrival than this, an event is quarantined as `future`. */
export const FUTURE_LIMIT_MS = 60_000;
/** Scaled magnitudes at or above this are quarantined: sums and squares of smaller ones are exact. */
export const SCALED_LIMIT = 2 ** 43;
/** Longest event id, tenant and entity id, in UTF-16 units; longer ones are a producer's mistake and would bloat keys. */
export const KEY_LIMIT = 256;

/** Longest text that first, last, lastN and topK keep, in UTF-16 units: it is copied into every tile of its entity. */
export const VALUE_LIMIT = 1024;

/** First 64 bits of SHA-256 of UTF-8 text as 16 hex digits; handed in, because core imports nothing. */
export type Hash64 = (text: string) => string;

export interface CheckedEvent {
  readonly tenant: string;
  readonly eventId: string;
  readonly eventTimeMs: number;
}

/** The text whose hash is an event's identity. Injective: tenant and stream names hold no slash, the time is digits. */
export const identityText = (tenant: string, stream: string, eventTimeMs: number, eventId: string): string =>
  `${tenant}/${stream}/${eventTimeMs}/${eventId}`;

/** Tenants are parts of store keys and of paths. */
const TENANT = /^[a-z0-9][a-z0-9_-]{0,63}$/;

/** @throws FreshetError `tenant_invalid` */
export function checkTenant(tenant: string): void {
  if (TENANT.test(tenant)) return;
  throw new FreshetError("tenant_invalid", `a tenant is 1 to 64 of a-z, 0-9, _ and -, given "${tenant}"`, {
    field: "tenant",
    repair: "use a name like team-fraud",
  });
}

function key(fields: Fields, field: string, code: string): string {
  const value = fields[field];
  if (value === null || value === undefined || value === "") {
    throw new RecordError(code, `${field} is required, given ${value === "" ? "an empty string" : "nothing"}`, {
      field,
      repair: `send ${field}`,
    });
  }
  const text = String(value);
  if (text.length > KEY_LIMIT) {
    throw new RecordError("key_too_long", `${field} is at most ${KEY_LIMIT} characters, given ${text.length}`, {
      field,
      repair: "send a shorter id, for example its hash",
    });
  }
  return text;
}

/**
 * Checks what every path must know before an event may count: tenant, id, time, partition key, finite numbers.
 * @param arrivalMs the broker's stamp, or ingest's clock before there is one
 * @throws RecordError `tenant_invalid`, `event_id_missing`, `event_time_invalid`, `event_time_future`,
 *   `partition_key_missing`, `key_too_long`, `number_not_finite`
 */
export function checkEvent(stream: Stream, fields: Fields, arrivalMs: number): CheckedEvent {
  const tenant = fields["tenant"];
  if (typeof tenant !== "string" || !TENANT.test(tenant)) {
    throw new RecordError("tenant_invalid", "tenant is 1 to 64 of a-z, 0-9, _ and -", {
      field: "tenant",
      repair: "send the tenant's name; ingest fills it from the API key",
    });
  }
  const eventId = key(fields, stream.eventId, "event_id_missing");
  const eventTimeMs = fields[stream.eventTime];
  if (typeof eventTimeMs !== "number" || !Number.isSafeInteger(eventTimeMs) || eventTimeMs < 0) {
    throw new RecordError("event_time_invalid", `${stream.eventTime} is milliseconds since 1970 as a whole number`, {
      field: stream.eventTime,
      repair: "send the time at which the event happened",
    });
  }
  if (eventTimeMs - arrivalMs > FUTURE_LIMIT_MS) {
    throw new RecordError(
      "event_time_future",
      `${stream.eventTime} is ${eventTimeMs - arrivalMs} ms ahead of arrival, the limit is ${FUTURE_LIMIT_MS} ms`,
      { field: stream.eventTime, repair: "set the producer's clock, or send the event when it has happened" },
    );
  }
  key(fields, stream.partitionKey, "partition_key_missing");
  for (const field in stream.fields) {
    if (stream.fields[field].type !== "double") continue;
    const value = fields[field];
    if (typeof value === "number" && !Number.isFinite(value)) {
      throw new RecordError("number_not_finite", `${field} is a finite number, given ${value}`, {
        field,
        repair: "leave the field out (null) when there is no value",
      });
    }
  }
  return { tenant, eventId, eventTimeMs };
}

/** Half away from zero, computed as SQL can compute it too. @throws RecordError `number_too_large` */
export function toMinorUnits(value: number, scale: number, field: string): number {
  const magnitude = Math.floor(Math.abs(value) * 10 ** scale + 0.5);
  // So written that NaN is refused too.
  if (!(magnitude < SCALED_LIMIT)) {
    const limit = (SCALED_LIMIT / 10 ** scale).toLocaleString("en-US", { maximumFractionDigits: scale });
    throw new RecordError(
      "number_too_large",
      `${field} is kept to ${scale} decimal places and must be below ${limit}`,
      {
        field,
        repair: "send a smaller number, or declare a smaller scale",
      },
    );
  }
  return value < 0 && magnitude > 0 ? -magnitude : magnitude;
}

/** Reads one channel from an event; null when the event gives nothing to it. */
export type ChannelReader = (fields: Fields) => Contribution | null;

/**
 * Compiles a channel. `hash64` is only called for channels that feed a distinct count.
 * @param stored whether a first, last, lastN or topK keeps the value as it is
 * @throws RecordError, from the reader: `number_too_large`, `value_too_long`
 */
function compileChannel(channel: Channel, hashed: boolean, stored: boolean, hash64: Hash64): ChannelReader {
  const { field, where, scale } = channel.input;
  const holds = where === null ? null : compileWhere(where);
  const present: Contribution = { value: null, hash: 0 };
  return (fields) => {
    if (holds !== null && !holds(fields)) return null;
    if (field === null) return present;
    const value = fields[field] as Scalar | undefined;
    if (value === null || value === undefined) return null;
    if (scale !== null) return { value: toMinorUnits(value as number, scale, field), hash: 0 };
    if (stored && typeof value === "string" && value.length > VALUE_LIMIT) {
      throw new RecordError("value_too_long", `${field} is at most ${VALUE_LIMIT} characters, given ${value.length}`, {
        field,
        repair: "send a shorter text, or a code for it",
      });
    }
    // -0 equals 0, so it is the same value everywhere from here on.
    if (typeof value === "number") return { value: value + 0, hash: hashed ? first32(hash64(String(value))) : 0 };
    return { value, hash: hashed ? first32(hash64(String(value))) : 0 };
  };
}

const first32 = (hash: string): number => Number.parseInt(hash.slice(0, 8), 16);

/** For each group of a stream: its entity's join key and its channel readers, compiled once. */
export interface GroupReader {
  readonly group: Group;
  readonly joinKey: string;
  readonly channels: readonly ChannelReader[];
}

export function compileGroups(plan: Plan, stream: string, hash64: Hash64): GroupReader[] {
  return plan.groups
    .filter((group) => group.stream === stream)
    .map((group) => ({
      group,
      joinKey: plan.entities.find((entity) => entity.name === group.entity)!.joinKey,
      channels: group.channels.map((channel, index) => {
        const kinds = group.slots.filter((slot) => slot.channel === index).map(({ kind }) => kind);
        return compileChannel(channel, kinds.includes("distinct"), kinds.some(keepsValues), hash64);
      }),
    }));
}

/** The entity id that an event names for a join key; null means that the event skips this entity. */
export function entityId(fields: Fields, joinKey: string): string | null {
  const value = fields[joinKey];
  if (value === null || value === undefined || value === "") return null;
  return key(fields, joinKey, "entity_key_invalid");
}
