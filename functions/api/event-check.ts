/** Checks and encodes one event of one stream: what the aggregate function would quarantine is refused here, by name. */
import { hash64 } from "../../adapters/hash.ts";
import { RecordError } from "../../core/errors.ts";
import { checkEvent, compileGroups, entityId } from "../../core/event.ts";
import type { Plan, Stream } from "../../core/plan.ts";
import type { Fields } from "../../core/where.ts";
import { MAX_EVENT_BYTES, MIN_EVENT_TIME_MS } from "./limits.ts";
import { typeName } from "./selection.ts";

/** The contract's codec as ingest uses it; all three throw RecordError. */
export interface EventCodec {
  /** Checks names and types of a JSON object; absent nullable fields become null. */
  fromJson(json: unknown): Fields;
  /** Single-object encoding under the contract's newest schema. */
  encode(fields: any): Buffer;
  /** Any version ever shipped, as fields of the newest. */
  decode(bytes: Buffer): { readonly fields: Fields };
}

export interface EncodedEvent {
  readonly eventId: string;
  readonly partitionKey: string;
  readonly data: Uint8Array;
}

export interface EventChecker {
  readonly stream: Stream;
  /** @throws RecordError */
  fromJson(json: unknown, tenant: string, arrivalMs: number): EncodedEvent;
  /** @throws RecordError */
  fromAvro(bytes: Buffer, tenant: string, arrivalMs: number): EncodedEvent;
}

export function createEventChecker(plan: Plan, stream: Stream, codec: EventCodec): EventChecker {
  const groups = compileGroups(plan, stream.name, hash64);
  const texts = Object.keys(stream.fields).filter((name) => stream.fields[name].type === "string");

  function check(fields: Fields, arrivalMs: number, encoded: Uint8Array | null): EncodedEvent {
    const { eventId, eventTimeMs } = checkEvent(stream, fields, arrivalMs);
    if (eventTimeMs < MIN_EVENT_TIME_MS) {
      throw new RecordError(
        "event_time_invalid",
        `${stream.eventTime} lies before the year 2000, given ${eventTimeMs}`,
        {
          field: stream.eventTime,
          repair: "send milliseconds since 1970, not seconds",
        },
      );
    }
    for (const name of texts) {
      const value = fields[name];
      // A lone surrogate has no UTF-8 form: two ids that differ only there would become one.
      if (typeof value !== "string" || value.isWellFormed()) continue;
      throw new RecordError("text_invalid", `${name} is not valid Unicode text`, {
        field: name,
        repair: "send UTF-8 text without lone surrogates",
      });
    }
    for (const group of groups) {
      if (entityId(fields, group.joinKey) === null) continue;
      for (const channel of group.channels) channel(fields);
    }
    const data = encoded ?? codec.encode(fields);
    if (data.length > MAX_EVENT_BYTES) {
      throw new RecordError("record_too_large", `an encoded event is at most ${MAX_EVENT_BYTES} bytes`, {
        repair: "store large values elsewhere and send a reference",
      });
    }
    return { eventId, partitionKey: String(fields[stream.partitionKey]), data };
  }

  return {
    stream,
    fromJson(json, tenant, arrivalMs) {
      if (typeof json !== "object" || json === null || Array.isArray(json)) {
        throw new RecordError("record_shape", `an event is a JSON object, given ${typeName(json)}`, {
          repair: "send an object with the contract's fields",
        });
      }
      requireTenant((json as Record<string, unknown>)["tenant"], tenant);
      return check(codec.fromJson({ ...json, tenant }), arrivalMs, null);
    },
    fromAvro(bytes, tenant, arrivalMs) {
      const { fields } = codec.decode(bytes);
      requireTenant(fields["tenant"], tenant);
      // The bytes go on as they came, unless the key has to fill the tenant in.
      return fields["tenant"] === tenant
        ? check(fields, arrivalMs, bytes)
        : check({ ...fields, tenant }, arrivalMs, null);
    },
  };
}

function requireTenant(given: unknown, tenant: string): void {
  if (given === undefined || given === null || given === "" || given === tenant) return;
  throw new RecordError("tenant_mismatch", "the event names another tenant than the API key's", {
    field: "tenant",
    repair: "leave tenant out: the API key decides it",
  });
}
