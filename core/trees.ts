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
  let base = 0;
  for (let t = 0; t < trees.roots.length; t++) {
    const root = trees.roots[t];
    base += root < 0 ? trees.leafValue[-root - 1] : means[root];
    if (root >= 0) descend(trees, vector, contributions, root, [], 1, 1, -1);
  }
  return { base, contributions };
}

/** One feature of the path: shares of training rows and of this vector that go on when it is unknown (zero) or known (one). */
interface Step {
  readonly feature: number;
  readonly zero: number;
  readonly one: number;
  /** Weight of the subsets with as many features as this position. */
  weight: number;
}

function descend(
  trees: Trees,
  vector: ArrayLike<number>,
  contributions: Float64Array,
  ref: number,
  before: readonly Step[],
  zero: number,
  one: number,
  feature: number,
): void {
  const path = extend(before, zero, one, feature);
  if (ref < 0) {
    const value = trees.leafValue[-ref - 1];
    for (let i = 1; i < path.length; i++) {
      contributions[path[i].feature] += unwoundSum(path, i) * (path[i].one - path[i].zero) * value;
    }
    return;
  }
  const split = trees.feature[ref];
  const isLeft = goesLeft(trees, ref, vector);
  const hot = isLeft ? trees.left[ref] : trees.right[ref];
  const cold = isLeft ? trees.right[ref] : trees.left[ref];
  const total = countOf(trees, ref);
  let above = { zero: 1, one: 1 };
  let rest = path;
  const seen = path.findIndex((step, i) => i > 0 && step.feature === split);
  if (seen > 0) {
    above = path[seen];
    rest = unwind(path, seen);
  }
  const share = (child: number) => (above.zero * countOf(trees, child)) / total;
  descend(trees, vector, contributions, hot, rest, share(hot), above.one, split);
  descend(trees, vector, contributions, cold, rest, share(cold), 0, split);
}

function extend(before: readonly Step[], zero: number, one: number, feature: number): Step[] {
  const depth = before.length;
  const path = before.map((step) => ({ ...step }));
  path.push({ feature, zero, one, weight: depth === 0 ? 1 : 0 });
  for (let i = depth - 1; i >= 0; i--) {
    path[i + 1].weight += (one * path[i].weight * (i + 1)) / (depth + 1);
    path[i].weight = (zero * path[i].weight * (depth - i)) / (depth + 1);
  }
  return path;
}

/** Takes a feature out of the path again. */
function unwind(path: readonly Step[], index: number): Step[] {
  const depth = path.length - 1;
  const { one, zero } = path[index];
  const weights = path.map(({ weight }) => weight);
  let next = weights[depth];
  for (let i = depth - 1; i >= 0; i--) {
    if (one !== 0) {
      const kept = weights[i];
      weights[i] = (next * (depth + 1)) / ((i + 1) * one);
      next = kept - (weights[i] * zero * (depth - i)) / (depth + 1);
    } else weights[i] = (weights[i] * (depth + 1)) / (zero * (depth - i));
  }
  return path.filter((_, i) => i !== index).map((step, i) => ({ ...step, weight: weights[i] }));
}

/** Sum of the weights that `unwind` would leave. */
function unwoundSum(path: readonly Step[], index: number): number {
  const depth = path.length - 1;
  const { one, zero } = path[index];
  let next = path[depth].weight;
  let total = 0;
  for (let i = depth - 1; i >= 0; i--) {
    if (one !== 0) {
      const weight = (next * (depth + 1)) / ((i + 1) * one);
      total += weight;
      next = path[i].weight - weight * zero * ((depth - i) / (depth + 1));
    } else total += path[i].weight / (zero * ((depth - i) / (depth + 1)));
  }
  return total;
}
