import type { PutRecordsCommand } from "@aws-sdk/client-kinesis";
import { describe, expect, it } from "vitest";
import { createKinesisPublisher } from "../../../adapters/kinesis/publisher.ts";

const record = (name: string, bytes = 4) => ({ data: Buffer.alloc(bytes, name), partitionKey: name });
const throttled = { ErrorCode: "ProvisionedThroughputExceededException" };
const queued = { SequenceNumber: "1", ShardId: "shard-0" };

/** A broker that answers each call by a function of the partition keys in it. */
function setUp(answer: (keys: string[], call: number) => unknown[] | Error, budgetMs = 2_000) {
  const calls: string[][] = [];
  const sleeps: number[] = [];
  let now = 0;
  const client = {
    async send(command: PutRecordsCommand) {
      const keys = (command.input.Records ?? []).map(({ PartitionKey }) => PartitionKey as string);
      calls.push(keys);
      const result = answer(keys, calls.length - 1);
      if (result instanceof Error) throw result;
      return { Records: result };
    },
  };
  const publisher = createKinesisPublisher(client as any, {
    streamNames: { transactions: "freshet-test-transactions" },
    budgetMs,
    random: () => 1,
    now: () => now,
    sleep: async (ms) => {
      sleeps.push(ms);
      now += ms;
    },
  });
  return { publisher, calls, sleeps };
}

describe("publish", () => {
  it("sends what was refused again, and nothing else", async () => {
    const { publisher, calls } = setUp((keys, call) =>
      keys.map((key) => (call === 0 && key !== "a" ? throttled : queued)),
    );
    expect(
      await publisher.publish(
        "transactions",
        ["a", "b", "c"].map((name) => record(name)),
      ),
    ).toEqual(["queued", "queued", "queued"]);
    expect(calls).toEqual([
      ["a", "b", "c"],
      ["b", "c"],
    ]);
  });

  it("gives up within its budget, waiting twice as long each time up to 800 ms", async () => {
    const { publisher, sleeps } = setUp((keys) => keys.map((key) => (key === "b" ? throttled : queued)));
    expect(await publisher.publish("transactions", [record("a"), record("b")])).toEqual(["queued", "throttled"]);
    expect(sleeps).toEqual([50, 100, 200, 400, 800]);
  });

  it("tells a broker that fails apart from one that is busy", async () => {
    const down = setUp(() => Object.assign(new Error("connect ECONNREFUSED"), { name: "TimeoutError" }), 100);
    expect(await down.publisher.publish("transactions", [record("a")])).toEqual(["unavailable"]);
    const busy = setUp(() => Object.assign(new Error("slow down"), { name: "ThrottlingException" }), 100);
    expect(await busy.publisher.publish("transactions", [record("a")])).toEqual(["throttled"]);
    const broken = setUp((keys) => keys.map(() => ({ ErrorCode: "InternalFailure" })), 100);
    expect(await broken.publisher.publish("transactions", [record("a")])).toEqual(["unavailable"]);
  });

  it("counts a record that the answer does not mention as not acknowledged", async () => {
    const { publisher } = setUp(() => [queued], 0);
    expect(await publisher.publish("transactions", [record("a"), record("b")])).toEqual(["queued", "unavailable"]);
  });

  it("keeps the outcomes of one call when another call of the same request fails", async () => {
    const { publisher, calls } = setUp(
      (keys) => (keys.includes("x") ? new Error("cut off") : keys.map(() => queued)),
      0,
    );
    const records = [record("a", 4_000_000), record("x", 1_000_000)];
    expect(await publisher.publish("transactions", records)).toEqual(["queued", "unavailable"]);
    expect(calls).toEqual([["a"], ["x"]]);
  });

  it("gives a broker up that hangs, and does not wait for it with each part", async () => {
    const calls: PutRecordsCommand[] = [];
    const client = {
      send(command: PutRecordsCommand) {
        calls.push(command);
        return new Promise(() => {});
      },
    };
    const publisher = createKinesisPublisher(client as any, {
      streamNames: { transactions: "freshet-test-transactions" },
      budgetMs: 0,
      attemptMs: 20,
    });
    const records = [record("a", 4_000_000), record("b", 1_000_000)];
    expect(await publisher.publish("transactions", records)).toEqual(["unavailable", "unavailable"]);
    expect(calls).toHaveLength(1);
  });

  it("cuts at 500 records and 4.5 MiB a call", async () => {
    const many = setUp((keys) => keys.map(() => queued));
    await many.publisher.publish(
      "transactions",
      Array.from({ length: 1_001 }, (_, i) => record(String(i))),
    );
    expect(many.calls.map(({ length }) => length)).toEqual([500, 500, 1]);
    const large = setUp((keys) => keys.map(() => queued));
    await large.publisher.publish(
      "transactions",
      Array.from({ length: 5 }, () => record("k", 1_000_000)),
    );
    expect(large.calls.map(({ length }) => length)).toEqual([4, 1]);
  });

  it("has no outcome but unavailable for a stream that was not deployed", async () => {
    const { publisher, calls } = setUp(() => []);
    expect(await publisher.publish("clicks", [record("a")])).toEqual(["unavailable"]);
    expect(calls).toEqual([]);
  });
});
