/** LightGBM's own answers are the oracle: `make_contributions.py` has written them. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readSidecar } from "../../../adapters/model/manifest.ts";
import {
  goesLeft,
  nodeMeans,
  pathContributions,
  shapContributions,
  sumOfLeaves,
  type Trees,
} from "../../../core/scoring/trees.ts";
import { runs } from "../../support/runs.ts";

const fixture = JSON.parse(
  readFileSync(join(import.meta.dirname, "..", "..", "fixtures", "models", "contributions.json"), "utf8"),
);
const FEATURES = 7;
const { trees } = readSidecar(Buffer.from(JSON.stringify(fixture.trees)), FEATURES);
const means = nodeMeans(trees);
const rows: Float64Array[] = fixture.rows.map((row: (number | null)[]) =>
  Float64Array.from(row, (value) => value ?? Number.NaN),
);
const sum = (values: Iterable<number>) => [...values].reduce((total, one) => total + one, 0);

describe("against LightGBM", () => {
  it("the fixture holds what is hard: nulls, categorical splits, unseen categories", () => {
    expect(rows.flatMap((row) => [...row]).some(Number.isNaN)).toBe(true);
    expect(trees.categories.filter((members) => members !== null).length).toBeGreaterThan(5);
    expect(rows.map((row) => row[3])).toEqual(expect.arrayContaining([-1, 9, 1000]));
  });

  it("the sum of leaves is its raw score, to the last bit", () => {
    expect(rows.map((row) => sumOfLeaves(trees, row))).toEqual(fixture.raw);
  });

  it("TreeSHAP is its pred_contrib within 1e-12, base included", () => {
    rows.forEach((row, i) => {
      const { base, contributions } = shapContributions(trees, means, row);
      const wanted: number[] = fixture.contributions[i];
      expect(Math.abs(base - wanted[FEATURES])).toBeLessThan(1e-12);
      for (const [i, one] of contributions.entries()) expect(Math.abs(one - wanted[i])).toBeLessThan(1e-12);
    });
  });

  it("both methods start at the same base and add up to the raw score", () => {
    rows.forEach((row, i) => {
      for (const explain of [pathContributions, shapContributions]) {
        const { base, contributions } = explain(trees, means, row);
        expect(Math.abs(base - fixture.contributions[i][FEATURES])).toBeLessThan(1e-12);
        expect(Math.abs(base + sum(contributions) - fixture.raw[i])).toBeLessThan(1e-12);
      }
    });
  });
});

/** Random small ensembles: features repeat along a path, a tree may be one leaf. */
const ensemble = fc
  .record({
    depth: fc.integer({ min: 0, max: 3 }),
    numbers: fc.infiniteStream(fc.integer({ min: 1, max: 9 })),
    trees: fc.integer({ min: 1, max: 3 }),
  })
  .map(({ depth, numbers, trees: count }): Trees => {
    const next = () => numbers.next().value as number;
    const columns = { feature: [] as number[], threshold: [] as number[], nanLeft: [] as number[] };
    const children = { left: [] as number[], right: [] as number[], nodeCount: [] as number[] };
    const leaves = { leafValue: [] as number[], leafCount: [] as number[] };
    const grow = (left: number): { ref: number; count: number } => {
      if (left === 0) {
        leaves.leafValue.push(next() - 5);
        leaves.leafCount.push(next());
        return { ref: -leaves.leafValue.length, count: leaves.leafCount.at(-1)! };
      }
      const node = columns.feature.push(next() % 3) - 1;
      columns.threshold.push(next());
      columns.nanLeft.push(next() % 2);
      children.left.push(0);
      children.right.push(0);
      children.nodeCount.push(0);
      const [a, b] = [grow(left - 1), grow(left - 1)];
      children.left[node] = a.ref;
      children.right[node] = b.ref;
      children.nodeCount[node] = a.count + b.count;
      return { ref: node, count: a.count + b.count };
    };
    const roots = Array.from({ length: count }, () => grow(depth).ref);
    return { featureCount: 3, roots, ...columns, ...children, ...leaves, categories: columns.feature.map(() => null) };
  });

/** Expectation when only the features of `known` are: the definition, one subset at a time. */
function expectation(given: Trees, vector: Float64Array, known: ReadonlySet<number>): number {
  const count = (ref: number) => (ref < 0 ? given.leafCount[-ref - 1] : given.nodeCount[ref]);
  const visit = (ref: number): number => {
    if (ref < 0) return given.leafValue[-ref - 1];
    const [l, r] = [given.left[ref], given.right[ref]];
    if (known.has(given.feature[ref])) return visit(goesLeft(given, ref, vector) ? l : r);
    return (visit(l) * count(l) + visit(r) * count(r)) / count(ref);
  };
  return sum(Array.from(given.roots, visit));
}

describe("against the definition", () => {
  it("TreeSHAP is the mean over all orders of features", () => {
    const orders = [
      [0, 1, 2],
      [0, 2, 1],
      [1, 0, 2],
      [1, 2, 0],
      [2, 0, 1],
      [2, 1, 0],
    ];
    const vectors = fc.array(fc.oneof(fc.integer({ min: 0, max: 10 }), fc.constant(Number.NaN)), {
      minLength: 3,
      maxLength: 3,
    });
    fc.assert(
      fc.property(ensemble, vectors, (given, values) => {
        const vector = Float64Array.from(values);
        const wanted = [0, 0, 0];
        for (const order of orders) {
          const known = new Set<number>();
          for (const feature of order) {
            const before = expectation(given, vector, known);
            known.add(feature);
            wanted[feature] += (expectation(given, vector, known) - before) / orders.length;
          }
        }
        const { base, contributions } = shapContributions(given, nodeMeans(given), vector);
        expect(base).toBeCloseTo(expectation(given, vector, new Set()), 9);
        for (const [feature, one] of contributions.entries()) expect(one).toBeCloseTo(wanted[feature], 9);
      }),
      { numRuns: runs(200) },
    );
  });
});
