/**
 * A gradient-boosted ensemble as flat arrays, and why it scored as it did. Decisions are LightGBM's. Nodes of all trees share
 * the arrays; a reference c >= 0 is node c, and c < 0 is leaf -c - 1.
 */
export interface Trees {
  readonly featureCount: number;
  /** Reference of each tree's root. */
  readonly roots: ArrayLike<number>;
  /** Per node: index in the vector. */
  readonly feature: ArrayLike<number>;
  /** Per node: x <= threshold goes left; not used where `categories` is set. */
  readonly threshold: ArrayLike<number>;
  /** Per node: codes that go left, or null for a numeric split. */
  readonly categories: readonly (ReadonlySet<number> | null)[];
  /** Per node: NaN goes left. */
  readonly nanLeft: ArrayLike<number | boolean>;
  readonly left: ArrayLike<number>;
  readonly right: ArrayLike<number>;
  /** Training rows that came through, per node and per leaf. */
  readonly nodeCount: ArrayLike<number>;
  readonly leafCount: ArrayLike<number>;
  readonly leafValue: ArrayLike<number>;
}

/** base + the sum of contributions = the sum of the leaves that the vector reaches. */
export interface Attribution {
  readonly base: number;
  /** Aligned with the vector. */
  readonly contributions: Float64Array;
}

/** Expected value of each node: the mean of its leaves, weighted by training rows. */
export type NodeMeans = Float64Array;

export function nodeMeans(trees: Trees): NodeMeans {
  const means = new Float64Array(trees.feature.length);
  const visit = (ref: number): number => {
    if (ref < 0) return trees.leafValue[-ref - 1];
    const { left, right } = trees;
    const l = visit(left[ref]);
    const r = visit(right[ref]);
    const a = countOf(trees, left[ref]);
    const b = countOf(trees, right[ref]);
    means[ref] = (l * a + r * b) / (a + b);
    return means[ref];
  };
  for (let t = 0; t < trees.roots.length; t++) visit(trees.roots[t]);
  return means;
}

const countOf = (trees: Trees, ref: number): number => (ref < 0 ? trees.leafCount[-ref - 1] : trees.nodeCount[ref]);

/** @param vector encoded: categories as codes, NaN for absent */
export function goesLeft(trees: Trees, node: number, vector: ArrayLike<number>): boolean {
  const value = vector[trees.feature[node]];
  const members = trees.categories[node];
  if (members !== null) return members.has(value);
  return Number.isNaN(value) ? Boolean(trees.nanLeft[node]) : value <= trees.threshold[node];
}

export function sumOfLeaves(trees: Trees, vector: ArrayLike<number>): number {
  let sum = 0;
  for (let t = 0; t < trees.roots.length; t++) {
    let ref = trees.roots[t];
    while (ref >= 0) ref = goesLeft(trees, ref, vector) ? trees.left[ref] : trees.right[ref];
    sum += trees.leafValue[-ref - 1];
  }
  return sum;
}

/**
 * Contributions along the decision path: each split moves the expectation, and its feature gets the difference. (Saabas,
 * "Interpreting random forests", 2014.) Microseconds a row, but it depends on the order of splits in a tree.
 */
export function pathContributions(trees: Trees, means: NodeMeans, vector: ArrayLike<number>): Attribution {
  const contributions = new Float64Array(trees.featureCount);
  let base = 0;
  for (let t = 0; t < trees.roots.length; t++) {
    let ref = trees.roots[t];
    let mean = ref < 0 ? trees.leafValue[-ref - 1] : means[ref];
    base += mean;
    while (ref >= 0) {
      const next = goesLeft(trees, ref, vector) ? trees.left[ref] : trees.right[ref];
      const after = next < 0 ? trees.leafValue[-next - 1] : means[next];
      contributions[trees.feature[ref]] += after - mean;
      mean = after;
      ref = next;
    }
  }
  return { base, contributions };
}

/**
 * Exact Shapley values under the path-dependent expectation (Lundberg, Erion, Lee, "Consistent individualized feature attribution
 * for tree ensembles", 2018, algorithm 2). Milliseconds a row.
 */
export function shapContributions(trees: Trees, means: NodeMeans, vector: ArrayLike<number>): Attribution {
  const contributions = new Float64Array(trees.featureCount);
  const paths = pathsFor(depthOf(trees));
  let base = 0;
  for (let t = 0; t < trees.roots.length; t++) {
    const root = trees.roots[t];
    base += root < 0 ? trees.leafValue[-root - 1] : means[root];
    if (root >= 0) descend({ trees, vector, contributions, paths }, root, 0, 0, 1, 1, -1);
  }
  return { base, contributions };
}

/**
 * Paths from a root to a node, one after the other in one block: each node's is its parent's, extended. Of each feature of a path the
 * shares of training rows and of this vector that go on when it is unknown (zero) or known (one), and the weight of the
 * subsets with as many features as its position.
 */
interface Paths {
  readonly feature: Int32Array;
  readonly zero: Float64Array;
  readonly one: Float64Array;
  readonly weight: Float64Array;
}
interface Walk {
  readonly trees: Trees;
  readonly vector: ArrayLike<number>;
  readonly contributions: Float64Array;
  readonly paths: Paths;
}

function depthOf(trees: Trees): number {
  // A child lies behind its parent.
  const depths = new Int32Array(trees.feature.length).fill(1);
  let deepest = 1;
  for (let node = 0; node < depths.length; node++) {
    deepest = Math.max(deepest, depths[node]);
    for (const child of [trees.left[node], trees.right[node]]) if (child >= 0) depths[child] = depths[node] + 1;
  }
  return deepest;
}

function pathsFor(depth: number): Paths {
  const size = ((depth + 2) * (depth + 3)) / 2;
  const doubles = () => new Float64Array(size);
  return { feature: new Int32Array(size), zero: doubles(), one: doubles(), weight: doubles() };
}

/**
 * @param from where the parent's path begins; @param length its number of features, the root's artificial one among them
 * @param zero shares of the feature that the parent splits by
 */
function descend(
  walk: Walk,
  ref: number,
  from: number,
  length: number,
  zero: number,
  one: number,
  feature: number,
): void {
  const { trees, vector, contributions, paths } = walk;
  // The own path lies behind the parent's, so that the parent's other child finds that as it was.
  const at = from + length;
  for (let i = 0; i < length; i++) {
    paths.feature[at + i] = paths.feature[from + i];
    paths.zero[at + i] = paths.zero[from + i];
    paths.one[at + i] = paths.one[from + i];
    paths.weight[at + i] = paths.weight[from + i];
  }
  extend(paths, at, length, zero, one, feature);
  let count = length + 1;
  if (ref < 0) {
    const value = trees.leafValue[-ref - 1];
    for (let i = 1; i < count; i++) {
      const share = paths.one[at + i] - paths.zero[at + i];
      contributions[paths.feature[at + i]] += unwoundSum(paths, at, count - 1, i) * share * value;
    }
    return;
  }
  const split = trees.feature[ref];
  const isLeft = goesLeft(trees, ref, vector);
  const hot = isLeft ? trees.left[ref] : trees.right[ref];
  const cold = isLeft ? trees.right[ref] : trees.left[ref];
  const total = countOf(trees, ref);
  let zeroAbove = 1;
  let oneAbove = 1;
  for (let i = 1; i < count; i++) {
    if (paths.feature[at + i] !== split) continue;
    zeroAbove = paths.zero[at + i];
    oneAbove = paths.one[at + i];
    unwind(paths, at, count - 1, i);
    count--;
    break;
  }
  descend(walk, hot, at, count, (zeroAbove * countOf(trees, hot)) / total, oneAbove, split);
  descend(walk, cold, at, count, (zeroAbove * countOf(trees, cold)) / total, 0, split);
}

function extend(
  { feature, zero, one, weight }: Paths,
  at: number,
  depth: number,
  z: number,
  o: number,
  f: number,
): void {
  feature[at + depth] = f;
  zero[at + depth] = z;
  one[at + depth] = o;
  weight[at + depth] = depth === 0 ? 1 : 0;
  for (let i = depth - 1; i >= 0; i--) {
    weight[at + i + 1] += (o * weight[at + i] * (i + 1)) / (depth + 1);
    weight[at + i] = (z * weight[at + i] * (depth - i)) / (depth + 1);
  }
}

/** Takes a feature out of the path again. */
function unwind({ feature, zero, one, weight }: Paths, at: number, depth: number, index: number): void {
  const o = one[at + index];
  const z = zero[at + index];
  let next = weight[at + depth];
  for (let i = depth - 1; i >= 0; i--) {
    if (o !== 0) {
      const kept = weight[at + i];
      weight[at + i] = (next * (depth + 1)) / ((i + 1) * o);
      next = kept - (weight[at + i] * z * (depth - i)) / (depth + 1);
    } else weight[at + i] = (weight[at + i] * (depth + 1)) / (z * (depth - i));
  }
  for (let i = at + index; i < at + depth; i++) {
    feature[i] = feature[i + 1];
    zero[i] = zero[i + 1];
    one[i] = one[i + 1];
  }
}

/** Sum of the weights that `unwind` would leave. */
function unwoundSum({ zero, one, weight }: Paths, at: number, depth: number, index: number): number {
  const o = one[at + index];
  const z = zero[at + index];
  let next = weight[at + depth];
  let total = 0;
  for (let i = depth - 1; i >= 0; i--) {
    if (o !== 0) {
      const own = (next * (depth + 1)) / ((i + 1) * o);
      total += own;
      next = weight[at + i] - own * z * ((depth - i) / (depth + 1));
    } else total += weight[at + i] / (z * ((depth - i) / (depth + 1)));
  }
  return total;
}
