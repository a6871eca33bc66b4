/** Registrations on a real Valkey, under all that a mapping may do: zombies, batches cut anew, partial success, batches given up. */
import fc from "fast-check";
import { Redis } from "iovalkey";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Answer, type Command, ValkeyConnection } from "../../../adapters/valkey/connection.ts";
import { type BatchSpan, committedArrival, Watermark, watermarkKey } from "../../../adapters/valkey/watermark.ts";
import { startValkey, type TestValkey } from "../../support/valkey.ts";

const HOUR = 3_600_000;
const ARRIVAL = 1_767_700_000_000;
let valkey: TestValkey;
let connection: ValkeyConnection;
let admin: Redis;
let watermark: Watermark;
let streams = 0;
beforeAll(async () => {
  valkey = await startValkey();
  connection = new ValkeyConnection(valkey);
  admin = new Redis({ host: valkey.host, port: valkey.port });
  watermark = new Watermark(connection);
});
afterAll(async () => {
  admin?.disconnect();
  await connection?.close();
  await valkey?.stop();
});

/** One shard of a stream of its own; a record's sequence is its number, and it arrives that many ms after the first. */
function shardOf(shard = "shard-0") {
  const stream = `s${streams++}`;
  const sequence = (n: number) => String(n).padStart(4, "0");
  const span = (first: number, last: number): BatchSpan => ({
    shard,
    firstSequence: sequence(first),
    firstArrivalMs: ARRIVAL + first,
    lastSequence: sequence(last),
  });
  const numbers = (first: number, last: number) => Array.from({ length: last - first + 1 }, (_, i) => first + i);
  return {
    stream,
    span,
    begin: (first: number, last: number) => watermark.register(stream, span(first, last)),
    /** Acknowledges `first` to `last` of a delivery; what follows up to `end` is registered again. */
    end: (stamp: number, first: number, last: number, end: number | null = null) =>
      watermark.clear(
        stream,
        shard,
        numbers(first, last).map(sequence),
        ARRIVAL + last,
        end === null ? null : span(last + 1, end),
        stamp,
      ),
    async state() {
      const { committed, outstanding } = await watermark.read(stream);
      return {
        done: committed.has(shard) ? committed.get(shard)! - ARRIVAL : null,
        open: outstanding
          .map(({ firstSequence, lastSequence }) => `${Number(firstSequence)}-${Number(lastSequence)}`)
          .sort(),
      };
    },
  };
}

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
    await watermark.clear(
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
    await watermark.register(one.stream, {
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
    })(connection);
    const numbers = Array.from({ length: 10 }, (_, i) => String(i + 1).padStart(4, "0"));
    await racing.clear(shard.stream, "shard-0", numbers, ARRIVAL + 10, null, zombie);
    expect(await shard.state()).toEqual({ done: 10, open: ["1-20"] });
  });
});

/**
 * A registration that its sender has given up and that the server hears of `later`: a process that is frozen with it in its socket, and
 * thawed when somebody else has been at its records.
 */
function onItsWay(shard: ReturnType<typeof shardOf>, first: number, last: number, lateStarts: readonly number[] = []) {
  let sent: readonly Command[] = [];
  const frozen = new (class extends ValkeyConnection {
    override async demand(commands: readonly Command[]): Promise<Answer[]> {
      sent = commands;
      throw new Error("timed out");
    }
  })(valkey);
  const failed = new Watermark(frozen).register(shard.stream, shard.span(first, last), lateStarts).catch(() => {});
  return {
    arrives: async () => {
      await failed;
      return connection.demand(sent);
    },
  };
}

describe("a registration that is heard of late", () => {
  const held = async (shard: ReturnType<typeof shardOf>) => {
    const { bounds } = await watermark.read(shard.stream);
    return { ...(await shard.state()), bounds: bounds.length };
  };

  it("registers nothing when its batch has been acknowledged since: nobody would ever clear it", async () => {
    const shard = shardOf();
    const dead = onItsWay(shard, 1, 10, [60_000]);
    await shard.end(await shard.begin(1, 10), 1, 10);
    await shard.end(await shard.begin(11, 12), 11, 12);
    await dead.arrives();
    expect(await held(shard)).toEqual({ done: 12, open: [], bounds: 0 });
  });

  it("registers nothing when a half of its batch has been, and the other half is still to come", async () => {
    const shard = shardOf();
    const dead = onItsWay(shard, 1, 10, [60_000]);
    await shard.end(await shard.begin(1, 5), 1, 5);
    await dead.arrives();
    await shard.end(await shard.begin(6, 10), 6, 10);
    expect(await held(shard)).toEqual({ done: 10, open: [], bounds: 0 });
  });

  it("registers nothing while its retry, which was cut shorter, or begins earlier, is at work", async () => {
    for (const [first, last] of [
      [3, 5],
      [1, 8],
    ] as const) {
      const shard = shardOf();
      const dead = onItsWay(shard, 3, 10, [60_000]);
      const retry = await shard.begin(first, last);
      await dead.arrives();
      await shard.end(retry, first, last);
      await shard.end(await shard.begin(last + 1, 14), last + 1, 14);
      expect(await held(shard)).toEqual({ done: 14, open: [], bounds: 0 });
    }
  });

  it("registers nothing after registrations began anew", async () => {
    const shard = shardOf();
    const dead = onItsWay(shard, 1, 10);
    await shard.end(await shard.begin(1, 10), 1, 10);
    await watermark.restart(shard.stream, ARRIVAL);
    await dead.arrives();
    expect((await shard.state()).open).toEqual([]);
  });

  it("holds what nobody has come to yet: its retry clears it", async () => {
    const shard = shardOf();
    await shard.end(await shard.begin(1, 10), 1, 10);
    const dead = onItsWay(shard, 11, 20, [60_000]);
    await dead.arrives();
    expect(await held(shard)).toEqual({ done: 10, open: ["11-20"], bounds: 1 });
    await shard.end(await shard.begin(11, 20), 11, 20);
    expect(await held(shard)).toEqual({ done: 20, open: [], bounds: 0 });
  });

  it("costs whoever comes again in another process one more call, and nobody else any", async () => {
    const shard = shardOf();
    let calls = 0;
    const counted = new (class extends ValkeyConnection {
      override demand(commands: readonly Command[]): Promise<Answer[]> {
        calls += commands.length;
        return connection.demand(commands);
      }
    })(valkey);
    const other = new Watermark(counted);
    const registered = async (first: number, last: number) => {
      calls = 0;
      await other.register(shard.stream, shard.span(first, last));
      return calls;
    };
    await shard.end(await shard.begin(1, 10), 1, 10);
    expect(await registered(11, 20)).toBe(1);
    expect(await registered(11, 20)).toBe(1);
    await shard.begin(11, 20);
    expect(await registered(11, 20)).toBe(2);
  });

  it("is told from a fresh one though the server's clock went back", async () => {
    const shard = shardOf();
    await shard.end(await shard.begin(1, 10), 1, 10);
    const ahead = Date.now() * 1_000 + 3_600_000_000;
    await admin.hset(watermarkKey(shard.stream), "t:shard-0", `0010:${ahead}`);
    const dead = onItsWay(shard, 11, 20);
    const stamp = await shard.begin(11, 20);
    expect(stamp).toBeGreaterThan(ahead);
    await shard.end(stamp, 11, 20);
    await dead.arrives();
    expect(await shard.state()).toEqual({ done: 20, open: [] });
  });
});

describe("batches that are cut anew", () => {
  // After a lost checkpoint the mapping begins again before 1, and cuts where it likes.
  it("of a lane that has fallen behind hold what a failed delivery applied, until its last part is cleared", async () => {
    const shard = shardOf();
    await shard.begin(1, 10); // applied, and killed before its archive object
    const half = await shard.begin(1, 5);
    expect((await shard.state()).open.sort()).toEqual(["1-5", "10-10"]);
    await shard.end(half, 1, 5);
    // Another lane goes on: without this nothing of the shard would hold the seal below 6 to 10.
    await shard.end(await shard.begin(30, 31), 30, 31);
    expect((await shard.state()).open).toEqual(["10-10"]);
    const state = await watermark.read(shard.stream);
    expect(state.outstanding.map(({ firstArrivalMs }) => firstArrivalMs)).toEqual([ARRIVAL + 1]);
    await shard.end(await shard.begin(6, 8), 6, 8);
    await shard.end(await shard.begin(9, 10), 9, 10);
    expect((await shard.state()).open).toEqual([]);
  });

  it("that begins between control's look and its move holds the seal, if its lane has fallen behind", async () => {
    const shard = shardOf();
    const stream = { name: shard.stream, allowedLatenessMs: 120_000, baseMs: 60_000 };
    const late = { shard: "s", firstSequence: "7", firstArrivalMs: 600_500, lastSequence: "9" };
    await watermark.register(shard.stream, late, [], late.firstArrivalMs - stream.allowedLatenessMs);
    expect(await watermark.announce(stream, 900_000, [{ id: "other" }])).toMatchObject({ sealMs: 900_000 });
    expect(await watermark.announce(stream, 960_000, [{ id: "s" }])).toBeNull();
    await watermark.settle(shard.stream, 0, 900_000);
    expect(await watermark.announce(stream, 960_000, [{ id: "s" }])).toMatchObject({ sealMs: 480_000 });
    await watermark.settle(shard.stream, 480_000, 480_000);
    // And the other way round: it does not begin while the seal passes what it may hold.
    expect(await watermark.announce(stream, 540_000, [])).toMatchObject({ sealMs: 540_000 });
    const again = { ...late, firstSequence: "17", lastSequence: "19" };
    await expect(watermark.register(shard.stream, again, [], 480_500)).rejects.toThrow(
      /the seal of .* is moving past late events of this batch/,
    );
    await watermark.settle(shard.stream, 540_000, 540_000);
    await watermark.register(shard.stream, again, [], 480_500);
  });

  it("leave nothing behind of one that failed in their middle", async () => {
    const shard = shardOf();
    await shard.end(await shard.begin(1, 4), 1, 4);
    await shard.begin(5, 10); // killed
    await shard.end(await shard.begin(3, 8), 3, 8);
    expect((await shard.state()).open).toEqual(["10-10"]);
    await shard.end(await shard.begin(9, 14), 9, 14);
    expect(await shard.state()).toEqual({ done: 14, open: [] });
  });

  it("leave nothing behind under any cuts, failures, zombies and lost checkpoints, and never run ahead of the work", async () => {
    const step = fc.record({
      size: fc.integer({ min: 1, max: 8 }),
      what: fc.constantFrom("success", "success", "failure", "zombie", "part", "lost checkpoint"),
      back: fc.nat(12),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
        const shard = shardOf();
        const TOTAL = 40;
        let at = 1;
        let done = 0;
        const zombies: { stamp: number; first: number; last: number }[] = [];
        const applied = new Set<number>();
        const check = async () => {
          const state = await watermark.read(shard.stream);
          const shards = [{ id: "shard-0", parents: [], closed: false }];
          const reached = committedArrival({ ...state, originMs: ARRIVAL }, shards, ARRIVAL);
          if (reached === null) return;
          // Whatever arrived before that moment is done.
          for (let n = 1; n < reached - ARRIVAL; n++) expect(applied.has(n)).toBe(true);
        };
        const deliver = async (first: number, last: number, what: string) => {
          const stamp = await shard.begin(first, last);
          if (what === "failure") return;
          const end = what === "part" ? Math.max(first, Math.floor((first + last) / 2)) : last;
          for (let n = first; n <= end; n++) applied.add(n);
          if (what === "zombie") {
            zombies.push({ stamp, first, last });
            return;
          }
          await shard.end(stamp, first, end, end < last ? last : null);
          if (what !== "lost checkpoint") done = Math.max(done, end);
          at = end + 1;
        };
        for (const { size, what, back } of steps) {
          if (at > TOTAL) break;
          await deliver(at, Math.min(TOTAL, at + size - 1), what);
          if (what === "lost checkpoint") at = Math.max(1, at - back);
          if (zombies.length > 0 && back % 3 === 0) {
            const { stamp, first, last } = zombies.shift()!;
            await shard.end(stamp, first, last);
          }
          await check();
        }
        while (at <= TOTAL) await deliver(at, Math.min(TOTAL, at + 6), "success");
        for (const { stamp, first, last } of zombies) await shard.end(stamp, first, last);
        await check();
        expect(await shard.state()).toEqual({ done: TOTAL, open: [] });
      }),
      { numRuns: 150 },
    );
  });
});

describe("what nobody will clear", () => {
  it("is forgotten when it was given up, and what a shard has acknowledged that is listed no more; the rest stays", async () => {
    const shard = shardOf();
    await shard.begin(1, 10);
    await watermark.register(shard.stream, { shard: "gone", firstSequence: "1", firstArrivalMs: 1, lastSequence: "2" });
    await watermark.clear(shard.stream, "gone-too", ["1"], ARRIVAL, null, 0);
    const shards = [{ id: "shard-0", parents: [], closed: false }];
    const forget = async (nowMs: number) =>
      watermark.forget(shard.stream, await watermark.read(shard.stream), shards, nowMs);
    await forget(Date.now() + 5 * HOUR);
    // A batch of a shard that is gone may be delivered again by a replay: it holds the seal until that is over.
    const fields = async () => (await admin.hkeys(watermarkKey(shard.stream))).sort();
    expect(await fields()).toEqual(["o:gone:1", "o:shard-0:0001", "t:gone", "t:gone-too", "t:shard-0"]);
    await forget(Date.now() + 7 * HOUR);
    expect(await fields()).toEqual(["t:shard-0"]);
  });

  it("is not forgotten when it was renewed meanwhile", async () => {
    const shard = shardOf();
    await shard.begin(1, 10);
    const seen = await watermark.read(shard.stream);
    await shard.begin(1, 10);
    await watermark.forget(shard.stream, seen, [{ id: "shard-0", parents: [], closed: false }], Date.now() + 7 * HOUR);
    expect((await shard.state()).open).toEqual(["1-10"]);
  });

  it("is gone after a restart, from which on acknowledgements count anew", async () => {
    const shard = shardOf();
    await shard.end(await shard.begin(1, 10), 1, 10);
    await shard.begin(11, 20);
    await watermark.restart(shard.stream, ARRIVAL + 99);
    expect(await watermark.read(shard.stream)).toEqual({
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
    expect((await watermark.read(stream)).originMs).toBeNull();
    await watermark.begin(stream, 5);
    await watermark.begin(stream, 9);
    expect((await watermark.read(stream)).originMs).toBe(5);
  });
});
