/** Event fields from parsed JSON, checked against a contract. */
import type avro from "avsc";
import { RecordError } from "../../core/errors.ts";
import type { Contract, ContractField } from "../../core/plan.ts";

const ZONED = /^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})$/;

/** @throws RecordError `not_an_object`, `field_unknown`, `field_missing`, `wrong_type`, `number_not_finite`, `number_too_large` */
export function fieldsFromJson(contract: Contract, type: avro.Type, json: unknown): Record<string, unknown> {
  if (json === null || typeof json !== "object" || Array.isArray(json)) {
    throw new RecordError("not_an_object", `an event of ${contract.name} is a JSON object`, {
      repair: "send { … } with the contract's fields",
    });
  }
  const given = json as Record<string, unknown>;
  for (const name of Object.keys(given)) {
    if (!Object.hasOwn(contract.fields, name)) {
      throw new RecordError("field_unknown", `${contract.name} has no field ${name.slice(0, 64)}`, {
        field: name.slice(0, 64),
        repair: `send only ${Object.keys(contract.fields).join(", ")}`,
      });
    }
  }
  const fields: Record<string, unknown> = {};
  for (const field of (type as avro.types.RecordType).fields) {
    const rule = contract.fields[field.name];
    const value = Object.hasOwn(given, field.name) ? given[field.name] : undefined;
    if (value === undefined) {
      const fallback = field.defaultValue();
      if (fallback === undefined) throw missing(contract, field.name);
      fields[field.name] = fallback;
    } else if (value === null) {
      if (!rule.nullable) throw missing(contract, field.name);
      fields[field.name] = null;
    } else fields[field.name] = convert(field.name, rule, value, /timestamp-millis/.test(JSON.stringify(field.type.schema({ exportAttrs: true }))));
  }
  return fields;
}

const missing = (contract: Contract, field: string): RecordError =>
  new RecordError("field_missing", `${contract.name} requires ${field}`, { field, repair: `send ${field}` });

function convert(field: string, rule: ContractField, value: unknown, time: boolean): unknown {
  const wrong = (expected: string): RecordError =>
    new RecordError("wrong_type", `${field} is ${expected}, given ${Array.isArray(value) ? "an array" : typeof value}`, {
      field,
      repair: `send ${field} as ${expected}`,
    });
  switch (rule.type) {
    case "string":
      if (typeof value !== "string") throw wrong("a string");
      return value;
    case "boolean":
      if (typeof value !== "boolean") throw wrong("true or false");
      return value;
    case "double":
      if (typeof value !== "number") throw wrong("a number");
      if (!Number.isFinite(value)) {
        throw new RecordError("number_not_finite", `${field} is a finite number`, { field, repair: "send null for no value" });
      }
      return value;
    case "long": {
      if (time && typeof value === "string") {
        const ms = ZONED.test(value) ? Date.parse(value) : Number.NaN;
        if (Number.isNaN(ms)) throw wrong("milliseconds since 1970 or an ISO 8601 time with its zone");
        return ms;
      }
      if (typeof value !== "number" || !Number.isInteger(value)) throw wrong("a whole number");
      if (!Number.isSafeInteger(value)) {
        throw new RecordError("number_too_large", `${field} is at most 2^53 - 1`, { field, repair: "send a smaller number" });
      }
      return value;
    }
    case "map": {
      if (typeof value !== "object" || Array.isArray(value)) throw wrong("an object of strings");
      for (const [key, item] of Object.entries(value as object)) {
        if (typeof item !== "string") throw new RecordError("wrong_type", `${field}.${key.slice(0, 64)} is a string`, { field, repair: "send its text" });
      }
      return value;
    }
  }
}
