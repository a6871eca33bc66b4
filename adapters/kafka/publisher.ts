/**
 * Sends events to topics, one record an event, so that other consumers of a topic read it with any client. Acknowledged by all replicas in
 * sync. Not an idempotent producer: an event that is written twice counts once by its identity, whoever wrote it, and retries end in time.
 */
import {
  compatibilityPartitioner,
  findErrorBy,
  type MessageToProduce,
  ProduceAcks,
  Producer,
} from "@platformatic/kafka";
import type { OutgoingRecord, Publisher, PublishOutcome } from "../broker/broker.ts";
import type { KafkaSettings } from "../broker/open-broker.ts";
import { createPublisher, type PublishingOptions } from "../broker/publishing.ts";
import { assertReachable, connectionOptions } from "./connection.ts";

/** A part may all go to one partition, and a batch of a partition is 1 MiB at most unless the topic says otherwise. */
const LIMITS = { records: 500, bytes: 1_000_000 };
/** A caller waits: an attempt ends in time for another one. */
const IMPATIENT = { connectTimeout: 1_000, requestTimeout: 1_500, timeout: 1_200 };

/** @throws FreshetError `kafka_settings` */
export function createKafkaPublisher(settings: KafkaSettings, options: PublishingOptions): Publisher {
  const producer = new Producer({ ...connectionOptions(settings, 0), ...IMPATIENT, acks: ProduceAcks.ALL });

  async function outcomeOf(messages: MessageToProduce[]): Promise<PublishOutcome> {
    try {
      await producer.send({ acks: ProduceAcks.ALL, messages });
      return "queued";
    } catch (error) {
      return findErrorBy(error as Error, "apiId", "THROTTLING_QUOTA_EXCEEDED") === null ? "unavailable" : "throttled";
    }
  }

  return createPublisher(
    async (topic, records) => {
      try {
        const metadata = await producer.metadata({ topics: [topic] });
        assertReachable(settings, metadata);
        const count = metadata.topics.get(topic)!.partitionsCount;
        const messages = records.map((record) => messageOf(topic, count, record));
        // By partition: what one refuses says nothing of the others, and is sent again without them.
        const sent = new Map<number, Promise<PublishOutcome>>();
        for (const [partition, own] of Map.groupBy(messages, ({ partition }) => partition)) {
          sent.set(partition, outcomeOf(own));
        }
        return Promise.all(messages.map(({ partition }) => sent.get(partition)!));
      } catch {
        return records.map(() => "unavailable");
      }
    },
    LIMITS,
    options,
  );
}

/** On the partition where Kafka's own clients put this key. */
function messageOf(topic: string, partitions: number, { data, partitionKey }: OutgoingRecord) {
  const key = Buffer.from(partitionKey);
  const value = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  const message = { topic, key, value };
  return { ...message, partition: compatibilityPartitioner(message, key) % partitions };
}
