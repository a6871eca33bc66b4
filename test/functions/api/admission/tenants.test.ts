import { describe, expect, it } from "vitest";
import { checkLimit, checkLimits } from "../../../../functions/api/admission/tenants.ts";

describe("limits", () => {
  it("are taken as they are, without a bound of the day where none is given", () => {
    expect(checkLimits({ score: { perSecond: 0.5, burst: 1 } })).toEqual({
      score: { perSecond: 0.5, burst: 1, perDay: null },
    });
    expect(checkLimits(null)).toEqual({});
  });

  it.each([
    [{ perSecond: 0, burst: 1 }, "score: perSecond is above 0 and at most 1000000, given 0"],
    [{ perSecond: Number.NaN, burst: 1 }, "score: perSecond is above 0 and at most 1000000, given null"],
    [{ perSecond: 2_000_000, burst: 1 }, "score: perSecond is above 0 and at most 1000000, given 2000000"],
    [{ perSecond: 1 }, "score: burst is a whole number from 1, given nothing"],
    [{ perSecond: 1, burst: 0.5 }, "score: burst is a whole number from 1, given 0.5"],
    [{ perSecond: 1, burst: 1, perDay: 0 }, "score: perDay is a whole number from 1, or null, given 0"],
    [null, "score: perSecond is above 0 and at most 1000000, given nothing"],
  ])("%j is refused", (given, message) => {
    expect(() => checkLimit(given, "score")).toThrow(message);
  });

  it("of a class that there is not are refused", () => {
    expect(() => checkLimits({ scores: { perSecond: 1, burst: 1 } })).toThrow("no route class is named scores");
  });
});
