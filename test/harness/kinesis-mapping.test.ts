/** The documented rules by which Lambda's Kinesis mapping cuts, orders and starts batches, one test each. */
import { describe, expect, test } from "vitest";
import { settingsOf } from "./mapping-settings.ts";
import { failing, START, setup } from "./toy-mapping.ts";

describe("delivery", () => {
  test("the event has AWS's shape", async () => {
    let seen: any;
    let context: any;
    const { put, mapping, clock } = setup({
      handler: (_, event, given) => {
        seen = event;
        context = given;
      },
    });
    clock.advance(7);
    const record = put("hello", "card-1");
    await mapping.run();
    expect(seen).toEqual({
      Records: [
        {
          kinesis: {
            kinesisSchemaVersion: "1.0",
            partitionKey: "card-1",
            sequenceNumber: record.sequence,
            data: Buffer.from("hello").toString("base64"),
            approximateArrivalTimestamp: 1_795_248_000.007,
          },
          eventSource: "aws:kinesis",
          eventVersion: "1.0",
          eventID: `shardId-000000000000:${record.sequence}`,
          eventName: "aws:kinesis:record",
          invokeIdentityArn: "arn:aws:iam::000000000000:role/aggregate",
          awsRegion: "us-east-1",
          eventSourceARN: "arn:aws:kinesis:us-east-1:000000000000:stream/transactions",
        },
      ],
    });
    expect(context.getRemainingTimeInMillis()).toBeGreaterThan(0);
    expect(context.awsRequestId).toMatch(/^[0-9a-f-]{36}$/);
  });

  test("batches hold at most batchSize records, in the shard's order, each once", async () => {
    const { putAll, mapping, calls } = setup({ settings: { batchSize: 2 } });
    putAll("1", "2", "3", "4", "5");
    await mapping.run();
    expect(calls).toEqual([["1", "2"], ["3", "4"], ["5"]]);
  });

  test("a batch's payload stays under 6 MB, and a record larger than that goes alone", async () => {
    const { stream, mapping, calls } = setup({ settings: { batchSize: 10_000 } });
    for (const mega of [3, 1, 2, 5, 1]) stream.put({ partitionKey: "k", data: Buffer.alloc(mega * 1_000_000, 97) });
    await mapping.run();
    expect(calls.map((texts) => texts.map((text) => text.length / 1_000_000))).toEqual([[3, 1], [2], [5], [1]]);
  });

  test("a batch that is not full waits for its window, a full one does not", async () => {
    const { putAll, mapping, calls, clock } = setup({ settings: { batchSize: 3, batchWindowMs: 5_000 } });
    putAll("1", "2", "3", "4");
    await mapping.run(() => calls.length === 1);
    expect([calls[0], clock.now() - START]).toEqual([["1", "2", "3"], 0]);
    await mapping.run();
    expect([calls[1], clock.now() - START]).toEqual([["4"], 5_000]);
  });

  test("TRIM_HORIZON reads what was sent before, LATEST only what comes after", async () => {
    const before = (put: (text: string) => void) => put("old");
    const horizon = setup({ before });
    horizon.put("new");
    await horizon.mapping.run();
    expect(horizon.calls.flat()).toEqual(["old", "new"]);
    const latest = setup({ before, settings: { startingPosition: "LATEST" } });
    latest.put("new");
    await latest.mapping.run();
    expect(latest.calls.flat()).toEqual(["new"]);
  });

  test("shards are served side by side: a stuck one holds back no other", async () => {
    const { stream, mapping, calls } = setup({ shards: 2, handler: failing("stuck") });
    const [a, b] = stream.openShards();
    stream.put({ partitionKey: "a", data: Buffer.from("stuck"), explicitHashKey: a!.startHash.toString() });
    stream.put({ partitionKey: "b", data: Buffer.from("fine"), explicitHashKey: b!.startHash.toString() });
    await mapping.run(() => calls.length >= 6);
    expect(calls.filter(([text]) => text === "fine")).toHaveLength(1);
  });
});

describe("parallelization factor", () => {
  test("keeps the order of each partition key, and of nothing more", async () => {
    const running = new Set<string>();
    let most = 0;
    const { put, mapping, calls } = setup({
      settings: { batchSize: 3, parallelizationFactor: 4 },
      handler: async (texts) => {
        for (const text of texts) running.add(text);
        most = Math.max(most, running.size);
        await new Promise((resolve) => setImmediate(resolve));
        for (const text of texts) running.delete(text);
      },
    });
    for (let i = 0; i < 200; i++) put(`${i % 20}:${i}`, `key-${i % 20}`);
    await mapping.run();
    const order = calls.flat();
    expect(order).toHaveLength(200);
    for (let key = 0; key < 20; key++) {
      const mine = order.filter((text) => text.startsWith(`${key}:`)).map((text) => Number(text.split(":")[1]));
      expect(mine).toEqual([...mine].sort((x, y) => x - y));
    }
    expect(order).not.toEqual([...order].sort((x, y) => Number(x.split(":")[1]) - Number(y.split(":")[1])));
    expect(most).toBeGreaterThan(3);
  });

  test("never runs two batches of one lane at once", async () => {
    const lanes = new Map<string, number>();
    let overlapped = false;
    const { put, mapping } = setup({
      settings: { batchSize: 2, parallelizationFactor: 3 },
      handler: async (_, event) => {
        for (const { kinesis } of event.Records) {
          lanes.set(kinesis.partitionKey, (lanes.get(kinesis.partitionKey) ?? 0) + 1);
        }
        await new Promise((resolve) => setImmediate(resolve));
        for (const { kinesis } of event.Records) {
          const others =
            lanes.get(kinesis.partitionKey)! -
            event.Records.filter((r: any) => r.kinesis.partitionKey === kinesis.partitionKey).length;
          if (others > 0) overlapped = true;
        }
        for (const { kinesis } of event.Records) lanes.set(kinesis.partitionKey, lanes.get(kinesis.partitionKey)! - 1);
      },
    });
    for (let i = 0; i < 60; i++) put(`${i}`, `key-${i % 5}`);
    await mapping.run();
    expect(mapping.invocations.length).toBeGreaterThan(10);
    expect(overlapped).toBe(false);
  });
});

describe("resharding", () => {
  test("children are read after their parents are done, not merely closed", async () => {
    const { stream, putAll, put, mapping, calls } = setup({ settings: { batchSize: 1 } });
    putAll("1", "2", "3");
    stream.split("shardId-000000000000");
    for (let i = 0; i < 6; i++) put(`child-${i}`, `key-${i}`);
    await mapping.run();
    expect(calls.slice(0, 3).flat()).toEqual(["1", "2", "3"]);
    expect(calls.slice(3).flat().sort()).toEqual(["child-0", "child-1", "child-2", "child-3", "child-4", "child-5"]);
  });

  test("a parent that fails holds its children back", async () => {
    const { stream, put, mapping, calls } = setup({ handler: failing("bad") });
    put("bad");
    stream.split("shardId-000000000000");
    put("child");
    await mapping.run(() => calls.length === 10);
    expect(calls.flat()).not.toContain("child");
  });

  test("the child of a merge waits for both parents", async () => {
    const { stream, mapping, calls } = setup({ shards: 2, handler: (texts) => texts, settings: { batchSize: 1 } });
    const [a, b] = stream.openShards();
    for (const [shard, text] of [
      [a, "a"],
      [b, "b1"],
      [b, "b2"],
    ] as const) {
      stream.put({ partitionKey: "k", data: Buffer.from(text), explicitHashKey: shard!.startHash.toString() });
    }
    stream.merge(a!.id, b!.id);
    stream.put({ partitionKey: "k", data: Buffer.from("child") });
    await mapping.run();
    expect(calls.at(-1)).toEqual(["child"]);
    expect(calls.flat().sort()).toEqual(["a", "b1", "b2", "child"]);
  });

  test("a shard that is split while records of it are being retried loses none", async () => {
    let broken = true;
    const { stream, put, mapping, calls } = setup({
      handler: () => {
        if (broken) throw new Error("store away");
      },
    });
    put("before");
    await mapping.run(() => calls.length === 2);
    stream.split("shardId-000000000000");
    put("after");
    broken = false;
    await mapping.run();
    expect(calls.slice(2)).toEqual([["before"], ["after"]]);
  });
});

describe("settings", () => {
  test("are read from a template's mapping", () => {
    expect(
      settingsOf({
        BatchSize: 1_000,
        MaximumBatchingWindowInSeconds: 1,
        ParallelizationFactor: 2,
        BisectBatchOnFunctionError: true,
        FunctionResponseTypes: ["ReportBatchItemFailures"],
        MaximumRetryAttempts: -1,
        MaximumRecordAgeInSeconds: 79_200,
        StartingPosition: "TRIM_HORIZON",
      }),
    ).toEqual({
      batchSize: 1_000,
      batchWindowMs: 1_000,
      parallelizationFactor: 2,
      bisectBatchOnFunctionError: true,
      reportBatchItemFailures: true,
      maximumRetryAttempts: -1,
      maximumRecordAgeMs: 79_200_000,
      startingPosition: "TRIM_HORIZON",
    });
  });

  test.each([
    [{ BatchSize: 10_001 }, "batchSize is 1 to 10000, given 10001"],
    [{ ParallelizationFactor: 11 }, "parallelizationFactor is 1 to 10, given 11"],
    [{ MaximumRecordAgeInSeconds: 59 }, "maximumRecordAgeMs is 60000 to 604800000, or -1, given 59000"],
    [{ MaximumRetryAttempts: -2 }, "maximumRetryAttempts is 0 to 10000, or -1, given -2"],
  ])("that AWS would refuse are refused: %j", (properties, message) => {
    expect(() => settingsOf({ StartingPosition: "LATEST", ...properties })).toThrow(message);
  });
});
