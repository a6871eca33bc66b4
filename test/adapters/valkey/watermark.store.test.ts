import { describe, expect, it } from "vitest";
import { Watermark, watermarkKey } from "../../../adapters/valkey/watermark.ts";
import { ARRIVAL, shardOf, useWatermark } from "../../support/watermark-world.ts";

const HOUR = 3_600_000;
const world = useWatermark();

describe("a delivery", () => {
  it("holds its batch until it clears it, and commits the newest arrival", async () => {
    const shard = shardOf();
    const stamp = await shard.begin(1, 10);
    expect(await shard.state()).toEqual({ done: null, open: ["1-10"] });
    await shard.end(stamp, 1, 10);
    expect(await shard.state()).toEqual({ done: 10, open: [] });
  });

  it("never takes a commit back", async () => {
    const shard = shardOf();
    const [late, early] = [await shard.begin(11, 20), await shard.begin(1, 10)];
    await shard.end(late, 11, 20);
    await shard.end(early, 1, 10);
    expect(await shard.state()).toEqual({ done: 20, open: [] });
  });

  it("that succeeds in part registers the rest in the same step", async () => {
    const shard = shardOf();
    const first = await shard.begin(1, 10);
    await shard.end(first, 1, 4, 10);
    expect(await shard.state()).toEqual({ done: 4, open: ["5-10"] });
    const second = await shard.begin(5, 10);
    await shard.end(second, 5, 10);
    expect(await shard.state()).toEqual({ done: 10, open: [] });
  });

  it("that fails at its first record goes on holding all of it, and commits nothing", async () => {
    const shard = shardOf();
    const stamp = await shard.begin(1, 10);
    await world.watermark.clear(
      shard.stream,
      "shard-0",
      [],
      ARRIVAL + 10,
      { shard: "shard-0", firstSequence: "0001", firstArrivalMs: ARRIVAL + 1, lastSequence: "0010" },
      stamp,
    );
    expect(await shard.state()).toEqual({ done: null, open: ["1-10"] });
  });

  it("clears the halves of a bisected batch each on its own", async () => {
    const shard = shardOf();
    await shard.begin(1, 10);
    const left = await shard.begin(1, 5);
    const right = await shard.begin(6, 10);
    await shard.end(right, 6, 10);
    expect(await shard.state()).toEqual({ done: 10, open: ["1-5"] });
    await shard.end(left, 1, 5);
    expect(await shard.state()).toEqual({ done: 10, open: [] });
  });

  it("clears nothing of another shard", async () => {
    const [one, other] = [shardOf("shard-1"), shardOf("shard-2")];
    await world.watermark.register(one.stream, {
      shard: "shard-2",
      firstSequence: "0001",
      firstArrivalMs: ARRIVAL,
      lastSequence: "0002",
    });
    await one.end(await one.begin(1, 2), 1, 2);
    expect((await one.state()).open).toEqual(["1-2"]);
    expect((await other.state()).open).toEqual([]);
  });
});

describe("a zombie", () => {
  it("does not clear the longer batch that its retry has begun under the same first record", async () => {
    const shard = shardOf();
    const zombie = await shard.begin(1, 10);
    const retry = await shard.begin(1, 20);
    await shard.end(zombie, 1, 10);
    expect(await shard.state()).toEqual({ done: 10, open: ["1-20"] });
    await shard.end(retry, 1, 20);
    expect(await shard.state()).toEqual({ done: 20, open: [] });
  });

  it("whose retry has cleared already leaves everything as it is", async () => {
    const shard = shardOf();
    const zombie = await shard.begin(1, 10);
    await shard.end(await shard.begin(1, 10), 1, 10);
    const next = await shard.begin(11, 20);
    await shard.end(zombie, 1, 10);
    expect(await shard.state()).toEqual({ done: 10, open: ["11-20"] });
    await shard.end(next, 11, 20);
    expect((await shard.state()).open).toEqual([]);
  });

  it("that clears while a retry registers does not clear the retry's", async () => {
    const shard = shardOf();
    const zombie = await shard.begin(1, 10);
    // Between the zombie's look at the hash and its clearing, the retry registers.
    const racing = new (class extends Watermark {
      override async read(stream: string) {
        const state = await super.read(stream);
        await shard.begin(1, 20);
        return state;
      }
    })(world.connection);
    const numbers = Array.from({ length: 10 }, (_, i) => String(i + 1).padStart(4, "0"));
    await racing.clear(shard.stream, "shard-0", numbers, ARRIVAL + 10, null, zombie);
    expect(await shard.state()).toEqual({ done: 10, open: ["1-20"] });
  });
});

describe("what nobody will clear", () => {
  it("is forgotten when it was given up, and what a shard has acknowledged that is listed no more; the rest stays", async () => {
    const shard = shardOf();
    await shard.begin(1, 10);
    await world.watermark.register(shard.stream, {
      shard: "gone",
      firstSequence: "1",
      firstArrivalMs: 1,
      lastSequence: "2",
    });
    await world.watermark.clear(shard.stream, "gone-too", ["1"], ARRIVAL, null, 0);
    const shards = [{ id: "shard-0", parents: [], closed: false }];
    const forget = async (nowMs: number) =>
      world.watermark.forget(shard.stream, await world.watermark.read(shard.stream), shards, nowMs);
    await forget(Date.now() + 5 * HOUR);
    // A batch of a shard that is gone may be delivered again by a replay: it holds the seal until that is over.
    const fields = async () => (await world.admin.hkeys(watermarkKey(shard.stream))).sort();
    expect(await fields()).toEqual(["o:gone:1", "o:shard-0:0001", "t:gone", "t:gone-too", "t:shard-0"]);
    await forget(Date.now() + 7 * HOUR);
    expect(await fields()).toEqual(["t:shard-0"]);
  });

  it("is not forgotten when it was renewed meanwhile", async () => {
    const shard = shardOf();
    await shard.begin(1, 10);
    const seen = await world.watermark.read(shard.stream);
    await shard.begin(1, 10);
    await world.watermark.forget(
      shard.stream,
      seen,
      [{ id: "shard-0", parents: [], closed: false }],
      Date.now() + 7 * HOUR,
    );
    expect((await shard.state()).open).toEqual(["1-10"]);
  });

  it("is gone after a restart, from which on acknowledgements count anew", async () => {
    const shard = shardOf();
    await shard.end(await shard.begin(1, 10), 1, 10);
    await shard.begin(11, 20);
    await world.watermark.restart(shard.stream, ARRIVAL + 99);
    expect(await world.watermark.read(shard.stream)).toEqual({
      newest: new Map([["shard-0", expect.stringMatching(/^0020:\d{16}$/)]]),
      originMs: ARRIVAL + 99,
      bounds: [],
      committed: new Map(),
      outstanding: [],
    });
  });
});

describe("the beginning of registrations", () => {
  it("is set once", async () => {
    const { stream } = shardOf();
    expect((await world.watermark.read(stream)).originMs).toBeNull();
    await world.watermark.begin(stream, 5);
    await world.watermark.begin(stream, 9);
    expect((await world.watermark.read(stream)).originMs).toBe(5);
  });
});
