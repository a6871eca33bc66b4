import { describe, expect, test } from "vitest";
import { deliveredRuns } from "../../../adapters/mapping/delivery.ts";
import { kinesisEvent } from "../../harness/mapping-protocol.ts";

const NOW = 1_794_000_950_000;
const ARRIVAL = 1_794_000_000_123;
const ARN = "arn:aws:kinesis:us-east-1:000000000000:stream/tx";
const RULE = "a delivery is an event of Kinesis or Kafka: it ";

describe("an event of Kinesis", () => {
  const record = (sequence: string, data: string) => ({
    ...{ shardId: "shardId-000000000001", sequence, partitionKey: "c", arrivalMs: ARRIVAL, data: Buffer.from(data) },
  });
  const event = () => kinesisEvent(ARN, [record("49", "a"), record("50", "b")]) as any;
  const changed = (change: (record: any) => void) => {
    const given = event();
    for (const one of given.Records) change(one);
    return given;
  };

  test("is one run: its stream, its shard, every record with the arrival to the millisecond", () => {
    expect(deliveredRuns(event(), NOW)).toEqual([
      {
        stream: ARN,
        shard: "shardId-000000000001",
        records: [
          { sequence: "49", arrivalMs: ARRIVAL, bytes: Buffer.from("a") },
          { sequence: "50", arrivalMs: ARRIVAL, bytes: Buffer.from("b") },
        ],
      },
    ]);
  });

  test.each([
    [null, "has no records"],
    [{}, "has no records"],
    [{ Records: [] }, "has no records"],
    [{ Records: [null] }, "has a record 0 that is none of Kinesis"],
    [changed((one) => delete one.kinesis.data), "has a record 0 that is none of Kinesis"],
    [changed((one) => delete one.kinesis.approximateArrivalTimestamp), "has a record 0 that is none of Kinesis"],
    [changed((one) => delete one.eventID), "has records that do not name stream and shard"],
    [
      changed((one) => {
        if (one.kinesis.sequenceNumber === "50") one.eventID = "shardId-000000000002:50";
      }),
      "has records of several shards",
    ],
  ])("is refused when it is none: %#", (given, why) => {
    expect(() => deliveredRuns(given, NOW)).toThrow(RULE + why);
  });
});

describe.each(["aws:kafka", "SelfManagedKafka"])("an event of %s", (eventSource) => {
  const record = (partition: number, offset: number, change: object = {}) => ({
    ...{ topic: "tx-of-cards", partition, offset, timestamp: ARRIVAL, timestampType: "LOG_APPEND_TIME" },
    ...{ key: "Yw==", value: "YQ==", headers: [] },
    ...change,
  });
  const event = (records: object) => ({ eventSource, bootstrapServers: "b:9092", records });
  const read = (change: object) => deliveredRuns(event({ "tx-of-cards-0": [record(0, 7, change)] }), NOW)[0].records[0];

  test("is a run for each partition, in the order of its offsets", () => {
    const records = {
      "tx-of-cards-0": [record(0, 7), record(0, 9)],
      "tx-of-cards-12": [record(12, 3)],
      "tx-of-cards-4": [],
    };
    const given = { arrivalMs: ARRIVAL, bytes: Buffer.from("a") };
    expect(deliveredRuns(event(records), NOW)).toEqual([
      {
        stream: "tx-of-cards",
        shard: "0",
        records: [
          { ...given, sequence: "7" },
          { ...given, sequence: "9" },
        ],
      },
      { stream: "tx-of-cards", shard: "12", records: [{ ...given, sequence: "3" }] },
    ]);
  });

  test.each([null, undefined])("may hold a record whose value is %s: it has no bytes", (value) => {
    expect(read({ value })).toEqual({ sequence: "7", arrivalMs: ARRIVAL, bytes: Buffer.alloc(0) });
  });

  test("may name its schema in a header, whose bytes may be signed: they come before the body", () => {
    const guid = Array.from({ length: 16 }, (_, i) => i - 8);
    const headers = [{ trace: [1, 2] }, { __value_schema_id: [1, ...guid] }];
    expect(read({ headers }).bytes).toEqual(Buffer.from(`01${Buffer.from(guid).toString("hex")}61`, "hex"));
    expect(Buffer.from(guid)[0]).toBe(0xf8);
    for (const none of [null, [null], [{ __value_schema_id: null }], [{ __value_schema_id: [0, 0, 0, 0, 7] }]]) {
      expect(read({ headers: none }).bytes).toEqual(Buffer.from("a"));
    }
  });

  test.each([
    [{ timestampType: "CREATE_TIME" }],
    [{ timestampType: undefined }],
    [{ timestamp: undefined }],
    [{ timestamp: "yesterday" }],
  ])("a time that is not the broker's is no arrival: %j", (change) => {
    expect(read(change)).toEqual({ sequence: "7", arrivalMs: NOW, bytes: Buffer.from("a"), isArrivalUntrusted: true });
  });

  test.each([
    [{}, "has no records"],
    [{ "tx-0": [] }, "has no records"],
    [{ "tx-0": null }, "has a partition without a list of records"],
    [{ "tx-0": [null] }, "has a record 0 that is none of its partition of Kafka"],
    [{ "tx-0": [record(0, 7), record(1, 8)] }, "has a record 1 that is none of its partition of Kafka"],
    [
      { "tx-0": [record(0, 7), record(0, 8, { topic: "other" })] },
      "has a record 1 that is none of its partition of Kafka",
    ],
    [{ "tx-0": [record(0, 7, { offset: "7" })] }, "has a record 0 that is none of its partition of Kafka"],
    [{ "tx-0": [record(0, 7, { partition: undefined })] }, "has a record 0 that is none of its partition of Kafka"],
  ])("is refused when it is none: %#", (records, why) => {
    expect(() => deliveredRuns(event(records), NOW)).toThrow(RULE + why);
  });
});
