import { describe, expect, test } from "vitest";
import { parseFailedBatch } from "../../../adapters/mapping/failed-batches.ts";
import { failureObject } from "../../harness/mapping-protocol.ts";

const ARN = "arn:aws:kinesis:us-east-1:000000000000:stream/freshet-local-transactions";
const record = (sequence: string, data: string) => ({
  ...{ shardId: "shardId-000000000001", sequence, partitionKey: "c", arrivalMs: 1_794_000_000_123 },
  data: Buffer.from(data),
});
const written = (records = [record("49", "a"), record("50", "b")]) =>
  failureObject({
    ...{ records, streamArn: ARN, functionArn: "arn:f", mappingId: "m", condition: "RecordAgeExceeded" as const },
    ...{ invocations: 3, nowMs: 1_794_000_900_000 },
  }).body;
const NOW = 1_794_000_950_000;

describe("an object of the failure destination", () => {
  test("gives the batch back: its stream, its shard, every record with the arrival to the millisecond", () => {
    expect(parseFailedBatch(JSON.stringify(written()), NOW)).toEqual([
      {
        stream: ARN,
        shard: "shardId-000000000001",
        records: [
          { sequence: "49", arrivalMs: 1_794_000_000_123, bytes: Buffer.from("a") },
          { sequence: "50", arrivalMs: 1_794_000_000_123, bytes: Buffer.from("b") },
        ],
      },
    ]);
  });

  test("may hold its event as an object, too", () => {
    const { payload, ...rest } = written();
    const [run] = parseFailedBatch(JSON.stringify({ ...rest, payload: JSON.parse(payload) }), NOW);
    expect(run.records).toHaveLength(2);
  });

  test("of Kafka, it may hold several partitions", () => {
    const one = { topic: "tx", timestamp: 1_794_000_000_123, timestampType: "LOG_APPEND_TIME", key: "Yw==" };
    const records = {
      "tx-0": [{ ...one, partition: 0, offset: 7, value: "YQ==" }],
      "tx-3": [{ ...one, partition: 3, offset: 9, value: "Yg==" }],
    };
    const { payload: _, ...rest } = written();
    const payload = JSON.stringify({ eventSource: "aws:kafka", eventSourceArn: "arn:c", records });
    const record = { arrivalMs: 1_794_000_000_123 };
    expect(parseFailedBatch(JSON.stringify({ ...rest, payload }), NOW)).toEqual([
      { stream: "tx", shard: "0", records: [{ ...record, sequence: "7", bytes: Buffer.from("a") }] },
      { stream: "tx", shard: "3", records: [{ ...record, sequence: "9", bytes: Buffer.from("b") }] },
    ]);
  });

  test.each([
    ["", "a failed batch is an invocation record of Lambda: the object is no JSON"],
    [
      JSON.stringify({ ...written(), payload: "{" }),
      "a failed batch is an invocation record of Lambda: its payload is no JSON",
    ],
    ["null", "a delivery is an event of Kinesis or Kafka: it has no records"],
    [
      JSON.stringify({ ...written(), payload: undefined }),
      "a delivery is an event of Kinesis or Kafka: it has no records",
    ],
  ])("is refused when it is none: %#", (text, why) => {
    expect(() => parseFailedBatch(text, NOW)).toThrow(why);
  });
});
