/** The documented rules by which Lambda's Kinesis mapping retries, splits and gives up, one test each, and what else may happen to a batch. */
import { describe, expect, test } from "vitest";
import { failing, START, sequenceOf, setup } from "./toy-mapping.ts";

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
