/** How a producer hands events to each broker: one call, acknowledged as a whole. */
import { hash } from "node:crypto";
import { PutRecordsCommand } from "@aws-sdk/client-kinesis";
import { compatibilityPartitioner, ProduceAcks, Producer } from "@platformatic/kafka";
import type { BrokerSettings } from "../adapters/broker/open-broker.ts";
import { connectionOptions } from "../adapters/kafka/connection.ts";
import { createKinesisClient } from "../adapters/kinesis/client.ts";
import { KplPacker } from "../adapters/kinesis/kpl.ts";

export interface Keyed {
  readonly key: string;
  readonly bytes: Buffer;
}

export interface Carrier {
  /** @throws Error unless the broker has acknowledged all */
  send(batch: readonly Keyed[]): Promise<void>;
  close(): Promise<void>;
}

/** Equal ranges of the hash space, so that packed records reach every shard. */
const LANES = 4;
const LANE_KEYS = Array.from({ length: LANES }, (_, i) => String(((2n * BigInt(i) + 1n) << 127n) / BigInt(LANES)));

/**
 * @param stream the broker's name of it
 * @param packed by KPL, which only Kinesis has use for: a batch of Kafka's protocol packs already
 */
export function openCarrier(settings: BrokerSettings, stream: string, packed: boolean): Carrier {
  if (settings.kind === "kafka") {
    const producer = new Producer({
      ...connectionOptions(settings, 0),
      ...{ acks: ProduceAcks.ALL, partitioner: compatibilityPartitioner },
    });
    return {
      async send(batch) {
        const messages = batch.map(({ key, bytes }) => ({ topic: stream, key: Buffer.from(key), value: bytes }));
        await producer.send({ acks: ProduceAcks.ALL, messages });
      },
      close: () => producer.close(true),
    };
  }
  const client = createKinesisClient(settings.client);
  return {
    async send(batch) {
      const Records = packed ? pack(batch) : batch.map(({ key, bytes }) => ({ Data: bytes, PartitionKey: key }));
      const answer = await client.send(new PutRecordsCommand({ StreamName: stream, Records }));
      if (answer.FailedRecordCount) throw new Error(`the broker refused ${answer.FailedRecordCount} records`);
    },
    close: async () => client.destroy(),
  };
}

function pack(batch: readonly Keyed[]) {
  const packers = Array.from({ length: LANES }, () => new KplPacker());
  const records: { Data: Buffer; PartitionKey: string; ExplicitHashKey: string }[] = [];
  const flush = (lane: number): void => {
    if (packers[lane].count === 0) return;
    records.push({ Data: packers[lane].take(), PartitionKey: "a", ExplicitHashKey: LANE_KEYS[lane] });
  };
  for (const { key, bytes } of batch) {
    const lane = hash("md5", key, "buffer")[0] >> 6;
    if (packers[lane].add(key, bytes)) continue;
    flush(lane);
    packers[lane].add(key, bytes);
  }
  for (let lane = 0; lane < LANES; lane++) flush(lane);
  return records;
}
