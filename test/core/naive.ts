/**
 * The oracle: what a feature is, straight from DESIGN §5 and §7, over a plain list of events. Never optimised, and it
 * shares no code with the engine but the condition evaluator and the HyperLogLog estimate.
 */
import { countDistinct, type Distinct, REGISTERS } from "../../core/operators/distinct.ts";
import type { Feature, Group, HoppingWindow, Scalar, Value } from "../../core/plan.ts";
import { compileWhere, type Fields } from "../../core/where.ts";

export interface NaiveEvent {
  readonly identity: string;
  readonly timeMs: number;
  readonly fields: Fields;
}

export function naive(
  group: Group,
  feature: Feature,
  events: readonly NaiveEvent[],
  t: number,
  hash32: (v: string) => number,
): Value {
  const { window, operator } = feature;
  const head = (Math.floor(t / group.baseMs) + 1) * group.baseMs;
  let [start, end] = [0, head];
  if (window.kind === "hopping") {
    const { sizeMs: W, hopMs: H, delayMs: D } = window;
    start = Math.floor((t - D - W) / H) * H;
    if (D > 0) end = Math.floor((t - D) / H) * H;
  }
  const { input } = group.channels[group.slots[feature.slots[0]].channel];
  const holds = input.where ? compileWhere(input.where) : () => true;
  const once = new Map(events.map((event) => [event.identity, event]));
  const inside = [...once.values()].filter((e) => e.timeMs >= start && e.timeMs < end && holds(e.fields));
  if (operator === "count") return inside.length;
  const valued = inside.filter((e) => e.fields[input.field!] !== null && e.fields[input.field!] !== undefined);
  if (valued.length === 0) return null;
  const plain = (value: unknown) => (typeof value === "number" ? value + 0 : value) as Scalar;
  const values = valued.map((e) => plain(e.fields[input.field!]));
  const byTime = [...valued].sort((a, b) => a.timeMs - b.timeMs || (a.identity < b.identity ? -1 : 1));
  const p = 10 ** (input.scale ?? 0);
  const minor = () =>
    values.map((v) => BigInt(Math.sign(v as number) * Math.floor(Math.abs(v as number) * p + 0.5) || 0));
  const total = () => minor().reduce((a, b) => a + b, 0n);
  const exact = (x: bigint) => (x > -(2n ** 53n) && x < 2n ** 53n ? Number(x) : null);
  const n = values.length;
  const variance = () => {
    if (feature.sample && n < 2) return null;
    const squares = minor().reduce((a, b) => a + b * b, 0n);
    const over = BigInt(n) * BigInt(feature.sample ? n - 1 : n) * BigInt(p) ** 2n;
    return Number(BigInt(n) * squares - total() ** 2n) / Number(over);
  };
  const nullable = (x: number | null, f: (x: number) => number) => (x === null ? null : f(x));
  switch (operator) {
    case "sum":
      return nullable(exact(total()), (x) => x / p);
    case "mean":
      return nullable(exact(total()), (x) => x / (n * p));
    case "min":
      return Math.min(...(values as number[])) + 0;
    case "max":
      return Math.max(...(values as number[])) + 0;
    case "variance":
      return variance();
    case "stddev":
      return nullable(variance(), Math.sqrt);
    case "first":
      return plain(byTime[0].fields[input.field!]);
    case "last":
      return plain(byTime[byTime.length - 1].fields[input.field!]);
    case "decayedSum": {
      const { hopMs: H } = window as HoppingWindow;
      const age = (e: NaiveEvent) => Math.floor((end - 1) / H) - Math.floor(e.timeMs / H);
      const weights = valued.map((e) => BigInt(Math.round(2 ** 32 * 2 ** ((-age(e) * H) / feature.parameter!))));
      return Number(minor().reduce((a, x, i) => a + x * weights[i], 0n)) / (2 ** 32 * p);
    }
    case "topK": {
      const counts = [...new Set(values)].map((value) => ({ value, count: values.filter((v) => v === value).length }));
      const bytes = (v: Scalar) => (typeof v === "string" ? Buffer.from(v) : Buffer.of(Number(v)));
      counts.sort((a, b) => b.count - a.count || Buffer.compare(bytes(a.value), bytes(b.value)));
      return counts.length > 64 ? null : counts.slice(0, feature.parameter).map(({ value }) => value);
    }
    case "approxPercentile": {
      const sorted = (values as number[]).sort((a, b) => a - b);
      const x = sorted[Number((BigInt(n) * BigInt(Math.round(feature.parameter! * 1e5)) + 99_999n) / 100_000n) - 1];
      const size = Math.min(Math.abs(x), 2 ** 64 - 2 ** 11);
      if (size < 2 ** -64) return 0;
      let power = 2 ** -64;
      while (power * 2 <= size) power *= 2;
      return Math.sign(x) * power * (1 + (Math.floor((size / power - 1) * 64) + 0.5) / 64);
    }
    case "lastN":
      return byTime
        .map((e) => plain(e.fields[input.field!]))
        .reverse()
        .slice(0, feature.parameter);
    case "timeSinceLast":
      return Math.max(0, t - Math.max(...valued.map((e) => e.timeMs))) / 1000;
    case "approxDistinct": {
      const hashes = [...new Set(values.map((v) => hash32(String(v))))];
      if (hashes.length <= 48) return hashes.length;
      const registers: Distinct = new Uint8Array(REGISTERS);
      for (const h of hashes)
        registers[h >>> 22] = Math.max(registers[h >>> 22], Math.min(23, Math.clz32(h << 10) + 1));
      return countDistinct(registers);
    }
  }
}
