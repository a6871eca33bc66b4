import { describe, expect, it } from "vitest";
import type { TopicRecord } from "../../../adapters/kafka/records.ts";
import { doneOf, kafkaEvent } from "../../../functions/mapping/event.ts";

const record = (offset: bigint, value: string | null): TopicRecord => ({
  offset,
  timestampMs: 1_545_084_650_987,
  timestampType: "LOG_APPEND_TIME",
  key: Buffer.from("card"),
  value: value === null ? null : Buffer.from(value),
  headers: [[Buffer.from("trace"), Buffer.from([1, 255])]],
});
const records = [record(15n, "Hello, this is a test."), record(16n, null), record(19n, "x")];

it("the event is the documented one of a self-managed Kafka", () => {
  expect(kafkaEvent("b-1:9092,b-2:9092", "payments", 3, records.slice(0, 2))).toEqual({
    eventSource: "SelfManagedKafka",
    bootstrapServers: "b-1:9092,b-2:9092",
    records: {
      "payments-3": [
        {
          topic: "payments",
          partition: 3,
          offset: 15,
          timestamp: 1_545_084_650_987,
          timestampType: "LOG_APPEND_TIME",
          key: "Y2FyZA==",
          value: "SGVsbG8sIHRoaXMgaXMgYSB0ZXN0Lg==",
          headers: [{ trace: [1, 255] }],
        },
        {
          topic: "payments",
          partition: 3,
          offset: 16,
          timestamp: 1_545_084_650_987,
          timestampType: "LOG_APPEND_TIME",
          key: "Y2FyZA==",
          headers: [{ trace: [1, 255] }],
        },
      ],
    },
  });
});

describe("an answer", () => {
  const failing = (...offsets: unknown[]) => ({
    batchItemFailures: offsets.map((offset) => ({ itemIdentifier: { partition: "payments-3", offset } })),
  });

  it.each([
    ["nothing", undefined],
    ["null", null],
    ["an object that names no failures", {}],
    ["no failures", { batchItemFailures: [] }],
    ["failures that are null", { batchItemFailures: null }],
  ])("of %s acknowledges the batch", (_, answer) => {
    expect(doneOf(answer, records)).toBe(3);
  });

  it.each([
    [failing(15), 0],
    [failing(16), 1],
    [failing(19), 2],
    [failing(19, 16), 1],
  ])("%j acknowledges what comes before", (answer, done) => {
    expect(doneOf(answer, records)).toBe(done);
  });

  it.each([
    ["text", "ok"],
    ["an offset that is not of the batch", failing(17)],
    ["an offset as text", failing("16")],
    ["failures that are no list", { batchItemFailures: "none" }],
    ["a failure without a name", { batchItemFailures: [{}] }],
    ["a failure that is null", { batchItemFailures: [null] }],
  ])("that is not understood acknowledges nothing: %s", (_, answer) => {
    expect(doneOf(answer, records)).toBe(0);
  });
});
