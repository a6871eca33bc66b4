import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { feastTime, parseTime } from "../../../../functions/api/feast/times.ts";
import { runs } from "../../../support/runs.ts";

describe("times as Feast's clients write them", () => {
  it.each([
    ["2026-01-31T10:00:00Z", "2026-01-31T10:00:00.000Z"],
    ["2026-01-31T10:00:00", "2026-01-31T10:00:00.000Z"],
    ["2026-01-31 10:00:00+00:00", "2026-01-31T10:00:00.000Z"],
    ["2026-01-31 10:00:00.123456+0200", "2026-01-31T08:00:00.123Z"],
    ["2026-01-31T10:00:00.123456789-05", "2026-01-31T15:00:00.123Z"],
    ["2026-01-31 10:00", "2026-01-31T10:00:00.000Z"],
    ["2026-01-31", "2026-01-31T00:00:00.000Z"],
  ])("%s is %s", (given, wanted) => {
    expect(new Date(parseTime(given, "t")).toISOString()).toBe(wanted);
  });

  it.each([
    "",
    "yesterday",
    "2026-02-30T10:00:00",
    "2026-01-31T25:00:00",
    "2026-01-31T10:00:00+2",
    "31.01.2026",
    null,
    1,
    {},
  ])("%j is refused", (given) => {
    expect(() => parseTime(given, "t")).toThrow(/^t is a time, given /);
  });
});

it("times are written with three digits or none", () => {
  const whole = Date.UTC(2026, 0, 31, 10);
  expect([whole, whole + 120, null].map(feastTime)).toEqual([
    '"2026-01-31T10:00:00Z"',
    '"2026-01-31T10:00:00.120Z"',
    '"1970-01-01T00:00:00Z"',
  ]);
});

it("a time is written as Date writes it, without a fraction of nothing", () => {
  const years = {
    min: new Date("0000-01-01T00:00:00Z"),
    max: new Date("9999-12-31T23:59:59.999Z"),
    noInvalidDate: true,
  };
  const whole = fc.date(years).map((date) => date.getTime() - (date.getTime() % 1_000));
  const time = fc.oneof(
    fc.date(years).map((date) => date.getTime()),
    whole,
    fc.constantFrom(0, -1, 86_399_999, 86_400_000),
  );
  fc.assert(
    fc.property(time, (ms) => {
      expect(feastTime(ms)).toBe(JSON.stringify(new Date(ms).toISOString().replace(".000Z", "Z")));
    }),
    { numRuns: runs(300) },
  );
  expect(feastTime(null)).toBe('"1970-01-01T00:00:00Z"');
});
