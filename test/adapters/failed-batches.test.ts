import { describe, expect, test } from "vitest";
import { parseFailedBatch } from "../../adapters/failed-batches.ts";
import { failureObject } from "../harness/mapping-protocol.ts";

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
const changed = (change: (record: any) => void): string => {
  const body = written();
  const event = JSON.parse(body.payload);
  for (const one of event.Records) change(one);
  return JSON.stringify({ ...body, payload: JSON.stringify(event) });
};

describe("an object of the failure destination", () => {
  test("gives the batch back: its stream, its shard, every record with the arrival to the millisecond", () => {
    expect(parseFailedBatch(JSON.stringify(written()))).toEqual({
      streamArn: ARN,
      shard: "shardId-000000000001",
      records: [
        { sequence: "49", arrivalMs: 1_794_000_000_123, bytes: Buffer.from("a") },
        { sequence: "50", arrivalMs: 1_794_000_000_123, bytes: Buffer.from("b") },
      ],
    });
  });

  test("may hold its event as an object, too", () => {
    const { payload, ...rest } = written();
    expect(parseFailedBatch(JSON.stringify({ ...rest, payload: JSON.parse(payload) })).records).toHaveLength(2);
  });

  test.each([
    ["", "the object is no JSON"],
    ["null", "its payload has no records"],
    [JSON.stringify({ ...written(), payload: undefined }), "its payload has no records"],
    [JSON.stringify({ ...written(), payload: "{" }), "its payload is no JSON"],
    [JSON.stringify({ ...written(), payload: '{"Records":[]}' }), "its payload has no records"],
    [JSON.stringify({ ...written(), payload: '{"Records":[null]}' }), "record 0 is none of Kinesis"],
    [changed((one) => delete one.kinesis.data), "record 0 is none of Kinesis"],
    [changed((one) => delete one.kinesis.approximateArrivalTimestamp), "record 0 is none of Kinesis"],
    [changed((one) => delete one.eventID), "its records do not name stream and shard"],
    [
      changed((one) => {
        if (one.kinesis.sequenceNumber === "50") one.eventID = "shardId-000000000002:50";
      }),
      "its records are of several shards",
    ],
  ])("is refused when it is none: %#", (text, why) => {
    expect(() => parseFailedBatch(text)).toThrow(`a failed batch is an invocation record of Lambda: ${why}`);
  });
});
