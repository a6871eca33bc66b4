/**
 * Partial states of a slot over a sequence of places: `enter` puts an event's state at its place, `combine` gives the state of
 * all entered within a range of places. Both take O(log n). Numbers and wide integers lie in typed arrays; any other
 * state is combined by its accumulator, when it is asked for.
 */

import type { Hash64 } from "../event.ts";
import type { Scalar, Slot } from "../plan.ts";
import { type Accumulator, accumulatorOf, type State } from "./accumulators.ts";
import { LOW, OVERFLOWN, squareWide, wide } from "./wide.ts";

export interface Tree {
  /** Forgets everything; places are 0 to `length` - 1 from here on. */
  reset(length: number): void;
  enter(place: number, value: Scalar, timeMs: number): void;
  /** @param to exclusive; an empty range gives the empty state */
  combine(from: number, to: number): State;
}

export function createTree(slot: Pick<Slot, "kind" | "keep">, hash64: Hash64): Tree {
  switch (slot.kind) {
    case "count":
      return countTree();
    case "min":
      return extremeTree(-1);
    case "max":
      return extremeTree(1);
    case "sum":
      return wideTree(wide, Number.POSITIVE_INFINITY);
    case "squares":
      return wideTree(squareWide, OVERFLOWN.hi);
    case "first":
      return placeTree(-1);
    case "last":
      return placeTree(1);
    default:
      return stateTree(accumulatorOf(slot), slot.kind === "distinct" ? hash64 : null);
  }
}

/** Leaves lie at `size` and above, node i is made of 2i and 2i + 1. At least two leaves, so that 0 is no node. */
const sizeFor = (length: number): number => 2 ** Math.ceil(Math.log2(Math.max(2, length)));

function countTree(): Tree {
  let size = 0;
  let nodes = new Float64Array(0);
  return {
    reset(length) {
      size = sizeFor(length);
      if (nodes.length < 2 * size) nodes = new Float64Array(2 * size);
      nodes.fill(0, 0, 2 * size);
    },
    enter(place) {
      for (let at = size + place; at > 0; at >>= 1) nodes[at]++;
    },
    combine(from, to) {
      let count = 0;
      for (let left = from + size, right = to + size; left < right; left >>= 1, right >>= 1) {
        if (left & 1) count += nodes[left++];
        if (right & 1) count += nodes[--right];
      }
      return count;
    },
  };
}

/** The greatest of `sign` times the value: with -1 the smallest. */
function extremeTree(sign: 1 | -1): Tree {
  let size = 0;
  let nodes = new Float64Array(0);
  return {
    reset(length) {
      size = sizeFor(length);
      if (nodes.length < 2 * size) nodes = new Float64Array(2 * size);
      nodes.fill(Number.NEGATIVE_INFINITY, 0, 2 * size);
    },
    enter(place, value) {
      const own = sign * (value as number);
      // What holds a greater one is within others that hold it too.
      for (let at = size + place; at > 0 && nodes[at] < own; at >>= 1) nodes[at] = own;
    },
    combine(from, to) {
      let greatest = Number.NEGATIVE_INFINITY;
      for (let left = from + size, right = to + size; left < right; left >>= 1, right >>= 1) {
        if (left & 1) greatest = Math.max(greatest, nodes[left++]);
        if (right & 1) greatest = Math.max(greatest, nodes[--right]);
      }
      return sign * greatest;
    },
  };
}

/** First and last: places are in the order of (event time, identity) already, so the smaller or greater place wins. */
function placeTree(sign: 1 | -1): Tree {
  const places = extremeTree(sign);
  let values: Scalar[] = [];
  return {
    reset(length) {
      places.reset(length);
      values = new Array(length).fill(null);
    },
    enter(place, value, timeMs) {
      values[place] = value;
      places.enter(place, place, timeMs);
    },
    combine(from, to) {
      const place = places.combine(from, to) as number;
      return Number.isFinite(place) ? { timeMs: 0, identity: "", value: values[place] } : null;
    },
  };
}

/** @param limit of the high word: states that reach it stay there, as `addSquares` has it */
function wideTree(lift: (value: number) => { hi: number; lo: number }, limit: number): Tree {
  let size = 0;
  let high = new Float64Array(0);
  let low = new Float64Array(0);
  return {
    reset(length) {
      size = sizeFor(length);
      if (high.length < 2 * size) [high, low] = [new Float64Array(2 * size), new Float64Array(2 * size)];
      high.fill(0, 0, 2 * size);
      low.fill(0, 0, 2 * size);
    },
    enter(place, value) {
      const own = lift(value as number);
      for (let at = size + place; at > 0; at >>= 1) {
        const lo = low[at] + own.lo;
        const carry = lo < LOW ? 0 : 1;
        high[at] += own.hi + carry;
        low[at] = lo - carry * LOW;
        if (high[at] >= limit) [high[at], low[at]] = [limit, 0];
      }
    },
    combine(from, to) {
      let hi = 0;
      let lo = 0;
      const add = (at: number) => {
        hi += high[at];
        lo += low[at];
        if (lo >= LOW) {
          lo -= LOW;
          hi++;
        }
      };
      for (let left = from + size, right = to + size; left < right; left >>= 1, right >>= 1) {
        if (left & 1) add(left++);
        if (right & 1) add(--right);
      }
      return hi >= limit ? OVERFLOWN : { hi, lo };
    },
  };
}

/** How many hashes of values are remembered: values repeat, and hashing costs a microsecond. */
const KEPT_HASHES = 200_000;

/** Orders as the place does, and places are in the order of (event time, identity): it stands for an identity that is not at hand. */
const placeIdentity = (place: number): string => place.toString(16).padStart(16, "0");

/** For states of varying size: an entered event only marks what holds it; nodes are combined when a range needs them. */
function stateTree(accumulator: Accumulator<any>, hash64: Hash64 | null): Tree {
  const { empty, lift, combine } = accumulator;
  const hashes = new Map<Scalar, number>();
  let size = 0;
  /** Undefined: to be combined again. Whatever is above such a node is undefined too. */
  let nodes: (State | undefined)[] = [];
  const node = (at: number): State => {
    const known = nodes[at];
    if (known !== undefined) return known;
    const state = combine(node(2 * at), node(2 * at + 1));
    nodes[at] = state;
    return state;
  };
  const hashOf = (value: Scalar): number => {
    if (hash64 === null) return 0;
    let hash = hashes.get(value);
    if (hash === undefined) {
      if (hashes.size >= KEPT_HASHES) hashes.clear();
      hash = Number.parseInt(hash64(String(value)).slice(0, 8), 16);
      hashes.set(value, hash);
    }
    return hash;
  };
  return {
    reset(length) {
      size = sizeFor(length);
      nodes = new Array(2 * size).fill(empty);
    },
    enter(place, value, timeMs) {
      let at = size + place;
      nodes[at] = lift({ value, hash: hashOf(value) }, timeMs, placeIdentity(place));
      for (at >>= 1; at > 0 && nodes[at] !== undefined; at >>= 1) nodes[at] = undefined;
    },
    combine(from, to) {
      let state = empty;
      for (let left = from + size, right = to + size; left < right; left >>= 1, right >>= 1) {
        if (left & 1) state = combine(state, node(left++));
        if (right & 1) state = combine(state, node(--right));
      }
      return state;
    },
  };
}
