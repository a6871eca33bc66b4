import { expect, it } from "vitest";
import { sparing } from "../../../functions/api/observability/sparing.ts";

it("a fault of each call is a line a second of each kind, which tells how many were left out", () => {
  const lines: unknown[] = [];
  let nowMs = 1_000_000;
  const spare = sparing(
    (message, details, error) => lines.push([message, details, error]),
    () => nowMs,
  );
  const fault = new Error("down");
  for (let i = 0; i < 500; i++) {
    spare("fraud store_unavailable", "score degraded", { requestId: `r${i}` }, fault);
    nowMs += 3;
  }
  spare("fraud model_failed", "score degraded", { requestId: "m" });
  expect(lines).toEqual([
    ["score degraded", { requestId: "r0" }, fault],
    ["score degraded", { requestId: "r334", unsaid: 333 }, fault],
    ["score degraded", { requestId: "m" }, undefined],
  ]);
  // It was set back: what comes is told, and not kept until then.
  nowMs -= 3_600_000;
  spare("fraud store_unavailable", "score degraded", { requestId: "back" }, fault);
  expect(lines).toHaveLength(4);
});
