/** Topics as a deployment says they are: made where they are missing, and changed where they say otherwise. None is removed. */
import { setTimeout as sleep } from "node:timers/promises";
import { Admin, ConfigResourceTypes, findErrorBy, IncrementalAlterConfigOperationTypes } from "@platformatic/kafka";
import type { KafkaSettings } from "../broker/open-broker.ts";
import { assertReachable, connectionOptions } from "./connection.ts";

const KNOWN_WITHIN_MS = 30_000;
const KNOWN_POLL_MS = 100;

export interface TopicSettings {
  readonly name: string;
  /** At least. Kafka cannot take any away. */
  readonly partitions: number;
  /** Of one that is made; that of one that is there is left as it is. */
  readonly replication: number;
  /** Name to value, as Kafka has them. */
  readonly configuration: Readonly<Record<string, string>>;
}

export interface TopicChanges {
  readonly made: readonly string[];
  /** Those that got more partitions. */
  readonly widened: readonly string[];
}

/**
 * Safe to repeat, and beside another that does the same.
 * @throws FreshetError `kafka_settings`, and what the client throws
 */
export async function ensureTopics(settings: KafkaSettings, topics: readonly TopicSettings[]): Promise<TopicChanges> {
  const admin = new Admin(connectionOptions(settings));
  try {
    assertReachable(settings, await admin.metadata({ topics: [] }));
    const present = new Set(await admin.listTopics());
    const made: string[] = [];
    const widened: string[] = [];
    for (const topic of topics) {
      if (!present.has(topic.name) && (await make(admin, topic))) made.push(topic.name);
      else if (await widen(admin, topic)) widened.push(topic.name);
      await configure(admin, topic);
    }
    return { made, widened };
  } finally {
    await admin.close();
  }
}

/** @returns false when another has made it meanwhile */
async function make(admin: Admin, { name, partitions, replication, configuration }: TopicSettings): Promise<boolean> {
  try {
    const configs = Object.entries(configuration).map(([key, value]) => ({ name: key, value }));
    await admin.createTopics({ topics: [name], partitions, replicas: replication, configs });
    return true;
  } catch (error) {
    if (findErrorBy(error as Error, "apiId", "TOPIC_ALREADY_EXISTS") === null) throw error;
    await known(admin, name);
    return false;
  }
}

/** The controller knows of a topic before the brokers do. */
async function known(admin: Admin, name: string): Promise<void> {
  const deadline = Date.now() + KNOWN_WITHIN_MS;
  while (!(await admin.listTopics()).includes(name) && Date.now() < deadline) await sleep(KNOWN_POLL_MS);
}

async function widen(admin: Admin, { name, partitions }: TopicSettings): Promise<boolean> {
  const has = await partitionsOf(admin, name);
  if (has >= partitions) return false;
  try {
    await admin.createPartitions({ topics: [{ name, count: partitions, assignments: null }] });
    return true;
  } catch (error) {
    if ((await partitionsOf(admin, name)) >= partitions) return false;
    throw error;
  }
}

async function partitionsOf(admin: Admin, name: string): Promise<number> {
  return (await admin.metadata({ topics: [name], forceUpdate: true })).topics.get(name)!.partitionsCount;
}

/** Only what is named: what somebody else has set stays. */
async function configure(admin: Admin, { name, configuration }: TopicSettings): Promise<void> {
  const configs = Object.entries(configuration).map(([key, value]) => ({
    ...{ name: key, value },
    configOperation: IncrementalAlterConfigOperationTypes.SET,
  }));
  const resource = { resourceType: ConfigResourceTypes.TOPIC, resourceName: name, configs };
  await admin.incrementalAlterConfigs({ resources: [resource] });
}
