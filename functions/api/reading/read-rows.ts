/** Rows of join keys to rows of values, in one trip: what every route that reads features shares. */
import type { EntityAnswer, EntityRequest, OnlineReader } from "../../../adapters/online-store/online-store.ts";
import type { FeatureValue, Scalar, Value } from "../../../core/plan.ts";
import type { JsonObject } from "../body.ts";
import type { Observations } from "../catalogue/observations.ts";
import type { Telemetry } from "../observability/telemetry.ts";
import { addReads, emptyRow, fillRow, type Selection, type SelectionPart } from "./selection.ts";

export interface Row {
  readonly keys: JsonObject;
  /** Path of the keys in the request, for errors. */
  readonly prefix: string;
}
export interface ReadRows {
  /** Aligned with the rows, and each with the selection's names. */
  readonly values: readonly (readonly FeatureValue[])[];
  readonly degraded: string | null;
  /** Of the oldest snapshot among the answers; null where the store answered. */
  readonly snapshotAgeMs: number | null;
  readonly asOfMs: number;
}
export type RowReader = (
  route: string,
  selection: Selection,
  tenant: string,
  rows: readonly Row[],
) => Promise<ReadRows>;

export function createRowReader(deps: {
  readonly reader: OnlineReader;
  readonly telemetry: Telemetry;
  readonly clock: () => number;
  readonly observations: Observations;
}): RowReader {
  const { reader, telemetry, clock, observations } = deps;
  return async (route, selection, tenant, rows) => {
    const requests: EntityRequest[] = [];
    const targets: SelectionPart[] = [];
    const rowOf: number[] = [];
    rows.forEach(({ keys, prefix }, row) => {
      addReads(selection, tenant, keys, prefix, requests, targets);
      while (rowOf.length < requests.length) rowOf.push(row);
    });
    const asOfMs = clock();
    const answers: readonly EntityAnswer[] = requests.length === 0 ? [] : await reader.read(requests, asOfMs);
    const values = rows.map(() => emptyRow(selection));
    let degraded: string | null = null;
    let snapshotAgeMs: number | null = null;
    for (let i = 0; i < answers.length; i++) {
      fillRow(values[rowOf[i]], targets[i], answers[i].values);
      const { degraded: reason, snapshotAgeMs: ageMs } = answers[i];
      degraded ??= reason;
      if (ageMs !== undefined) snapshotAgeMs = Math.max(snapshotAgeMs ?? 0, ageMs);
    }
    observations.rows(tenant, selection, values, asOfMs);
    telemetry.read(route, degraded);
    return { values, degraded, snapshotAgeMs, asOfMs };
  };
}

/** Each as JSON. */
export function valuesJson(values: readonly FeatureValue[]): readonly string[] {
  const list: Value[] = new Array(values.length);
  let hasCommas = false;
  for (let i = 0; i < values.length; i++) {
    const { value } = values[i];
    list[i] = value;
    hasCommas ||= typeof value === "string" || (typeof value === "object" && value !== null);
  }
  // Numbers are written in one go: one by one each is looked for among the texts of numbers that the engine keeps, and kept there.
  return hasCommas ? list.map((value) => JSON.stringify(value)) : JSON.stringify(list).slice(1, -1).split(",");
}

export function scalarJson(value: Scalar): string {
  return typeof value === "number" ? (Number.isFinite(value) ? `${value}` : "null") : JSON.stringify(value);
}
