import { describe, expect, test } from "vitest";
import { InMemoryStream } from "./kinesis-stream.ts";
import { VirtualClock } from "./virtual-clock.ts";

const data = Buffer.from("x");
const stream = (shards = 1) => new InMemoryStream({ name: "s", shards, clock: new VirtualClock(1_795_248_000_000) });
const increasing = (sequences: string[]) =>
  sequences.every((sequence, i) => i === 0 || BigInt(sequence) > BigInt(sequences[i - 1]!));

describe("an in-memory stream", () => {
  test("has sequence numbers of AWS's shape, which grow within a shard", () => {
    const source = stream();
    const sequences = Array.from({ length: 50 }, () => source.put({ partitionKey: "k", data }).sequence);
    for (const sequence of sequences) expect(sequence).toMatch(/^49\d{54}$/);
    expect(increasing(sequences)).toBe(true);
  });

  test("numbers a child's records above its parent's, the closing number between them", () => {
    const source = stream();
    const before = source.put({ partitionKey: "k", data });
    source.split(before.shardId);
    const after = source.put({ partitionKey: "k", data });
    expect(after.shardId).not.toBe(before.shardId);
    expect(increasing([before.sequence, source.shards[0]!.endingSequence!, after.sequence])).toBe(true);
  });

  test("places a record by the MD5 of its key, as Kinesis does", () => {
    const source = stream(4);
    // MD5 of "user-1" begins with d6, of "user-2" with 3d (md5sum says); each quarter of the space is a shard.
    expect(source.put({ partitionKey: "user-1", data }).shardId).toBe("shardId-000000000003");
    expect(source.put({ partitionKey: "user-2", data }).shardId).toBe("shardId-000000000000");
  });

  test("places a record by an explicit hash key before its partition key", () => {
    const source = stream(2);
    const ids = source.openShards().map((shard) => {
      return source.put({ partitionKey: "same", data, explicitHashKey: shard.startHash.toString() }).shardId;
    });
    expect(ids).toEqual(["shardId-000000000000", "shardId-000000000001"]);
  });

  test("covers the whole hash space without a gap, through splits and merges", () => {
    const source = stream(3);
    const [, right] = source.split("shardId-000000000001");
    source.merge(right, "shardId-000000000002");
    const open = source.openShards().sort((a, b) => (a.startHash < b.startHash ? -1 : 1));
    expect(open[0]!.startHash).toBe(0n);
    expect(open.at(-1)!.endHash).toBe(2n ** 128n - 1n);
    for (let i = 1; i < open.length; i++) expect(open[i]!.startHash).toBe(open[i - 1]!.endHash + 1n);
    expect(source.shardList()).toEqual([
      { id: "shardId-000000000000", parents: [], closed: false },
      { id: "shardId-000000000001", parents: [], closed: true },
      { id: "shardId-000000000002", parents: [], closed: true },
      { id: "shardId-000000000003", parents: ["shardId-000000000001"], closed: false },
      { id: "shardId-000000000004", parents: ["shardId-000000000001"], closed: true },
      { id: "shardId-000000000005", parents: ["shardId-000000000004", "shardId-000000000002"], closed: false },
    ]);
  });

  test("refuses to merge shards that are not neighbours, and to close one twice", () => {
    const source = stream(3);
    expect(() => source.merge("shardId-000000000000", "shardId-000000000002")).toThrow(
      "shardId-000000000000 and shardId-000000000002 are not adjacent",
    );
    source.split("shardId-000000000000");
    expect(() => source.split("shardId-000000000000")).toThrow("shardId-000000000000 is not an open shard");
  });

  test("keeps both records of a producer that sent again", () => {
    const source = stream();
    source.put({ partitionKey: "k", data, copies: 2 });
    const [first, second] = source.shards[0]!.records;
    expect(second!.sequence).not.toBe(first!.sequence);
    expect(second!.data).toBe(first!.data);
  });
});
