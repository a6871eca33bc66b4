import { expect, test } from "vitest";
import { historyRows } from "../../cli/status-table.ts";

test("a view without its history is named with what it has, and how it gets the rest", () => {
  const view = { view: "cards", stream: "payments", bucketsReady: 0, sinceMs: Date.UTC(2026, 0, 5, 9) };
  expect(historyRows([view, { ...view, bucketsReady: 700 }, { ...view, sinceMs: null }])).toEqual([
    ["history of cards", "from 2026-01-05T09:00:00.000Z on: freshet backfill --view cards"],
    [
      "history of cards",
      "from 2026-01-05T09:00:00.000Z on, 700 of 1024 buckets complete: freshet backfill --view cards",
    ],
    ["history of cards", "slots that are not born yet: freshet backfill --view cards"],
  ]);
  expect(historyRows([])).toEqual([["history", "complete"]]);
  expect(historyRows(null)).toEqual([["history", "-"]]);
});
