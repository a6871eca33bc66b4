/**
 * One entity's past, read at many instants: what the online store would have answered at each, from the list of its events
 * with their visible times. The same accumulators and operators as online, so the same bits.
 *
 * Instants only grow. An event is entered once it is visible and its base tile has begun, whichever comes last; entered events
 * lie at their place in the order of (event time, identity), in trees of partial states, so a window is a range of that
 * order and costs O(log n), in whatever order events became visible. DESIGN §7 gives the windows' ends.
 */

import type { Hash64 } from "../event.ts";
import type { ByAge, State } from "../operators/accumulators.ts";
import { ageInHops } from "../operators/decay.ts";
import { OPERATORS } from "../operators/operators.ts";
import { createTree, type Tree } from "../operators/range-tree.ts";
import type { Feature, FeatureValue, Group, HoppingWindow, Scalar, View, Window } from "../plan.ts";
import { withStatus } from "./tiles.ts";
import { floorTo, windowInterval } from "./window.ts";

/** Events of one entity in the order of (event time, identity). Aligned columns. */
export interface History {
  readonly length: number;
  readonly timesMs: ArrayLike<number>;
  readonly visibleMs: ArrayLike<number>;
  /** By index into `Group.channels`: null where an event gives nothing. Channels that no feature needs may be missing. */
  readonly channels: readonly (ArrayLike<Scalar> | undefined)[];
}

export interface FeatureOfView {
  readonly view: View;
  readonly feature: Feature;
}

/** A window's range in the order of events, as of the newest instant. */
interface Range {
  readonly window: Window;
  from: number;
  to: number;
  endMs: number;
}

export class HistoryReader {
  readonly #group: Group;
  readonly #features: readonly FeatureOfView[];
  /** Slots that the features need, with their trees. */
  readonly #slots: { readonly channel: number; readonly tree: Tree }[] = [];
  readonly #ranges: Range[] = [];
  /** Each pair of a slot and a window once: several features share it. */
  readonly #pairs: { readonly tree: Tree; readonly range: Range }[] = [];
  /** For each feature, its states' positions in `#pairs`. */
  readonly #statesOf: readonly (readonly number[])[];
  #history: History = { length: 0, timesMs: [], visibleMs: [], channels: [] };
  #reached = 0;
  #newest = -1;
  readonly #pending: number[] = [];
  readonly #states: State[];

  /** @param features of this group, in the order in which `read` answers */
  constructor(group: Group, features: readonly FeatureOfView[], hash64: Hash64) {
    this.#group = group;
    this.#features = features;
    const trees = new Map<number, Tree>();
    const ranges = new Map<string, Range>();
    const pairs = new Map<string, number>();
    this.#statesOf = features.map(({ feature: { slots, window } }) => {
      const key = JSON.stringify(window);
      const range = ranges.get(key) ?? { window, from: 0, to: 0, endMs: 0 };
      ranges.set(key, range);
      return slots.map((index) => {
        const slot = group.slots[index];
        const tree = trees.get(index) ?? createTree(slot, hash64);
        if (!trees.has(index)) this.#slots.push({ channel: slot.channel, tree });
        trees.set(index, tree);
        const pair = pairs.get(`${index}/${key}`) ?? this.#pairs.push({ tree, range }) - 1;
        pairs.set(`${index}/${key}`, pair);
        return pair;
      });
    });
    this.#ranges.push(...ranges.values());
    this.#states = new Array(this.#pairs.length).fill(null);
  }

  /** Begins another entity. The columns are not copied and must stay as they are until the next. */
  begin(history: History): void {
    this.#history = history;
    this.#reached = 0;
    this.#newest = -1;
    this.#pending.length = 0;
    for (const { tree } of this.#slots) tree.reset(history.length);
    for (const range of this.#ranges) {
      range.from = 0;
      range.to = 0;
    }
  }

  /** @param asOfMs not before the last one of this entity. @returns values aligned with the features */
  read(asOfMs: number): FeatureValue[] {
    this.#advance(asOfMs);
    const states = this.#states;
    this.#pairs.forEach(({ tree, range }, i) => {
      const { window } = range;
      const byHop = window.kind === "hopping" && window.byHop;
      states[i] = byHop ? this.#combineByHop(tree, range, window) : tree.combine(range.from, range.to);
    });
    const eventTimeMs = this.#newest < 0 ? null : this.#history.timesMs[this.#newest];
    return this.#features.map(({ view, feature }, i) => {
      const own = this.#statesOf[i].map((at) => states[at]);
      const value = OPERATORS[feature.operator].lower(own, { ...feature, asOfMs });
      return withStatus(view, value, eventTimeMs, asOfMs, true);
    });
  }

  #combineByHop(tree: Tree, { from, to, endMs }: Range, window: HoppingWindow): ByAge {
    const { timesMs } = this.#history;
    const byAge: State[] = [];
    for (let at = from; at < to; ) {
      const hopEndMs = floorTo(timesMs[at], window.hopMs) + window.hopMs;
      let [low, high] = [at + 1, to];
      while (low < high) {
        const middle = (low + high) >> 1;
        if (timesMs[middle] < hopEndMs) low = middle + 1;
        else high = middle;
      }
      byAge[ageInHops(window, endMs, timesMs[at])] = tree.combine(at, low);
      at = low;
    }
    return { byAge };
  }

  #advance(asOfMs: number): void {
    const { length, timesMs, visibleMs } = this.#history;
    const { baseMs } = this.#group;
    const headEndMs = floorTo(asOfMs, baseMs) + baseMs;
    for (; this.#reached < length && timesMs[this.#reached] < headEndMs; this.#reached++) {
      if (visibleMs[this.#reached] <= asOfMs) this.#enter(this.#reached);
      else push(this.#pending, this.#reached, visibleMs);
    }
    while (this.#pending.length > 0 && visibleMs[this.#pending[0]] <= asOfMs)
      this.#enter(pop(this.#pending, visibleMs));
    for (const range of this.#ranges) {
      let [startMs, endMs] = [Number.NEGATIVE_INFINITY, headEndMs];
      if (range.window.kind === "hopping") ({ startMs, endMs } = windowInterval(range.window, baseMs, asOfMs));
      range.endMs = endMs;
      while (range.from < length && timesMs[range.from] < startMs) range.from++;
      while (range.to < length && timesMs[range.to] < endMs) range.to++;
    }
  }

  #enter(index: number): void {
    if (index > this.#newest) this.#newest = index;
    const { timesMs, channels } = this.#history;
    for (const { channel, tree } of this.#slots) {
      const value = channels[channel]![index];
      if (value !== null) tree.enter(index, value, timesMs[index]);
    }
  }
}

/** A binary heap of indices, the smallest visible time first. */
function push(heap: number[], index: number, visibleMs: ArrayLike<number>): void {
  let at = heap.push(index) - 1;
  while (at > 0) {
    const parent = (at - 1) >> 1;
    if (visibleMs[heap[parent]] <= visibleMs[index]) break;
    heap[at] = heap[parent];
    at = parent;
  }
  heap[at] = index;
}

function pop(heap: number[], visibleMs: ArrayLike<number>): number {
  const top = heap[0];
  const moved = heap.pop()!;
  if (heap.length === 0) return top;
  let at = 0;
  for (;;) {
    let child = 2 * at + 1;
    if (child >= heap.length) break;
    if (child + 1 < heap.length && visibleMs[heap[child + 1]] < visibleMs[heap[child]]) child++;
    if (visibleMs[heap[child]] >= visibleMs[moved]) break;
    heap[at] = heap[child];
    at = child;
  }
  heap[at] = moved;
  return top;
}
