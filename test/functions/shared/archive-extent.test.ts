import { expect, test } from "vitest";
import { archiveBeginsMs } from "../../../functions/shared/archive-extent.ts";

const DAY = 86_400_000;
const NOW = Date.UTC(2026, 10, 21);

test("an archive that keeps everything is whole, however old its stream", () => {
  expect(archiveBeginsMs(NOW - 4_000 * DAY, null, NOW)).toBe(0);
});

test("an archive with retention is whole until its stream is that old, less two days, and begins there afterwards", () => {
  expect(archiveBeginsMs(NOW - 397 * DAY, 400, NOW)).toBe(0);
  expect(archiveBeginsMs(NOW - 398 * DAY, 400, NOW)).toBe(NOW - 398 * DAY);
  expect(archiveBeginsMs(NOW - 900 * DAY, 400, NOW)).toBe(NOW - 398 * DAY);
});
