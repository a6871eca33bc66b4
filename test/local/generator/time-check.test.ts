import { describe, expect, it } from "vitest";
import type { FreshetError } from "../../../core/errors.ts";
import { checkTimes } from "../../../local/generator/time-check.ts";

const MINUTE = 60_000;
const DAY = 86_400_000;
const NOW = Date.UTC(2026, 10, 21, 12);
const SEAL = NOW - 12 * MINUTE;

const told = (fromMs: number, toMs: number): string => {
  try {
    checkTimes({ fromMs, toMs }, NOW, SEAL);
    return "sent";
  } catch (error) {
    const { code, field, message, repair } = error as FreshetError;
    return `${code} ${field}: ${message}; ${repair}`;
  }
};

describe("simulated times that a stream would not take in", () => {
  it.each([
    [SEAL, NOW],
    [NOW - 5 * MINUTE, NOW + MINUTE],
  ])("from %d to %d are sent", (from, to) => {
    expect(told(from, to)).toBe("sent");
  });

  it("ahead of now are refused, with a repair", () => {
    expect(told(NOW, NOW + 3 * DAY)).toMatch(
      /^times_invalid --to: --to lies 3d ahead: .* 1m ahead .* quarantined; use --sink file --out FILE .* --anyway/,
    );
  });

  it("below the seal are refused, with how much of them", () => {
    expect(told(NOW - 30 * DAY, NOW - 20 * DAY)).toMatch(/^times_invalid --from: all of the range .*, 12m ago: .*late/);
    expect(told(NOW - 24 * MINUTE, NOW)).toMatch(/50 % of the range/);
    expect(told(SEAL - 1, NOW)).toMatch(/: 1 % of the range/);
  });
});
