/**
 * Baselines for the aggregate: what a team writes first. Counters in hashes, one bucket a hop, pipelined. A retry counts
 * twice, nothing is ever removed, and min and max are left out (they need a script): all in the baseline's favour.
 */
import { EventCodec } from "../adapters/avro/event-codec.ts";
import type { ValkeyConnection } from "../adapters/valkey/connection.ts";

const BATCH = 1_000;
const HOPS_MS = [60_000, 300_000, 3_600_000];
const ENTITIES = [
  { name: "card", joinKey: "card_id" },
  { name: "merchant", joinKey: "merchant_id" },
  { name: "device", joinKey: "device_id" },
] as const;

export async function applyByHand(connection: ValkeyConnection, records: readonly Buffer[]): Promise<void> {
  const codec = EventCodec.for("transactions.v1");
  const [client] = await connection.primaries();
  for (let from = 0; from < records.length; from += BATCH) {
    const pipeline = client.pipeline();
    for (const bytes of records.slice(from, from + BATCH)) {
      const { fields } = codec.decode(bytes);
      const eventTimeMs = fields["event_time"] as number;
      const minor = Math.round((fields["amount"] as number) * 100);
      for (const { name, joinKey } of ENTITIES) {
        const key = `${name}:${fields[joinKey]}`;
        for (const hopMs of HOPS_MS) {
          const bucket = `${hopMs}:${Math.floor(eventTimeMs / hopMs)}`;
          pipeline.hincrby(key, `${bucket}:n`, 1);
          pipeline.hincrby(key, `${bucket}:sum`, minor);
        }
      }
    }
    for (const [error] of (await pipeline.exec())!) if (error) throw error;
  }
}

const EMPTY = "#!lua name=freshet_bench\nredis.register_function('freshet_bench_empty', function() return 0 end)";

export async function loadEmptyFunction(connection: ValkeyConnection): Promise<void> {
  const [client] = await connection.primaries();
  await client.call("FUNCTION", "LOAD", "REPLACE", EMPTY);
}

/** One call for each event: what a call costs before it does anything. */
export async function callEmptyFunction(connection: ValkeyConnection, events: number): Promise<void> {
  const [client] = await connection.primaries();
  for (let from = 0; from < events; from += BATCH) {
    const pipeline = client.pipeline();
    for (let i = from; i < Math.min(from + BATCH, events); i++)
      pipeline.call("FCALL", "freshet_bench_empty", "1", "key");
    for (const [error] of (await pipeline.exec())!) if (error) throw error;
  }
}
