/** A deployment's topics, on a real node. */
import { randomUUID } from "node:crypto";
import { Admin, ConfigResourceTypes } from "@platformatic/kafka";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import type { KafkaSettings } from "../../../adapters/broker/open-broker.ts";
import { ensureTopics, type TopicSettings } from "../../../adapters/kafka/topics.ts";
import { ENVIRONMENT } from "../../../functions/shared/environment.ts";

const settings: KafkaSettings = { kind: "kafka", bootstrapServers: inject("kafka"), auth: null, region: "us-east-1" };
let admin: Admin;
beforeAll(() => {
  admin = new Admin({ clientId: "test", bootstrapBrokers: [inject("kafka")], retries: 5 });
});
afterAll(() => admin.close());

const wanted = (partitions = 2, more: Partial<TopicSettings["configuration"]> = {}): TopicSettings => ({
  ...{ name: `topics-${randomUUID()}`, partitions, replication: 1 },
  configuration: { "message.timestamp.type": "LogAppendTime", "retention.ms": "3600000", ...more } as Record<
    string,
    string
  >,
});

/** A node tells of a change a moment after it was acknowledged. */
const soon = <T>(see: () => Promise<T>) => expect.poll(see, { timeout: 60_000 });

async function partitionsOf(topic: string): Promise<number> {
  return (await admin.metadata({ topics: [topic], forceUpdate: true })).topics.get(topic)!.partitionsCount;
}
async function configurationOf(topic: string, ...names: string[]): Promise<(string | null | undefined)[]> {
  const resource = { resourceType: ConfigResourceTypes.TOPIC, resourceName: topic, configurationKeys: names };
  const [{ configs }] = await admin.describeConfigs({ resources: [resource] });
  return names.map((name) => configs.find((config) => config.name === name)?.value);
}

describe("topics of a deployment", () => {
  test("are made with their partitions and configuration", async () => {
    const [one, other] = [wanted(2), wanted(3)];
    expect(await ensureTopics(settings, [one, other])).toEqual({ made: [one.name, other.name], widened: [] });
    await soon(() => partitionsOf(one.name)).toBe(2);
    await soon(() => partitionsOf(other.name)).toBe(3);
    await soon(() => configurationOf(one.name, "message.timestamp.type", "retention.ms")).toEqual([
      "LogAppendTime",
      "3600000",
    ]);
  });

  test("are the same after a second time, and get what is new to them", async () => {
    const topic = wanted(1);
    await ensureTopics(settings, [topic]);
    expect(await ensureTopics(settings, [topic])).toEqual({ made: [], widened: [] });
    const changed = { ...topic, partitions: 4, configuration: { "retention.ms": "7200000" } };
    expect(await ensureTopics(settings, [changed])).toEqual({ made: [], widened: [topic.name] });
    await soon(() => partitionsOf(topic.name)).toBe(4);
    // What is not named stays.
    await soon(() => configurationOf(topic.name, "message.timestamp.type", "retention.ms")).toEqual([
      "LogAppendTime",
      "7200000",
    ]);
  });

  test("that have more partitions than they are to have keep them", async () => {
    const topic = wanted(3);
    await ensureTopics(settings, [topic]);
    expect(await ensureTopics(settings, [{ ...topic, partitions: 1 }])).toEqual({ made: [], widened: [] });
    await soon(() => partitionsOf(topic.name)).toBe(3);
  });

  test("are made once by two that make them at the same time", async () => {
    const topic = wanted(2);
    const made = await Promise.all([1, 2, 3].map(() => ensureTopics(settings, [topic])));
    expect(made.flatMap((changes) => changes.made)).toEqual([topic.name]);
    await soon(() => partitionsOf(topic.name)).toBe(2);
  });

  test("that Kafka refuses are refused to whoever deploys", async () => {
    await expect(ensureTopics(settings, [wanted(1, { "retention.ms": "soon" })])).rejects.toThrow();
  });
});

test("CloudFormation's request makes them, and its removal of the resource removes none", async () => {
  const topic = wanted(2);
  process.env[ENVIRONMENT.broker] = "kafka";
  process.env[ENVIRONMENT.bootstrapServers] = inject("kafka");
  const { handler } = await import("../../../functions/topics.ts");
  const event = (RequestType: "Create" | "Delete") => ({
    ...{ RequestType, ResourceProperties: { ServiceToken: "arn:p", Topics: JSON.stringify([topic]) } },
  });
  expect(await handler(event("Create"))).toEqual({ PhysicalResourceId: "freshet-topics" });
  await soon(() => partitionsOf(topic.name)).toBe(2);
  expect(await handler(event("Delete"))).toEqual({ PhysicalResourceId: "freshet-topics" });
  await soon(() => partitionsOf(topic.name)).toBe(2);
});
