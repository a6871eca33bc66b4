/** Relations of the agreed shape, from rows in memory, where a test needs no archive. */
import { sqlName, sqlText } from "../../adapters/offline/duckdb.ts";
import { keyColumn } from "../../adapters/offline/point-in-time-sql.ts";
import type { ContractField, FieldType } from "../../core/plan.ts";
import type { PastEvent } from "./past.ts";

const TYPES: Readonly<Record<FieldType, string>> = {
  string: "VARCHAR",
  double: "DOUBLE",
  long: "BIGINT",
  boolean: "BOOLEAN",
  map: "MAP(VARCHAR, VARCHAR)",
};
const literal = (value: unknown, type: string): string =>
  value === null || value === undefined
    ? `CAST(NULL AS ${type})`
    : `CAST(${sqlText(Object.is(value, -0) ? "-0" : String(value))} AS ${type})`;

/** As entity-events.ts has it. @param histories events by entity id */
export function entityEventsTable(
  name: string,
  fields: Readonly<Record<string, ContractField>>,
  histories: Readonly<Record<string, readonly PastEvent[]>>,
): string {
  const columns = Object.entries(fields);
  const struct = columns.map(([field, { type }]) => `${sqlName(field)} ${TYPES[type]}`).join(", ");
  const rows = Object.entries(histories).flatMap(([id, events]) =>
    events.map((event) => {
      const values = columns.map(
        ([field, { type }]) => `${sqlName(field)} := ${literal(event.fields[field], TYPES[type])}`,
      );
      return `(${sqlText(id)}, ${sqlText(event.identity)}, ${event.timeMs}, ${event.visibleMs}, struct_pack(${values.join(", ")}))`;
    }),
  );
  const table = `(id VARCHAR, identity VARCHAR, event_time_ms BIGINT, visible_ms BIGINT, fields STRUCT(${struct}))`;
  const insert = rows.length === 0 ? "" : `; INSERT INTO ${name} VALUES ${rows.join(",\n")}`;
  return `CREATE OR REPLACE TABLE ${name} ${table}${insert}`;
}

export interface SpineRow {
  readonly t: number;
  /** By entity. */
  readonly keys: Readonly<Record<string, string | null>>;
}

export function spineTable(name: string, rows: readonly SpineRow[]): string {
  const entities = Object.keys(rows[0].keys);
  const columns = entities.map((entity) => `${keyColumn(entity)} VARCHAR`).join(", ");
  const values = rows.map(
    ({ t, keys }, row) => `(${row}, ${t}, ${entities.map((entity) => literal(keys[entity], "VARCHAR")).join(", ")})`,
  );
  return `CREATE OR REPLACE TABLE ${name} ("row id" BIGINT, "as of" BIGINT, ${columns}); INSERT INTO ${name} VALUES ${values.join(",\n")}`;
}
