import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Ceiling } from "../../../local/generator/ceiling.ts";

type Case = { readonly p: number; readonly fraud: boolean };

/** By definition: the share of pairs that are ranked right, ties by half. */
function pairs(cases: readonly Case[]): number {
  let won = 0;
  let all = 0;
  for (const bad of cases.filter(({ fraud }) => fraud)) {
    for (const good of cases.filter(({ fraud }) => !fraud)) {
      all++;
      won += bad.p > good.p ? 1 : bad.p === good.p ? 0.5 : 0;
    }
  }
  return won / all;
}

/** By definition: the mean over frauds of the precision among all that score as high. */
function averagePrecision(cases: readonly Case[]): number {
  const frauds = cases.filter(({ fraud }) => fraud);
  const precision = ({ p }: Case): number => {
    const alarms = cases.filter((each) => each.p >= p);
    return alarms.filter(({ fraud }) => fraud).length / alarms.length;
  };
  return frauds.map(precision).reduce((a, b) => a + b, 0) / frauds.length;
}

const best = (cases: readonly Case[]) => {
  const ceiling = new Ceiling();
  for (const { p, fraud } of cases) ceiling.add(p, fraud);
  return ceiling.best();
};

describe("the best possible score", () => {
  test("is measured as the definitions have it", () => {
    // Few and distant values, so that no two fall into one bin unless they are equal.
    const some = fc.array(
      fc.record({ p: fc.constantFrom(1e-5, 0.001, 0.01, 0.1, 0.3, 0.5, 0.9, 0.99), fraud: fc.boolean() }),
      { minLength: 2, maxLength: 60 },
    );
    fc.assert(
      fc.property(some, (drawn) => {
        fc.pre(drawn.some(({ fraud }) => fraud) && drawn.some(({ fraud }) => !fraud));
        const { rocAuc, prAuc, cases, positives } = best(drawn);
        expect(rocAuc).toBeCloseTo(pairs(drawn), 10);
        expect(prAuc).toBeCloseTo(averagePrecision(drawn), 10);
        expect([cases, positives]).toEqual([drawn.length, drawn.filter(({ fraud }) => fraud).length]);
      }),
      { seed: 7 },
    );
  });

  test("has no value with one kind alone", () => {
    expect(best([{ p: 0.5, fraud: true }])).toEqual({ cases: 1, positives: 1, rocAuc: null, prAuc: null });
    expect(best([])).toEqual({ cases: 0, positives: 0, rocAuc: null, prAuc: null });
  });
});
