/** Checks and encodes one event of one stream: what the aggregate function would quarantine is refused here, by name. */
import type { EventReader } from "../../../adapters/avro/event-codec.ts";
import { framingOf } from "../../../adapters/avro/framing.ts";
import { hash64 } from "../../../adapters/hash.ts";
import { RecordError, typeName } from "../../../core/errors.ts";
import { checkEvent, compileGroups, entityId } from "../../../core/event.ts";
import type { Plan, Stream } from "../../../core/plan.ts";
import type { Fields } from "../../../core/where.ts";
import { MAX_EVENT_BYTES, MIN_EVENT_TIME_MS } from "../limits.ts";

/** The contract's codec as ingest uses it; all three throw RecordError. */
export interface EventCodec {
  /** Checks names and types of a JSON object; absent nullable fields become null. */
  fromJson(json: unknown): Fields;
  /** Single-object encoding under the contract's newest schema. */
  encode(fields: any): Buffer;
  /** Any version ever shipped, as fields of the newest. */
  decode(bytes: Buffer): { readonly fields: Fields };
}

/** An event that may be queued once it is encoded. */
export interface ReadEvent {
  readonly eventId: string;
  readonly fields: Fields;
  /** As a producer encoded it; null when it has to be encoded here. */
  readonly bytes: Buffer | null;
}
export interface EncodedEvent {
  readonly eventId: string;
  readonly partitionKey: string;
  readonly data: Uint8Array;
}

export interface EventChecker {
  readonly stream: Stream;
  /** @throws RecordError */
  fromJson(json: unknown, tenant: string, arrivalMs: number): ReadEvent;
  /** @throws RecordError */
  fromAvro(bytes: Buffer, tenant: string, arrivalMs: number): ReadEvent;
  /** Of one that names its schema by the id of a registry, after `learn`. @throws RecordError */
  fromFramed(bytes: Buffer, tenant: string, arrivalMs: number): ReadEvent;
  /** Whether it is in such a framing, and there is a registry. */
  isFramed(bytes: Buffer): boolean;
  /** Asks the registry for the schema. @throws InfrastructureError */
  learn(bytes: Buffer): Promise<void>;
  /** What the windows that take these fields make of them. @throws RecordError `number_too_large`, `value_too_long` */
  checkInputs(fields: Fields): void;
  /** @throws RecordError `record_too_large`, and those of the codec */
  encode(event: ReadEvent): EncodedEvent;
}

/** @param framed reads what names its schema by an id; null without a registry */
export function createEventChecker(
  plan: Plan,
  stream: Stream,
  codec: EventCodec,
  framed: EventReader | null = null,
): EventChecker {
  const groups = compileGroups(plan, stream.name, hash64);
  const texts = Object.keys(stream.fields).filter((name) => stream.fields[name].type === "string");

  function check(fields: Fields, arrivalMs: number, bytes: Buffer | null): ReadEvent {
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
    requireUnfilled(stream, fields);
    checkInputs(fields);
    return { eventId, fields, bytes };
  }

  function checkInputs(fields: Fields): void {
    for (const group of groups) {
      if (entityId(fields, group.joinKey) === null) continue;
      for (const channel of group.channels) channel(fields);
    }
  }

  return {
    stream,
    checkInputs,
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
    isFramed: (bytes) => framed !== null && framingOf(bytes) !== null,
    learn: async (bytes) => framed?.learn?.([bytes]),
    fromFramed(bytes, tenant, arrivalMs) {
      const { fields } = framed!.decode(bytes);
      requireTenant(fields["tenant"], tenant);
      // Encoded here: whoever reads the stream needs no registry for it.
      return check({ ...fields, tenant }, arrivalMs, null);
    },
    encode({ eventId, fields, bytes }) {
      const data = bytes ?? codec.encode(fields);
      if (data.length > MAX_EVENT_BYTES) {
        throw new RecordError("record_too_large", `an encoded event is at most ${MAX_EVENT_BYTES} bytes`, {
          repair: "store large values elsewhere and send a reference",
        });
      }
      return { eventId, partitionKey: String(fields[stream.partitionKey]), data };
    },
  };
}

/** One source for a field: what is looked up is told apart from what a producer says by who may write it. */
function requireUnfilled({ enrich }: Stream, fields: Fields): void {
  for (const { field, feature } of enrich ?? []) {
    if (fields[field] === null || fields[field] === undefined) continue;
    throw new RecordError("field_enriched", `${field} is filled here with ${feature}; the event has a value for it`, {
      field,
      repair: `leave ${field} out, or send null`,
    });
  }
}

function requireTenant(given: unknown, tenant: string): void {
  if (given === undefined || given === null || given === "" || given === tenant) return;
  throw new RecordError("tenant_mismatch", "the event names another tenant than the API key's", {
    field: "tenant",
    repair: "leave tenant out: the API key decides it",
  });
}
