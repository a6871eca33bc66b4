/** Registrations of shards on a real Valkey. */
import { Redis } from "iovalkey";
import { afterAll, beforeAll } from "vitest";
import { ValkeyConnection } from "../../adapters/valkey/connection.ts";
import { type BatchSpan, Watermark } from "../../adapters/valkey/watermark.ts";
import { startValkey, type TestValkey } from "./valkey.ts";

export const ARRIVAL = 1_767_700_000_000;
interface WatermarkWorld {
  valkey: TestValkey;
  connection: ValkeyConnection;
  admin: Redis;
  watermark: Watermark;
}
const world = {} as WatermarkWorld;
let streams = 0;

/** Registers the set-up of a file of tests. */
export function useWatermark(): WatermarkWorld {
  beforeAll(async () => {
    world.valkey = await startValkey();
    world.connection = new ValkeyConnection(world.valkey);
    world.admin = new Redis({ host: world.valkey.host, port: world.valkey.port });
    world.watermark = new Watermark(world.connection);
  });
  afterAll(async () => {
    world.admin?.disconnect();
    await world.connection?.close();
    await world.valkey?.stop();
  });
  return world;
}

/** One shard of a stream of its own; a record's sequence is its number, and it arrives that many ms after the first. */
export function shardOf(shard = "shard-0") {
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
    begin: (first: number, last: number) => world.watermark.register(stream, span(first, last)),
    /** Acknowledges `first` to `last` of a delivery; what follows up to `end` is registered again. */
    end: (stamp: number, first: number, last: number, end: number | null = null) =>
      world.watermark.clear(
        stream,
        shard,
        numbers(first, last).map(sequence),
        ARRIVAL + last,
        end === null ? null : span(last + 1, end),
        stamp,
      ),
    async state() {
      const { committed, outstanding } = await world.watermark.read(stream);
      return {
        done: committed.has(shard) ? committed.get(shard)! - ARRIVAL : null,
        open: outstanding
          .map(({ firstSequence, lastSequence }) => `${Number(firstSequence)}-${Number(lastSequence)}`)
          .sort(),
      };
    },
  };
}
