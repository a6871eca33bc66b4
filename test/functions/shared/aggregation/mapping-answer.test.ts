import { expect, test } from "vitest";
import type { DeliveredRun } from "../../../../adapters/mapping/delivery.ts";
import { answerMapping } from "../../../../functions/shared/aggregation/mapping-answer.ts";

const run = (shard: string, ...sequences: string[]): DeliveredRun => ({
  ...{ stream: "tx-of-cards", shard },
  records: sequences.map((sequence) => ({ sequence, arrivalMs: 0, bytes: Buffer.alloc(0) })),
});
const RUNS = [run("0", "7", "8"), run("12", "41", "44"), run("3", "9")];
const done: PromiseSettledResult<void> = { status: "fulfilled", value: undefined };
const failed = (reason: string): PromiseSettledResult<void> => ({ status: "rejected", reason: new Error(reason) });

test("when all is applied, nothing is delivered again", () => {
  expect(answerMapping(RUNS, [done, done, done], true)).toEqual({ batchItemFailures: [] });
  expect(answerMapping(RUNS, [done, done, done], false)).toEqual({ batchItemFailures: [] });
});

test("a partition that failed is delivered again from its first offset, by a mapping that takes a partial answer", () => {
  expect(answerMapping(RUNS, [done, failed("a"), failed("b")], true)).toEqual({
    batchItemFailures: [
      { itemIdentifier: { partition: "tx-of-cards-12", offset: 41 } },
      { itemIdentifier: { partition: "tx-of-cards-3", offset: 9 } },
    ],
  });
});

test("any other mapping gets no answer that it would take for success", () => {
  expect(() => answerMapping(RUNS, [done, failed("a"), done], false)).toThrow("a");
});

test("when everything failed, the invocation has failed", () => {
  expect(() => answerMapping(RUNS, [failed("a"), failed("b"), failed("c")], true)).toThrow("a");
  expect(() => answerMapping(RUNS.slice(0, 1), [failed("a")], true)).toThrow("a");
});
