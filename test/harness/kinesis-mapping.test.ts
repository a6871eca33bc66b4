/** The documented rules of Lambda's Kinesis mapping, one test each, with toy handlers. */
import { describe, expect, test } from "vitest";
import { type Handler, inProcessHost } from "./function-host.ts";
import { KinesisMapping, type MappingOptions } from "./kinesis-mapping.ts";
import { InMemoryStream } from "./kinesis-stream.ts";
import { settingsOf } from "./mapping-settings.ts";
import { seededRandom } from "./random.ts";
import { VirtualClock } from "./virtual-clock.ts";

const START = 1_795_248_000_000;

/** A stream, a mapping and what the handler was given: lists of the records' texts, one a call. */
function setup(
  options: Partial<Omit<MappingOptions, "stream" | "clock" | "host">> & {
    shards?: number;
    handler?: (texts: string[], event: any, context: any) => unknown;
    seed?: number;
    before?: (put: (text: string, key?: string) => void) => void;
  } = {},
) {
  const { shards = 1, handler = () => undefined, seed = 1, before, ...rest } = options;
  const clock = new VirtualClock(START);
  const stream = new InMemoryStream({ name: "transactions", shards, clock });
  const calls: string[][] = [];
  const put = (text: string, key = "k") => stream.put({ partitionKey: key, data: Buffer.from(text) });
  before?.(put);
  const run: Handler = async (event, context) => {
    const texts = event.Records.map((record: any) => Buffer.from(record.kinesis.data, "base64").toString());
    calls.push(texts);
    return handler(texts, event, context);
  };
  const mapping = new KinesisMapping({ stream, clock, host: inProcessHost(run), random: seededRandom(seed), ...rest });
  return { clock, stream, calls, put, mapping, putAll: (...texts: string[]) => texts.map((text) => put(text)) };
}

const failing = (bad: string) => (texts: string[]) => {
  if (texts.includes(bad)) throw new Error("poison");
};
const sequenceOf = (event: any, text: string): string =>
  event.Records.find((record: any) => Buffer.from(record.kinesis.data, "base64").toString() === text)?.kinesis
    .sequenceNumber;

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

describe("a function error", () => {
  test("retries the whole batch and lets nothing of the shard pass, for as long as it fails", async () => {
    let broken = true;
    const { putAll, mapping, calls } = setup({
      settings: { batchSize: 2 },
      handler: () => {
        if (broken) throw new Error("store away");
      },
    });
    putAll("1", "2", "3");
    await mapping.run(() => calls.length === 25);
    expect(new Set(calls.map((texts) => texts.join()))).toEqual(new Set(["1,2"]));
    broken = false;
    await mapping.run();
    expect(calls.slice(25)).toEqual([["1", "2"], ["3"]]);
  });

  test("with bisect, halves are retried until the bad record stands alone, in order", async () => {
    let healed = false;
    const { putAll, mapping, calls } = setup({
      settings: { bisectBatchOnFunctionError: true },
      handler: (texts) => {
        if (texts.includes("3") && !healed) throw new Error("poison");
      },
    });
    putAll("1", "2", "3", "4");
    await mapping.run(() => calls.length === 6);
    expect(calls).toEqual([["1", "2", "3", "4"], ["1", "2"], ["3", "4"], ["3"], ["3"], ["3"]]);
    healed = true;
    await mapping.run();
    expect(calls.slice(6)).toEqual([["3"], ["4"]]);
  });

  test("maximumRetryAttempts bounds the retries, then the records are skipped", async () => {
    const { putAll, mapping, calls } = setup({
      settings: { batchSize: 2, maximumRetryAttempts: 2 },
      handler: failing("1"),
    });
    putAll("1", "2", "3");
    await mapping.run();
    expect(calls).toEqual([["1", "2"], ["1", "2"], ["1", "2"], ["3"]]);
  });

  test("splitting takes nothing from the retry quota", async () => {
    const { putAll, mapping, calls } = setup({
      settings: { bisectBatchOnFunctionError: true, maximumRetryAttempts: 1 },
      handler: failing("8"),
    });
    putAll("1", "2", "3", "4", "5", "6", "7", "8");
    await mapping.run();
    expect(calls.filter((texts) => texts.join() === "8")).toHaveLength(2);
    expect(mapping.failures.map((failure) => failure.body.KinesisBatchInfo.batchSize)).toEqual([1]);
  });

  test("an invocation that never began takes nothing from the quota and splits nothing", async () => {
    const { putAll, mapping, calls } = setup({
      settings: { bisectBatchOnFunctionError: true, maximumRetryAttempts: 0 },
      faults: ({ number }) => (number < 5 ? { kind: "not-started" } : null),
    });
    putAll("1", "2");
    await mapping.run();
    expect(calls).toEqual([["1", "2"]]);
    expect(mapping.failures).toEqual([]);
  });
});

describe("maximumRecordAge", () => {
  test("gives up records that were retried for too long", async () => {
    const { putAll, mapping, clock } = setup({
      settings: { maximumRecordAgeMs: 60_000 },
      handler: failing("1"),
    });
    putAll("1");
    await mapping.run();
    expect(mapping.failures.map(({ body }) => body.requestContext.condition)).toEqual(["RecordAgeExceeded"]);
    expect(clock.now() - START).toBeGreaterThan(60_000);
  });

  test("gives up only the records that are too old, unseen by the function", async () => {
    const { put, mapping, calls, clock } = setup({ settings: { maximumRecordAgeMs: 60_000 } });
    put("old");
    clock.advance(50_000);
    put("young");
    clock.advance(20_000);
    await mapping.run();
    expect(calls).toEqual([["young"]]);
    expect(mapping.failures[0]!.body.requestContext.approximateInvokeCount).toBe(0);
    expect(mapping.failures[0]!.body.responseContext).toBeNull();
  });
});

describe("the failure destination", () => {
  test("gets an S3 object with the metadata and the whole event", async () => {
    const { put, mapping, clock } = setup({
      settings: { maximumRetryAttempts: 1 },
      handler: failing("1"),
    });
    const first = put("1");
    clock.advance(250);
    const last = put("2");
    await mapping.run();
    const [failure] = mapping.failures;
    expect(failure!.key).toMatch(
      /^aws\/lambda\/[0-9a-f-]{36}\/shardId-000000000000\/2026\/11\/21\/2026-11-21T08\.00\.01-[0-9a-f-]{36}$/,
    );
    expect(failure!.body).toMatchObject({
      requestContext: {
        functionArn: "arn:aws:lambda:us-east-1:000000000000:function:aggregate",
        condition: "RetryAttemptsExhausted",
        approximateInvokeCount: 2,
      },
      responseContext: { statusCode: 200, executedVersion: "$LATEST", functionError: "Unhandled" },
      version: "1.0",
      KinesisBatchInfo: {
        shardId: "shardId-000000000000",
        startSequenceNumber: first.sequence,
        endSequenceNumber: last.sequence,
        approximateArrivalOfFirstRecord: "2026-11-21T08:00:00.000Z",
        approximateArrivalOfLastRecord: "2026-11-21T08:00:00.250Z",
        batchSize: 2,
        streamArn: "arn:aws:kinesis:us-east-1:000000000000:stream/transactions",
      },
    });
    const event = JSON.parse(failure!.body.payload);
    expect(event.Records.map((record: any) => record.kinesis.sequenceNumber)).toEqual([first.sequence, last.sequence]);
    expect(event.Records[0].kinesis.approximateArrivalTimestamp).toBe(START / 1_000);
  });
});

describe("ReportBatchItemFailures", () => {
  const on = { reportBatchItemFailures: true, batchSize: 4 };
  /** Calls made for records 1 to 4 when the first call answers `response`, and later ones nothing. */
  async function callsFor(response: (event: any) => unknown, settings = {}): Promise<string[]> {
    let first = true;
    const { putAll, mapping, calls } = setup({
      settings: { ...on, ...settings },
      handler: (_, event) => {
        if (!first) return undefined;
        first = false;
        return response(event);
      },
    });
    putAll("1", "2", "3", "4");
    await mapping.run();
    return calls.map((texts) => texts.join(""));
  }
  const failures = (...identifiers: unknown[]) => ({
    batchItemFailures: identifiers.map((itemIdentifier) => ({ itemIdentifier })),
  });

  test("the lowest returned sequence is the checkpoint, and everything from it is retried", async () => {
    expect(await callsFor((event) => failures(sequenceOf(event, "4"), sequenceOf(event, "2")))).toEqual([
      "1234",
      "234",
    ]);
    expect(await callsFor((event) => failures(sequenceOf(event, "2"), sequenceOf(event, "4")))).toEqual([
      "1234",
      "234",
    ]);
    expect(await callsFor((event) => failures(sequenceOf(event, "1")))).toEqual(["1234", "1234"]);
    expect(await callsFor((event) => failures(sequenceOf(event, "4")))).toEqual(["1234", "4"]);
  });

  test.each([
    ["nothing", () => undefined],
    ["null", () => null],
    ["an empty response", () => ({})],
    ["a null list", () => ({ batchItemFailures: null })],
    ["an empty list", () => ({ batchItemFailures: [] })],
  ])("%s is complete success", async (_, response) => {
    expect(await callsFor(response)).toEqual(["1234"]);
  });

  test.each([
    ["an empty id", () => failures("")],
    ["a null id", () => failures(null)],
    ["an id under another name", () => ({ batchItemFailures: [{ sequenceNumber: "1" }] })],
    ["an id of no record of the batch", () => failures("49590338271490256608559692538361571095921575989136588898")],
    ["a bad id beside a good one", (event: any) => failures(sequenceOf(event, "3"), "")],
  ])("%s is complete failure", async (_, response) => {
    expect(await callsFor(response)).toEqual(["1234", "1234"]);
    expect(await callsFor(response, { bisectBatchOnFunctionError: true })).toEqual(["1234", "12", "34"]);
  });

  test("with bisect a partial response splits at the returned sequence, and an error still in the middle", async () => {
    const bisect = { bisectBatchOnFunctionError: true };
    expect(await callsFor((event) => failures(sequenceOf(event, "4")), bisect)).toEqual(["1234", "4"]);
    const error = () => {
      throw new Error("poison");
    };
    expect(await callsFor(error, bisect)).toEqual(["1234", "12", "34"]);
  });

  test("with bisect a partial response takes nothing from the retry quota, without it a retry", async () => {
    const step = (event: any) => failures(sequenceOf(event, "4") ?? sequenceOf(event, "3") ?? sequenceOf(event, "2"));
    const progress = async (bisectBatchOnFunctionError: boolean) => {
      const { putAll, mapping } = setup({
        settings: { ...on, bisectBatchOnFunctionError, maximumRetryAttempts: 0 },
        handler: (texts, event) => (texts.length > 1 ? step(event) : undefined),
      });
      putAll("1", "2", "3", "4");
      await mapping.run();
      return mapping.failures.length;
    };
    expect(await progress(true)).toBe(0);
    expect(await progress(false)).toBe(1);
  });

  test("is ignored unless the mapping has it on", async () => {
    expect(await callsFor((event) => failures(sequenceOf(event, "2")), { reportBatchItemFailures: false })).toEqual([
      "1234",
    ]);
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

describe("faults that happen to everybody", () => {
  test("a lost response: the batch is retried while the first invocation is still running", async () => {
    let release!: () => void;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    let ended = 0;
    const { put, mapping, calls } = setup({
      handler: async () => {
        if (calls.length === 1) await held;
        ended += 1;
      },
      faults: ({ number }) => (number === 0 ? { kind: "lost-response" } : null),
    });
    put("1");
    await mapping.run();
    expect([calls, ended]).toEqual([[["1"], ["1"]], 1]);
    release();
    await mapping.drain();
    expect(ended).toBe(2);
  });

  test("a stalled zombie acts after its batch was acknowledged by another", async () => {
    const { putAll, mapping, calls } = setup({
      settings: { batchSize: 1 },
      faults: ({ number }) => (number === 0 ? { kind: "stalled", invocations: 2 } : null),
    });
    putAll("1", "2", "3");
    await mapping.run();
    await mapping.drain();
    expect(calls).toEqual([["1"], ["2"], ["1"], ["3"]]);
  });

  test("a stalled zombie that nothing follows acts when drained", async () => {
    const { put, mapping, calls } = setup({
      faults: ({ number }) => (number === 0 ? { kind: "stalled", invocations: 100 } : null),
    });
    put("1");
    await mapping.run();
    expect(calls).toEqual([["1"]]);
    await mapping.drain();
    expect(calls).toEqual([["1"], ["1"]]);
  });

  test("a lost checkpoint: an acknowledged batch comes again, cut differently, in order", async () => {
    const { putAll, mapping, calls } = setup({
      seed: 3,
      faults: ({ number }) => (number === 0 ? { kind: "lost-checkpoint" } : null),
    });
    putAll("1", "2", "3", "4");
    await mapping.run();
    expect(calls[0]).toEqual(["1", "2", "3", "4"]);
    expect(calls.slice(1).flat()).toEqual(["1", "2", "3", "4"]);
    expect(calls.length).toBe(3);
  });

  test("a producer that sent again makes two records of one datum", async () => {
    const { stream, mapping, calls } = setup();
    stream.put({ partitionKey: "k", data: Buffer.from("1"), copies: 2 });
    await mapping.run();
    expect(calls).toEqual([["1", "1"]]);
  });

  test("under every fault at once each record is delivered at least once", async () => {
    for (let seed = 1; seed <= 30; seed++) {
      const { stream, put, mapping, calls } = setup({
        seed,
        shards: 2,
        randomBatchSizes: true,
        settings: {
          batchSize: 7,
          parallelizationFactor: 3,
          bisectBatchOnFunctionError: true,
          reportBatchItemFailures: true,
        },
        handler: (texts, event) =>
          texts.length % 4 === 3
            ? { batchItemFailures: [{ itemIdentifier: sequenceOf(event, texts[1]!) }] }
            : undefined,
        faults: (_, random) =>
          random.chance(0.5)
            ? random.pick([
                { kind: "not-started" },
                { kind: "lost-response" },
                { kind: "stalled", invocations: random.below(9) },
                { kind: "lost-checkpoint" },
              ] as const)
            : null,
      });
      for (let i = 0; i < 60; i++) {
        put(String(i), `key-${i % 11}`);
        if (i === 20) stream.split("shardId-000000000000");
        if (i === 40) stream.merge("shardId-000000000003", "shardId-000000000001");
        if (i % 9 === 0) await mapping.step();
      }
      await mapping.run();
      await mapping.drain();
      expect(new Set(calls.flat()).size).toBe(60);
      expect(calls.flat().length).toBeGreaterThan(60);
      expect(mapping.failures).toEqual([]);
    }
  });
});

describe("determinism", () => {
  const history = async (seed: number) => {
    const { put, mapping } = setup({
      seed,
      shards: 3,
      randomBatchSizes: true,
      settings: { batchSize: 5, parallelizationFactor: 2, bisectBatchOnFunctionError: true },
      handler: async () => {
        await new Promise((resolve) => setTimeout(resolve, Math.random() * 3));
      },
      faults: (_, random) => (random.chance(0.3) ? { kind: "lost-response" } : null),
    });
    for (let i = 0; i < 40; i++) put(String(i), `key-${i}`);
    await mapping.run();
    await mapping.drain();
    return mapping.invocations;
  };

  test("a seed repeats every decision, however long handlers take; another seed makes others", async () => {
    const first = await history(5);
    expect(await history(5)).toEqual(first);
    expect(await history(6)).not.toEqual(first);
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
