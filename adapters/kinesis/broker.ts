/** Kinesis as a broker. */
import type { KinesisClient } from "@aws-sdk/client-kinesis";
import type { Broker } from "../broker/broker.ts";
import { readShard, waitingAfter } from "./reader.ts";
import { listStream, putOnEveryShard } from "./shards.ts";

/** @param client is the broker's from now on: `close` destroys it */
export const kinesisBroker = (client: KinesisClient): Broker => ({
  async list(stream) {
    const { createdAtMs, retentionMs, shards } = await listStream(client, stream);
    const reachesMs = Date.now() - retentionMs;
    return { createdAtMs, heldSinceMs: createdAtMs >= reachesMs ? Number.NEGATIVE_INFINITY : reachesMs, shards };
  },
  putOnEveryShard: (stream, shards, data) => putOnEveryShard(client, stream, shards, data),
  readShard: (stream, shard, from) => readShard(client, stream, shard, from),
  async waitingAfter(stream, sinceMs) {
    const { shards } = await listStream(client, stream);
    return waitingAfter(
      client,
      stream,
      shards.map(({ id }) => id),
      sinceMs,
    );
  },
  async close() {
    client.destroy();
  },
});
