import { expect, it } from "vitest";
import type { Scorer } from "../../../../core/scoring/scoring.ts";
import { FeastNames } from "../../../../functions/api/feast/names.ts";
import { createCatalogue } from "../../../../functions/api/reading/selection.ts";
import { ridePlan } from "../../../support/feast-plan.ts";

/** Counts how often a name is looked at: never for a list that is kept. */
class CountedScorers extends Map<string, Scorer> {
  looks = 0;
  override get(name: string): Scorer | undefined {
    this.looks++;
    return super.get(name);
  }
}

const setUp = () => {
  const scorers = new CountedScorers();
  return { scorers, names: new FeastNames({ catalogue: createCatalogue(ridePlan), registered: null, scorers }) };
};

it("keeps lists of names that somebody has, and none of others, which callers make up without end", async () => {
  const { scorers, names } = setUp();
  const looksFor = async (list: readonly string[]) => {
    const before = scorers.looks;
    await Promise.resolve(names.features("team-a", list, false)).catch(() => {});
    return scorers.looks - before;
  };
  const known = ["driver_stats:conv_rate", "driver_stats:trips"];
  expect(await looksFor(known)).toBeGreaterThan(0);
  expect(await looksFor(known)).toBe(0);
  const unknown = ["driver_stats:nothing", "nowhere:at_all"];
  const first = await looksFor(unknown);
  expect(first).toBeGreaterThan(0);
  expect(await looksFor(unknown)).toBe(first);
});

it("looks at no name of a list that is too long", async () => {
  const { scorers, names } = setUp();
  const list = new Array(501).fill("driver_stats:trips");
  expect(() => names.features("team-a", list, false)).toThrow("a request names at most 500 features, given 501");
  expect(scorers.looks).toBe(0);
});
