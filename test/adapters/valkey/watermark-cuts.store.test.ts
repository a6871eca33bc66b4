/** Registrations that are heard of late, and batches that a mapping cuts anew after a lost checkpoint, on a real Valkey. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Answer, type Command, ValkeyConnection } from "../../../adapters/valkey/connection.ts";
import { committedArrival, Watermark, watermarkKey } from "../../../adapters/valkey/watermark.ts";
import { ARRIVAL, shardOf, useWatermark } from "../../support/watermark-world.ts";

const world = useWatermark();

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
  })(world.valkey);
  const failed = new Watermark(frozen).register(shard.stream, shard.span(first, last), lateStarts).catch(() => {});
  return {
    arrives: async () => {
      await failed;
      return world.connection.demand(sent);
    },
  };
}

describe("a registration that is heard of late", () => {
  const held = async (shard: ReturnType<typeof shardOf>) => {
    const { bounds } = await world.watermark.read(shard.stream);
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
    await world.watermark.restart(shard.stream, ARRIVAL);
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
        return world.connection.demand(commands);
      }
    })(world.valkey);
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
    await world.admin.hset(watermarkKey(shard.stream), "t:shard-0", `0010:${ahead}`);
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
    const state = await world.watermark.read(shard.stream);
    expect(state.outstanding.map(({ firstArrivalMs }) => firstArrivalMs)).toEqual([ARRIVAL + 1]);
    await shard.end(await shard.begin(6, 8), 6, 8);
    await shard.end(await shard.begin(9, 10), 9, 10);
    expect((await shard.state()).open).toEqual([]);
  });

  it("that begins between control's look and its move holds the seal, if its lane has fallen behind", async () => {
    const shard = shardOf();
    const stream = { name: shard.stream, allowedLatenessMs: 120_000, baseMs: 60_000 };
    const late = { shard: "s", firstSequence: "7", firstArrivalMs: 600_500, lastSequence: "9" };
    await world.watermark.register(shard.stream, late, [], late.firstArrivalMs - stream.allowedLatenessMs);
    expect(await world.watermark.announce(stream, 900_000, [{ id: "other" }])).toMatchObject({ sealMs: 900_000 });
    expect(await world.watermark.announce(stream, 960_000, [{ id: "s" }])).toBeNull();
    await world.watermark.settle(shard.stream, 0, 900_000);
    expect(await world.watermark.announce(stream, 960_000, [{ id: "s" }])).toMatchObject({ sealMs: 480_000 });
    await world.watermark.settle(shard.stream, 480_000, 480_000);
    // And the other way round: it does not begin while the seal passes what it may hold.
    expect(await world.watermark.announce(stream, 540_000, [])).toMatchObject({ sealMs: 540_000 });
    const again = { ...late, firstSequence: "17", lastSequence: "19" };
    await expect(world.watermark.register(shard.stream, again, [], 480_500)).rejects.toThrow(
      /the seal of .* is moving past late events of this batch/,
    );
    await world.watermark.settle(shard.stream, 540_000, 540_000);
    await world.watermark.register(shard.stream, again, [], 480_500);
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
          const state = await world.watermark.read(shard.stream);
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
