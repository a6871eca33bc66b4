/** A row of a file to an archive row, by the same checks that an event meets on its way through ingest and apply. */
import { RecordError } from "../../../core/errors.ts";
import { checkEvent, compileGroups, entityId, type GroupReader, identityText } from "../../../core/event.ts";
import { parseIso } from "../../../core/iso-time.ts";
import type { FieldType, Plan, Stream } from "../../../core/plan.ts";
import type { ArchiveRow, EntityFate } from "../../archive/archive-format.ts";
import { EventCodec } from "../../avro/event-codec.ts";
import { hash64 } from "../../hash.ts";
import type { FileRow } from "./text-rows.ts";

/** When a row counts as arrived, and so as visible: some time after its event, or as a column of the file says. */
export type ArrivalRule = { readonly delayMs: number } | { readonly column: string };

export interface RowCheckOptions {
  readonly plan: Plan;
  readonly stream: Stream;
  /** Of rows that name none. A row that names another one is refused. */
  readonly tenant: string;
  readonly arrival: ArrivalRule;
  /** Rows from here on are late: they wait until they are sealed. */
  readonly sealMs: number;
  readonly nowMs: number;
  /** Earlier event times are refused: seconds where milliseconds were meant. */
  readonly minEventTimeMs: number;
  /** Values are strings, as CSV has them, and are read by the contract's types. */
  readonly texts: boolean;
  /** Columns that the contract does not have are left out instead of refused. */
  readonly ignoreUnknown: boolean;
  /** What the file is called in rows: same file, same name. */
  readonly shard: string;
}

/**
 * @returns a function that answers null for a row that a column `stream` gives to another stream (a file of several, as
 *   `freshet generate` writes), and throws RecordError with field and repair, never with a value
 */
export function rowChecker(options: RowCheckOptions): (row: FileRow) => ArchiveRow | null {
  const { stream, tenant } = options;
  const codec = EventCodec.for(stream.contract);
  const groups = compileGroups(options.plan, stream.name, hash64);
  const marked = !Object.hasOwn(stream.fields, "stream");
  const column = "column" in options.arrival ? options.arrival.column : null;
  return ({ line, value }) => {
    if (value instanceof RecordError) throw value;
    if (marked && value["stream"] !== undefined && value["stream"] !== stream.name) return null;
    const given = fieldsOf(value, options, column);
    const fields = codec.fromJson(given);
    if (fields["tenant"] !== tenant) {
      throw new RecordError("tenant_mismatch", "the row names another tenant than the import", {
        field: "tenant",
        repair: "import each tenant's rows by themselves, with --tenant",
      });
    }
    const eventTime = fields[stream.eventTime] as number;
    const arrivalMs =
      column === null ? eventTime + (options.arrival as { delayMs: number }).delayMs : arrivalOf(value[column], column);
    const { eventId, eventTimeMs } = checkEvent(stream, fields, arrivalMs);
    requireTimes(options, eventTimeMs, arrivalMs);
    return {
      tenant,
      stream: stream.name,
      eventId,
      eventTimeMs,
      identity: hash64(identityText(tenant, stream.name, eventTimeMs, eventId)),
      arrivalMs,
      shard: options.shard,
      sequence: String(line),
      subSequence: 0,
      fields,
      fates: fatesOf(groups, fields, eventTimeMs < options.sealMs ? arrivalMs : null),
    };
  };
}

function fieldsOf(
  value: Record<string, unknown>,
  options: RowCheckOptions,
  column: string | null,
): Record<string, unknown> {
  const { stream, texts, ignoreUnknown } = options;
  const given: Record<string, unknown> = {};
  for (const [name, cell] of Object.entries(value)) {
    const field = Object.hasOwn(stream.fields, name) ? stream.fields[name] : undefined;
    // What is only the arrival's is none of the contract's matter.
    if (field === undefined && (ignoreUnknown || name === column || name === "stream")) continue;
    given[name] = texts && field !== undefined ? fromText(cell as string, field.type) : cell;
  }
  if (given["tenant"] === undefined || given["tenant"] === null) given["tenant"] = options.tenant;
  return given;
}

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/;

/** What cannot be read as its type stays a string, and the contract's check says so. */
function fromText(text: string, type: FieldType): unknown {
  if (type === "double" || type === "long") return NUMBER.test(text) ? Number(text) : text;
  if (type === "boolean")
    return text === "true" || text === "1" ? true : text === "false" || text === "0" ? false : text;
  if (type === "map") {
    try {
      return JSON.parse(text);
    } catch {
      return text;
    }
  }
  return text;
}

function arrivalOf(cell: unknown, column: string): number {
  const text = typeof cell === "string" && NUMBER.test(cell) ? Number(cell) : cell;
  const arrivalMs = typeof text === "string" ? parseIso(text) : text;
  if (typeof arrivalMs === "number" && Number.isSafeInteger(arrivalMs) && arrivalMs >= 0) return arrivalMs;
  throw new RecordError("arrival_invalid", `${column} is to say when the event arrived`, {
    field: column,
    repair: "epoch milliseconds, or ISO 8601 with a zone, as 2026-01-31T12:00:00.000Z; or give --arrival a duration",
  });
}

function requireTimes(
  { stream, nowMs, minEventTimeMs }: RowCheckOptions,
  eventTimeMs: number,
  arrivalMs: number,
): void {
  if (eventTimeMs < minEventTimeMs) {
    throw new RecordError(
      "event_time_invalid",
      `${stream.eventTime} lies before ${new Date(minEventTimeMs).getUTCFullYear()}`,
      {
        field: stream.eventTime,
        repair: "milliseconds since 1970, not seconds",
      },
    );
  }
  if (arrivalMs > nowMs) {
    throw new RecordError("arrival_future", "the row arrives in the future, and history has arrived", {
      field: stream.eventTime,
      repair: "send events of now through the API or the broker; check time zone and unit of the file's times",
    });
  }
}

/** @param visibleMs null for a late row */
function fatesOf(
  groups: readonly GroupReader[],
  fields: Readonly<Record<string, unknown>>,
  visibleMs: number | null,
): EntityFate[] {
  const fates: EntityFate[] = [];
  for (const { group, joinKey, channels } of groups) {
    const id = entityId(fields, joinKey);
    if (id === null) continue;
    // For what they refuse; an apply would.
    for (const channel of channels) channel(fields);
    fates.push({ entity: group.entity, id, fate: visibleMs === null ? "late" : "applied", visibleMs });
  }
  return fates;
}
