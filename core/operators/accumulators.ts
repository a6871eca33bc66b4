/**
 * The primitive accumulators that tiles hold. Each is a commutative monoid (`empty`, `combine`) with a `lift` from one
 * event, so that any grouping, order and batching of the same events gives the same state, bit for bit.
 */

import type { Scalar, Slot, SlotKind } from "../plan.ts";
import { type Buckets, bucketOfValue, combineBuckets } from "./buckets.ts";
import { combineDistinct, type Distinct } from "./distinct.ts";
import { combineTallies, type Tally } from "./tally.ts";
import { addSquares, addWide, squareWide, type Wide, wide, ZERO } from "./wide.ts";

/** What one event gives to one channel. */
export interface Contribution {
  /** The field's value; an integer of minor units where the channel has a scale; null when it only says "present". */
  readonly value: Scalar;
  /** First 32 bits of the hash of the value; only for channels that feed a `distinct` slot. */
  readonly hash: number;
}

/** A value with the event that gave it. Compared by event time, then by identity: total, so ties have one winner. */
export interface Pointed {
  readonly timeMs: number;
  /** Identity as 16 hex digits: their order is the order of the 64-bit hash. */
  readonly identity: string;
  readonly value: Scalar;
}

export type State = number | Wide | Pointed | readonly Pointed[] | Distinct | Buckets | Tally | ByAge | null;

/** States of a window's hops, for a window that is read by hop: index 0 is the newest, one that is missing is empty. */
export interface ByAge {
  readonly byAge: readonly State[];
}

export interface Accumulator<S extends State> {
  readonly empty: S;
  lift(contribution: Contribution, timeMs: number, identity: string): S;
  combine(a: S, b: S): S;
}

const newer = (a: Pointed, b: Pointed): boolean =>
  a.timeMs !== b.timeMs ? a.timeMs > b.timeMs : a.identity >= b.identity;

const pointed = (better: (a: Pointed, b: Pointed) => boolean): Accumulator<Pointed | null> => ({
  empty: null,
  lift: ({ value }, timeMs, identity) => ({ timeMs, identity, value }),
  combine: (a, b) => (a === null ? b : b === null ? a : better(a, b) ? a : b),
});

/** -0 is stored as 0: the two are equal, so equal sets of values must give equal bytes. */
const plain = (value: Scalar): number => (value as number) + 0;

const count: Accumulator<number> = { empty: 0, lift: () => 1, combine: (a, b) => a + b };
const sum: Accumulator<Wide> = { empty: ZERO, lift: ({ value }) => wide(plain(value)), combine: addWide };
const squares: Accumulator<Wide> = {
  empty: ZERO,
  lift: ({ value }) => squareWide(value as number),
  combine: addSquares,
};
const min: Accumulator<number> = {
  empty: Number.POSITIVE_INFINITY,
  lift: ({ value }) => plain(value),
  combine: Math.min,
};
const max: Accumulator<number> = {
  empty: Number.NEGATIVE_INFINITY,
  lift: ({ value }) => plain(value),
  combine: Math.max,
};
const last = pointed(newer);
const first = pointed((a, b) => newer(b, a));
/** The newest `keep` values, newest first: whatever is left out of a part has that many newer ones in it. */
const lastN = (keep: number): Accumulator<readonly Pointed[]> => ({
  empty: [],
  lift: ({ value }, timeMs, identity) => [{ timeMs, identity, value }],
  combine(a, b) {
    const out: Pointed[] = [];
    for (let i = 0, j = 0; out.length < keep && (i < a.length || j < b.length); ) {
      out.push(j >= b.length || (i < a.length && newer(a[i], b[j])) ? a[i++] : b[j++]);
    }
    return out;
  },
});
const distinct: Accumulator<Distinct> = {
  empty: [],
  lift: ({ hash }) => [hash],
  combine: combineDistinct,
};

const buckets: Accumulator<Buckets> = {
  empty: [],
  lift: ({ value }) => [bucketOfValue(value as number), 1],
  combine: combineBuckets,
};

const tally: Accumulator<Tally> = {
  empty: new Map(),
  lift: ({ value }) => new Map([[value, 1]]),
  combine: combineTallies,
};

const ACCUMULATORS: Readonly<Record<Exclude<SlotKind, "lastN">, Accumulator<any>>> = {
  count,
  sum,
  squares,
  min,
  max,
  first,
  last,
  distinct,
  buckets,
  tally,
};

const LAST_N = new Map<number, Accumulator<readonly Pointed[]>>();

export function accumulatorOf({ kind, keep = 1 }: Pick<Slot, "kind" | "keep">): Accumulator<any> {
  if (kind !== "lastN") return ACCUMULATORS[kind];
  const known = LAST_N.get(keep) ?? lastN(keep);
  LAST_N.set(keep, known);
  return known;
}

/** Kinds whose state varies in size; each has a hash field of its own instead of a cell in the tile. */
export const isObject = (kind: SlotKind): boolean => keepsValues(kind) || kind === "distinct" || kind === "buckets";
/** Kinds whose state holds values as they are. */
export const keepsValues = (kind: SlotKind): boolean => isPointed(kind) || kind === "tally";
/** Kinds whose state is made of values with the events that gave them. */
export const isPointed = (kind: SlotKind): boolean => kind === "first" || kind === "last" || kind === "lastN";
