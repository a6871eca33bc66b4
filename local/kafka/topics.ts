/** Topics of a laptop's Kafka, as the stage has streams. */
import { Admin } from "@platformatic/kafka";
import type { KafkaSettings } from "../../adapters/broker/open-broker.ts";
import { connectionOptions } from "../../adapters/kafka/connection.ts";
import { bootstrapOf } from "./broker.ts";

/** Of the stage `local`: partitions of a topic, and how long it holds what came. */
export const PARTITIONS = 2;
const RETENTION_HOURS = 24;
const REPLICAS = 1;

const kafkaSettings = (port: number): KafkaSettings => ({
  ...{ kind: "kafka", bootstrapServers: bootstrapOf(port), auth: null },
  region: "us-east-1",
});

/** Makes those that are not there; one that is there stays as it is. */
export async function ensureTopics(port: number, topics: readonly string[]): Promise<void> {
  await withAdmin(port, 10, async (admin) => {
    const present = await admin.listTopics();
    const missing = topics.filter((topic) => !present.includes(topic));
    if (missing.length === 0) return;
    await admin.createTopics({
      ...{ topics: missing, partitions: PARTITIONS, replicas: REPLICAS },
      configs: [
        { name: "message.timestamp.type", value: "LogAppendTime" },
        { name: "retention.ms", value: String(RETENTION_HOURS * 3_600_000) },
      ],
    });
  });
}

/** Whether a node answers and knows its cluster. */
export async function pingKafka(port: number): Promise<boolean> {
  return withAdmin(port, 0, async (admin) => (await admin.metadata({ topics: [] })).brokers.size > 0);
}

async function withAdmin<T>(port: number, retries: number, work: (admin: Admin) => Promise<T>): Promise<T> {
  const admin = new Admin(connectionOptions(kafkaSettings(port), retries));
  try {
    return await work(admin);
  } finally {
    await admin.close().catch(() => {});
  }
}
