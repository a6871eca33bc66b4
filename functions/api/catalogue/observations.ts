/**
 * What this process has served and taken in, by feature, since it began. It says nothing of other processes and of what nobody asked for, and
 * its answers say so. The first rows of each list of names are counted whole, so that a feature that is new is told of at once; later
 * ones are a sample, each of which stands for as many as it was drawn from.
 */
import type { FeatureValue } from "../../../core/plan.ts";
import { type PushedFeature, versionedName } from "../../../core/pushed-feature.ts";
import type { Selection } from "../reading/selection.ts";
import type { PushInput, PushOutcome } from "../registered/pusher.ts";

/** Rows of a list of names that are counted, each. */
const WHOLE = 64;
/** Of the later ones, one row of so many is looked at, drawn: rows of a batch may be alike in turns. */
const SAMPLED = 16;
const TENANTS = 200;
/** Features and versions of a tenant that are counted. */
const FEATURES = 2_000;

interface Numbers {
  /** Values that are finite numbers, and true and false as 1 and 0. */
  numbers: number;
  min: number;
  max: number;
  mean: number;
}
interface Served extends Numbers {
  rows: number;
  present: number;
  nulls: number;
  missing: number;
  /** Of rows with an event time, from it to the read. */
  aged: number;
  ageMs: number;
  oldestMs: number;
  newestMs: number | null;
}
interface Pushed extends Numbers {
  rows: number;
  nulls: number;
  newestMs: number | null;
  visibleMs: number | null;
}
interface OfTenant {
  /** By their names; registered ones by versioned names. */
  readonly served: Map<string, Served>;
  /** By versioned names. */
  readonly pushed: Map<string, Pushed>;
  /** Rows of each list of names, as long as they are counted whole. */
  readonly seen: WeakMap<object, number>;
}

export class Observations {
  readonly sinceMs: number;
  readonly #tenants = new Map<string, OfTenant>();
  readonly #draw: () => number;

  /** @param draw from 0 to 1 */
  constructor(sinceMs: number, draw: () => number = Math.random) {
    this.sinceMs = sinceMs;
    this.#draw = draw;
  }

  /** Rows that were read, aligned with the selection's names. */
  rows(tenant: string, selection: Selection, rows: readonly (readonly FeatureValue[])[], asOfMs: number): void {
    const { served, seen } = this.#of(tenant);
    const before = this.#count(seen, selection, rows.length);
    for (let i = 0; i < rows.length; i++) {
      const weight = this.#weightOf(before + i);
      if (weight > 0) addRow(served, selection.counted, rows[i], asOfMs, weight);
    }
  }

  /** Rows of a push, and what came of them. */
  pushed(
    tenant: string,
    features: readonly PushedFeature[],
    rows: readonly PushInput[],
    { refusals, visibleMs }: Pick<PushOutcome, "refusals" | "visibleMs">,
  ): void {
    if (visibleMs === null) return;
    const refused = new Set(refusals.map(({ index }) => index));
    const taken = refused.size === 0 ? rows : rows.filter((_, i) => !refused.has(i));
    const { pushed, seen } = this.#of(tenant);
    features.forEach((feature, column) => {
      const known = entry(pushed, versionedName(feature), emptyPush);
      const given = taken.filter(({ values }) => values[column] !== undefined);
      if (known === null || given.length === 0) return;
      known.visibleMs = Math.max(known.visibleMs ?? 0, visibleMs);
      const before = this.#count(seen, feature, given.length);
      given.forEach(({ values, eventTimeMs }, i) => {
        // Of a row that was taken it is a number.
        known.newestMs = Math.max(known.newestMs ?? 0, eventTimeMs as number);
        const weight = this.#weightOf(before + i);
        known.rows += weight;
        if (values[column] === null) known.nulls += weight;
        addNumber(known, values[column], weight);
      });
    });
  }

  /** For the catalogue's answer; null where there is nothing to say. @param name of a registered feature the versioned one */
  servedJson(tenant: string, name: string): Record<string, unknown> {
    const of = this.#tenants.get(tenant)?.served.get(name);
    const rate = (part: number | undefined) => (of === undefined ? null : part! / of.rows);
    return {
      ...this.#told(),
      rows: of?.rows ?? 0,
      present_rate: rate(of?.present),
      null_rate: rate(of?.nulls),
      missing_rate: rate(of?.missing),
      mean_age_ms: of === undefined || of.aged === 0 ? null : of.ageMs / of.aged,
      max_age_ms: of === undefined || of.aged === 0 ? null : of.oldestMs,
      newest_event_time_ms: of?.newestMs ?? null,
      values: numbersJson(of),
    };
  }

  /** Of a registered feature, by its versioned name. */
  pushedJson(tenant: string, name: string): Record<string, unknown> {
    const of = this.#tenants.get(tenant)?.pushed.get(name);
    return {
      ...this.#told(),
      rows: of?.rows ?? 0,
      null_rate: of === undefined || of.rows === 0 ? null : of.nulls / of.rows,
      newest_event_time_ms: of?.newestMs ?? null,
      visible_ms: of?.visibleMs ?? null,
      values: numbersJson(of),
    };
  }

  #told() {
    return { by: "the process that answers", since_ms: this.sinceMs, whole_rows: WHOLE, then_one_row_of: SAMPLED };
  }

  #of(tenant: string): OfTenant {
    let own = this.#tenants.get(tenant);
    if (own === undefined) {
      if (this.#tenants.size >= TENANTS) this.#tenants.delete(this.#tenants.keys().next().value as string);
      own = { served: new Map(), pushed: new Map(), seen: new WeakMap() };
      this.#tenants.set(tenant, own);
    }
    return own;
  }

  /** @returns how many were seen before */
  #count(seen: WeakMap<object, number>, list: object, more: number): number {
    const before = seen.get(list) ?? 0;
    if (before < WHOLE) seen.set(list, before + more);
    return before;
  }

  /** How many rows this one stands for; 0 for one that is not looked at. */
  #weightOf(row: number): number {
    if (row < WHOLE) return 1;
    return this.#draw() * SAMPLED < 1 ? SAMPLED : 0;
  }
}

const NO_NUMBERS: Numbers = { numbers: 0, min: Number.POSITIVE_INFINITY, max: Number.NEGATIVE_INFINITY, mean: 0 };
const emptyPush = (): Pushed => ({ ...NO_NUMBERS, rows: 0, nulls: 0, newestMs: null, visibleMs: null });
const emptyServed = (): Served => ({
  ...NO_NUMBERS,
  ...{ rows: 0, present: 0, nulls: 0, missing: 0, aged: 0, ageMs: 0, oldestMs: 0, newestMs: null },
});

/** @returns null where a tenant has more than are counted */
function entry<T>(of: Map<string, T>, name: string, empty: () => T): T | null {
  let known = of.get(name);
  if (known === undefined) {
    if (of.size >= FEATURES) return null;
    known = empty();
    of.set(name, known);
  }
  return known;
}

function addRow(
  served: Map<string, Served>,
  names: readonly string[],
  values: readonly FeatureValue[],
  asOfMs: number,
  weight: number,
): void {
  for (let i = 0; i < names.length; i++) {
    const known = entry(served, names[i], emptyServed);
    if (known === null) continue;
    const { value, status, eventTimeMs } = values[i];
    known.rows += weight;
    if (status === "PRESENT") known.present += weight;
    else if (status === "NULL_VALUE") known.nulls += weight;
    else known.missing += weight;
    addNumber(known, value, weight);
    if (eventTimeMs === null) continue;
    const ageMs = asOfMs - eventTimeMs;
    known.aged += weight;
    known.ageMs += ageMs * weight;
    if (ageMs > known.oldestMs) known.oldestMs = ageMs;
    if (known.newestMs === null || eventTimeMs > known.newestMs) known.newestMs = eventTimeMs;
  }
}

function addNumber(of: Numbers, given: unknown, weight: number): void {
  const value = typeof given === "boolean" ? Number(given) : given;
  if (weight === 0 || typeof value !== "number" || !Number.isFinite(value)) return;
  of.numbers += weight;
  // In halves: neither a sum nor a difference of two doubles need be one.
  const half = (value / 2 - of.mean / 2) * (weight / of.numbers);
  of.mean += half;
  of.mean += half;
  if (value < of.min) of.min = value;
  if (value > of.max) of.max = value;
}

const numbersJson = (of: Numbers | undefined) =>
  of === undefined || of.numbers === 0 ? null : { count: of.numbers, min: of.min, max: of.max, mean: of.mean };
