/**
 * Kafka as a broker. A partition never closes and has no parents; one that is added later is a shard as any other. Offsets have
 * gaps (control records, compaction), so they are only compared.
 */
import { Admin, ConfigResourceTypes, ListOffsetTimestamps, ProduceAcks, Producer } from "@platformatic/kafka";
import { FreshetError, InfrastructureError } from "../../core/errors.ts";
import type { Broker } from "../broker/broker.ts";
import type { KafkaSettings } from "../broker/open-broker.ts";
import { assertReachable, connectionOptions } from "./connection.ts";
import { createReader, offsetsAt, readPartition } from "./topic-reader.ts";

const TIME_TYPE = "message.timestamp.type";
const CLEANUP = "cleanup.policy";

/** @throws FreshetError `kafka_settings` */
export function kafkaBroker(settings: KafkaSettings): Broker {
  const options = connectionOptions(settings);
  const admin = new Admin(options);
  const producer = new Producer({ ...options, acks: ProduceAcks.ALL });
  const consumer = createReader(settings);

  /** @throws FreshetError `topic_unsuitable` */
  async function assertSuitable(topic: string): Promise<void> {
    const resource = { resourceType: ConfigResourceTypes.TOPIC, resourceName: topic };
    const [described] = await admin.describeConfigs({
      resources: [{ ...resource, configurationKeys: [TIME_TYPE, CLEANUP] }],
    });
    const settingOf = (name: string) => described.configs.find((config) => config.name === name)?.value ?? "";
    if (settingOf(TIME_TYPE) !== "LogAppendTime") {
      throw unsuitable(topic, TIME_TYPE, settingOf(TIME_TYPE), "LogAppendTime", "arrivals are given by the broker");
    }
    if (settingOf(CLEANUP) !== "delete") {
      throw unsuitable(
        topic,
        CLEANUP,
        settingOf(CLEANUP),
        "delete",
        "events of one key are not versions of each other",
      );
    }
  }

  return {
    async list(topic) {
      const metadata = await consumer.metadata({ topics: [topic], forceUpdate: true });
      assertReachable(settings, metadata);
      await assertSuitable(topic);
      const starts = await offsetsAt(consumer, topic, ListOffsetTimestamps.EARLIEST);
      const oldest = await offsetsAt(consumer, topic, 0n);
      const nowMs = Date.now();
      const oldestMs = (partition: number): number => {
        const timestamp = oldest.get(partition)?.timestamp ?? -1n;
        return timestamp < 0n ? nowMs : Number(timestamp);
      };
      const partitions = [...starts.keys()].sort((a, b) => a - b);
      // A partition that still begins with its first offset has lost nothing.
      const trimmed = partitions.filter((partition) => starts.get(partition)!.offset > 0n);
      return {
        createdAtMs: Math.min(nowMs, ...partitions.map(oldestMs)),
        heldSinceMs: Math.max(Number.NEGATIVE_INFINITY, ...trimmed.map(oldestMs)),
        shards: partitions.map((partition) => ({ id: String(partition), parents: [], closed: false })),
      };
    },

    async putOnEveryShard(topic, shards, data) {
      const value = Buffer.from(data);
      const sent = await Promise.allSettled(
        shards.map(({ id }) =>
          producer.send({ acks: ProduceAcks.ALL, messages: [{ topic, partition: Number(id), value }] }),
        ),
      );
      const refused = shards.filter((_, i) => sent[i].status === "rejected");
      if (refused.length === 0) return;
      throw new InfrastructureError(
        "heartbeat_unsent",
        `${refused.length} partitions of ${topic} took no heartbeat, the first is ${refused[0].id}`,
        {
          repair: "none needed if it passes: the seal waits for the next minute; else look after the brokers",
          cause: sent.find((one) => one.status === "rejected")?.reason,
        },
      );
    },

    readShard: (topic, shard, from) => readPartition(settings, topic, Number(shard), from),

    async waitingAfter(topic, sinceMs) {
      const ends = await offsetsAt(consumer, topic, ListOffsetTimestamps.LATEST);
      const starts = await offsetsAt(consumer, topic, sinceMs === null ? 0n : BigInt(sinceMs + 1));
      let records = 0;
      let oldestMs = Number.POSITIVE_INFINITY;
      for (const [partition, { offset, timestamp }] of starts) {
        if (offset < 0n) continue;
        records += Number(ends.get(partition)!.offset - offset);
        oldestMs = Math.min(oldestMs, Number(timestamp));
      }
      return { records, oldestMs };
    },

    async close() {
      await Promise.all([admin.close(), producer.close(true), consumer.close(true)]);
    },
  };
}

const unsuitable = (topic: string, name: string, given: string, wanted: string, why: string): FreshetError =>
  new FreshetError("topic_unsuitable", `topic ${topic} has ${name}=${given || "unknown"}; ${why}, so it is ${wanted}`, {
    repair: `set ${name}=${wanted} on the topic`,
  });
