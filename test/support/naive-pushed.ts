/** What pushed values are, written down the long way: all that was ever pushed is kept, and a read looks through it. */
import { createHash } from "node:crypto";
import type { BatchView, FeatureValue, Scalar } from "../../core/plan.ts";

export interface NaivePush {
  readonly eventTimeMs: number;
  readonly visibleMs: number;
  /** By feature, without the view's name. */
  readonly values: Readonly<Record<string, Scalar>>;
}

function hashOf(dtype: string, value: Scalar): string {
  const hash = createHash("sha1");
  const eight = new DataView(new ArrayBuffer(8));
  if (value === null) hash.update(Uint8Array.of(0));
  else if (dtype === "boolean") hash.update(Uint8Array.of(1, value ? 1 : 0));
  else if (dtype === "string") hash.update(Uint8Array.of(4)).update(String(value), "utf8");
  else {
    if (dtype === "int64") eight.setBigInt64(0, BigInt(value as number), true);
    else eight.setFloat64(0, Object.is(value, -0) ? 0 : (value as number), true);
    hash.update(Uint8Array.of(dtype === "int64" ? 2 : 3)).update(new Uint8Array(eight.buffer));
  }
  return hash.digest("hex").slice(0, 13);
}

/** Values of the view's features, in its order, as of an instant. */
export function naiveRead(view: BatchView, pushes: readonly NaivePush[], asOfMs: number): FeatureValue[] {
  return view.features.map(({ name, dtype }) => {
    const key = name.slice(view.name.length + 1);
    const seen = pushes
      .filter(({ visibleMs, values }) => visibleMs <= asOfMs && key in values)
      .map(({ eventTimeMs, values }) => ({ eventTimeMs, value: values[key], hash: hashOf(dtype, values[key]) }))
      .sort((a, b) => b.eventTimeMs - a.eventTimeMs || (a.hash < b.hash ? 1 : a.hash > b.hash ? -1 : 0));
    const [newest] = seen;
    const ageMs = newest === undefined ? Number.POSITIVE_INFINITY : asOfMs - newest.eventTimeMs;
    if (ageMs >= view.ttlMs + 86_400_000) return { value: null, status: "NOT_FOUND", eventTimeMs: null };
    const { eventTimeMs } = newest;
    if (ageMs > view.ttlMs) return { value: null, status: "OUTSIDE_MAX_AGE", eventTimeMs };
    const value = Object.is(newest.value, -0) ? 0 : newest.value;
    return { value, status: value === null ? "NULL_VALUE" : "PRESENT", eventTimeMs };
  });
}
