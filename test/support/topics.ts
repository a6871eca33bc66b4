/** Topics of one test file on the run's node of Kafka. */
import { randomUUID } from "node:crypto";
import { Admin } from "@platformatic/kafka";
import type { KafkaSettings } from "../../adapters/broker/open-broker.ts";
import { connectionOptions } from "../../adapters/kafka/connection.ts";

export interface TestTopics {
  readonly admin: Admin;
  /** @param configs of the topic; stamped with its arrivals unless they say otherwise */
  readonly create: (partitions: number, configs?: Readonly<Record<string, string>>) => Promise<string>;
  readonly close: () => Promise<void>;
}

export const testSettings = (bootstrapServers: string): KafkaSettings => ({
  ...{ kind: "kafka", bootstrapServers, auth: null, region: "us-east-1" },
});

export function openTopics(settings: KafkaSettings): TestTopics {
  const admin = new Admin(connectionOptions(settings, 20));
  return {
    admin,
    async create(partitions, configs = {}) {
      const topic = `test-${randomUUID()}`;
      await admin.createTopics({
        ...{ topics: [topic], partitions, replicas: 1 },
        configs: Object.entries({ "message.timestamp.type": "LogAppendTime", ...configs }).map(([name, value]) => ({
          ...{ name, value },
        })),
      });
      return topic;
    },
    close: () => admin.close(),
  };
}
