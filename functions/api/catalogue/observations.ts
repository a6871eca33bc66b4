/**
 * What this process has served, by feature: a sample of the rows that were read, counted since the process began. It says nothing of other
 * processes and of what nobody asked for, and its answers say so.
 */
import type { FeatureValue } from "../../../core/plan.ts";
import type { Selection } from "../reading/selection.ts";

/** One row of so many is looked at, drawn: rows of a batch may be alike in turns. */
const SAMPLED = 16;
const TENANTS = 200;
/** Features and versions of a tenant that are counted. */
const FEATURES = 2_000;

export interface Observed {
  rows: number;
  present: number;
  nulls: number;
  missing: number;
  /** Of values that are finite numbers. */
  numbers: number;
  min: number;
  max: number;
  sum: number;
  /** Of rows with an event time, from it to the read. */
  aged: number;
  ageMs: number;
  oldestMs: number;
}

export class Observations {
  readonly sinceMs: number;
  private readonly tenants = new Map<string, Map<string, Observed>>();

  constructor(sinceMs: number) {
    this.sinceMs = sinceMs;
  }

  row(tenant: string, { names }: Selection, values: readonly FeatureValue[], asOfMs: number): void {
    if (Math.random() * SAMPLED >= 1) return;
    const features = this.of(tenant);
    for (let i = 0; i < names.length; i++) {
      let observed = features.get(names[i]);
      if (observed === undefined) {
        if (features.size >= FEATURES) continue;
        observed = empty();
        features.set(names[i], observed);
      }
      add(observed, values[i], asOfMs);
    }
  }

  /** Null for a feature that was not in the sample. */
  get(tenant: string, name: string): Observed | null {
    return this.tenants.get(tenant)?.get(name) ?? null;
  }

  private of(tenant: string): Map<string, Observed> {
    let features = this.tenants.get(tenant);
    if (features === undefined) {
      if (this.tenants.size >= TENANTS) this.tenants.delete(this.tenants.keys().next().value as string);
      features = new Map();
      this.tenants.set(tenant, features);
    }
    return features;
  }
}

const empty = (): Observed => ({
  ...{ rows: 0, present: 0, nulls: 0, missing: 0, numbers: 0, sum: 0, aged: 0, ageMs: 0, oldestMs: 0 },
  ...{ min: Number.POSITIVE_INFINITY, max: Number.NEGATIVE_INFINITY },
});

function add(observed: Observed, { value, status, eventTimeMs }: FeatureValue, asOfMs: number): void {
  observed.rows++;
  if (status === "PRESENT") observed.present++;
  else if (status === "NULL_VALUE") observed.nulls++;
  else observed.missing++;
  if (typeof value === "number" && Number.isFinite(value)) {
    observed.numbers++;
    observed.sum += value;
    if (value < observed.min) observed.min = value;
    if (value > observed.max) observed.max = value;
  }
  if (eventTimeMs === null) return;
  const ageMs = asOfMs - eventTimeMs;
  observed.aged++;
  observed.ageMs += ageMs;
  if (ageMs > observed.oldestMs) observed.oldestMs = ageMs;
}

/** Rates and values of a feature, for an answer; null where there is nothing to say. */
export function observedJson(observed: Observed | null, sinceMs: number): Record<string, unknown> {
  const rows = observed?.rows ?? 0;
  const of = (part: number, whole: number) => (whole === 0 ? null : part / whole);
  const numbers = observed?.numbers ?? 0;
  return {
    by: "the process that answers",
    since_ms: sinceMs,
    one_row_of: SAMPLED,
    rows,
    present_rate: of(observed?.present ?? 0, rows),
    null_rate: of(observed?.nulls ?? 0, rows),
    missing_rate: of(observed?.missing ?? 0, rows),
    mean_age_ms: of(observed?.ageMs ?? 0, observed?.aged ?? 0),
    max_age_ms: (observed?.aged ?? 0) === 0 ? null : observed!.oldestMs,
    values:
      numbers === 0 ? null : { count: numbers, min: observed!.min, max: observed!.max, mean: observed!.sum / numbers },
  };
}
