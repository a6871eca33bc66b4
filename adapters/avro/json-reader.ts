import { RecordError } from "../../core/errors.ts";
import { parseIso } from "../../core/iso-time.ts";
import type { Contract, ContractField } from "../../core/plan.ts";
import type { EventFields, FieldValue } from "./event-codec.ts";
import type { RecordSchema } from "./fingerprint.ts";

/** 9999-12-31T23:59:59.999Z: beyond it a time is a mistaken unit, and ISO 8601 has no four-digit year. */
const LAST_TIME_MS = 253_402_300_799_999;

/** avsc's own bound for a long: beyond it neighbouring integers are one double. */
const MAX_LONG = 2 ** 53 - 2;

interface Rule extends ContractField {
  readonly name: string;
  readonly time: boolean;
  /** undefined for a field that must be sent. */
  readonly fallback: unknown;
}

function timeFields(schema: RecordSchema): string[] {
  return schema.fields.filter((field) => isTime(field.type)).map((field) => field.name);
}

function isTime(type: unknown): boolean {
  if (Array.isArray(type)) return type.some(isTime);
  return (type as { logicalType?: string } | null)?.logicalType === "timestamp-millis";
}

/** Reads the JSON form of one contract's events strictly: what Avro could not hold exactly is refused, never bent. */
export class JsonReader {
  private readonly contract: Contract;
  private readonly rules: readonly Rule[];

  constructor(schema: RecordSchema, contract: Contract) {
    const times = new Set(timeFields(schema));
    this.contract = contract;
    this.rules = schema.fields.map(({ name, default: fallback }) => ({
      name,
      time: times.has(name),
      fallback,
      ...contract.fields[name],
    }));
  }

  /**
   * Times are epoch milliseconds or ISO 8601 strings with a zone.
   * @throws RecordError `not_an_object`, `field_unknown`, `field_missing`, `wrong_type`, `number_not_finite`,
   *   `number_too_large`, `event_time_invalid`, `text_invalid`
   */
  read(json: unknown): EventFields {
    if (json === null || typeof json !== "object" || Array.isArray(json)) {
      throw new RecordError(
        "not_an_object",
        `an event of ${this.contract.name} must be a JSON object, got ${kindOf(json)}`,
        {
          repair: `send an object with ${this.rules.map((rule) => rule.name).join(", ")}`,
        },
      );
    }
    const given = json as Record<string, unknown>;
    for (const name of Object.keys(given)) {
      if (!Object.hasOwn(this.contract.fields, name)) throw this.unknownField(name);
    }
    const fields: EventFields = {};
    for (const rule of this.rules) {
      fields[rule.name] = this.value(rule, Object.hasOwn(given, rule.name) ? given[rule.name] : undefined);
    }
    return fields;
  }

  /** The error of fields that could not be encoded; never quotes a value. */
  explain(fields: EventFields): RecordError {
    try {
      this.read(fields);
    } catch (error) {
      if (error instanceof RecordError) return error;
    }
    return new RecordError("avro_invalid", `the fields do not match ${this.contract.name}`, {
      repair: "check them with fromJson first",
    });
  }

  private value(rule: Rule, value: unknown): FieldValue {
    if (value === undefined || (value === null && !rule.nullable)) {
      if (value === undefined && rule.fallback !== undefined) return fresh(rule.fallback);
      throw new RecordError("field_missing", `field ${rule.name} of ${this.contract.name} must be given`, {
        field: rule.name,
        repair: `send ${rule.name} as ${wanted(rule)}`,
      });
    }
    if (value === null) return null;
    if (rule.time) return readTime(rule, value);
    switch (rule.type) {
      case "string":
        if (typeof value === "string") return wellFormed(rule, value);
        break;
      case "boolean":
        if (typeof value === "boolean") return value;
        break;
      case "double":
        if (typeof value === "number") {
          if (!Number.isFinite(value)) throw notFinite(rule.name);
          return value;
        }
        break;
      case "long":
        if (typeof value === "number") return readLong(rule, value);
        break;
      case "map":
        if (value !== null && typeof value === "object" && !Array.isArray(value)) return readMap(rule, value);
    }
    throw wrongType(rule, value);
  }

  private unknownField(name: string): RecordError {
    // The name is the sender's text, so what is quoted of it is bounded.
    const quoted = JSON.stringify(name.slice(0, 64));
    return new RecordError("field_unknown", `${this.contract.name} has no field ${quoted}`, {
      field: name.slice(0, 64),
      repair: `leave it out, or add it to the contract; the fields are ${this.rules.map((rule) => rule.name).join(", ")}`,
    });
  }
}

/** A default that is an object is copied, so that two events never share one. */
function fresh(fallback: unknown): FieldValue {
  return (fallback !== null && typeof fallback === "object" ? { ...fallback } : fallback) as FieldValue;
}

function readLong(rule: Rule, value: number): number {
  if (!Number.isFinite(value)) throw notFinite(rule.name);
  if (!Number.isInteger(value)) throw wrongType(rule, value);
  if (Math.abs(value) > MAX_LONG) {
    throw new RecordError("number_too_large", `field ${rule.name} must be an integer within ±(2^53 - 2)`, {
      field: rule.name,
      repair: "send a smaller unit's count, or an identifier as a string in another field",
    });
  }
  return value === 0 ? 0 : value;
}

function readTime(rule: Rule, value: unknown): number {
  let time = Number.NaN;
  if (typeof value === "number") time = Number.isInteger(value) ? value : Number.NaN;
  else if (typeof value === "string") time = parseIso(value);
  else throw wrongType(rule, value);
  if (time >= 0 && time <= LAST_TIME_MS) return time;
  throw new RecordError(
    "event_time_invalid",
    `field ${rule.name} must be a time between 1970 and 9999, got another ${kindOf(value)}`,
    {
      field: rule.name,
      repair: "send integer epoch milliseconds, or ISO 8601 with a zone, as 2026-01-31T12:00:00.000Z",
    },
  );
}

function readMap(rule: Rule, value: object): Record<string, string> {
  const entries = Object.entries(value);
  for (const [key, item] of entries) {
    if (typeof item !== "string") throw wrongType(rule, value, `; the value of one key is ${kindOf(item)}`);
    wellFormed(rule, key);
    wellFormed(rule, item);
  }
  return Object.fromEntries(entries);
}

/** Half a surrogate pair has no UTF-8, so two different strings would become one. */
function wellFormed(rule: Rule, text: string): string {
  if (text.isWellFormed()) return text;
  throw new RecordError("text_invalid", `${rule.name} is not valid Unicode text: it holds half a surrogate pair`, {
    field: rule.name,
    repair: "send UTF-8 text without lone surrogates",
  });
}

function notFinite(field: string): RecordError {
  return new RecordError("number_not_finite", `field ${field} is NaN or infinite, or too large for a double`, {
    field,
    repair: "send a finite number below 1.8e308, or leave a nullable field null",
  });
}

function wrongType(rule: Rule, value: unknown, detail = ""): RecordError {
  return new RecordError("wrong_type", `field ${rule.name} must be ${wanted(rule)}, got ${kindOf(value)}${detail}`, {
    field: rule.name,
    repair: `send ${rule.name} as ${wanted(rule)}`,
  });
}

const WANTED = {
  string: "a string",
  boolean: "true or false",
  double: "a number",
  long: "an integer",
  map: "an object whose values are strings",
} as const;

function wanted(rule: Rule): string {
  return (
    (rule.time ? "epoch milliseconds or ISO 8601 with a zone" : WANTED[rule.type]) + (rule.nullable ? ", or null" : "")
  );
}

function kindOf(value: unknown): string {
  if (value === undefined) return "nothing";
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  if (typeof value === "number")
    return Number.isInteger(value) || !Number.isFinite(value) ? "number" : "fractional number";
  return typeof value;
}
