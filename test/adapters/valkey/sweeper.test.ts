import { describe, expect, it } from "vitest";
import { hasWork } from "../../../adapters/valkey/sweeper.ts";
import { plan } from "../../support/fixture-plan.ts";

const MINUTE = 60_000;
const DAY = 1_440 * MINUTE;

describe("hasWork", () => {
  const [group] = plan.groups;
  const meta = (folded: number, newest: number) => ({ rev: 1, folded: folded / MINUTE, newest: [newest] });
  const midnight = Date.UTC(2026, 0, 6);

  it.each([
    ["nothing below the seal", meta(midnight, midnight + 5 * MINUTE), 9, midnight, false],
    ["an open tile is passed", meta(midnight, midnight + 5 * MINUTE), 9, midnight + 30 * MINUTE, true],
    [
      "no level's frontier is passed",
      meta(midnight + 12 * MINUTE, midnight + 9 * MINUTE),
      9,
      midnight + 14 * MINUTE,
      false,
    ],
    ["an hour is full", meta(midnight + 30 * MINUTE, midnight + 9 * MINUTE), 9, midnight + 61 * MINUTE, true],
    ["a day is full", meta(midnight + 90 * MINUTE, midnight + 9 * MINUTE), 9, midnight + DAY, true],
    [
      "all is folded, and too little time passed to prune",
      meta(midnight + DAY, midnight),
      99,
      midnight + 2 * DAY - MINUTE,
      false,
    ],
    ["all is folded, and a day has passed", meta(midnight + DAY, midnight), 99, midnight + 2 * DAY, true],
    ["only what lasts is left", meta(midnight + DAY, midnight), 3, midnight + 9 * DAY, false],
    ["one field more than what lasts", meta(midnight + DAY, midnight), 4, midnight + 9 * DAY, true],
  ])("%s", (_, of, fields, sealMs, expected) => {
    expect(hasWork(group, of, fields, sealMs)).toBe(expected);
  });
});
