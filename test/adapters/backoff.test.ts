import { expect, test } from "vitest";
import { backoffMs } from "../../adapters/backoff.ts";

const PAUSE = { firstMs: 50, longestMs: 800 };

test("the bound of a pause doubles from the first to the longest", () => {
  const bounds = [1, 2, 3, 4, 5, 6, 2_000].map((attempt) => backoffMs(attempt, PAUSE, () => 1));
  expect(bounds).toEqual([50, 100, 200, 400, 800, 800, 800]);
});

test("a pause is anywhere below its bound", () => {
  expect([0, 0.25, 0.5].map((drawn) => backoffMs(3, PAUSE, () => drawn))).toEqual([0, 50, 100]);
});
