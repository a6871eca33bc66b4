/** Kafka behind the port: what any broker does, and what only a topic can do to it. */
import { setTimeout as sleep } from "node:timers/promises";
import { CompressionAlgorithms, ListOffsetTimestamps, ProduceAcks, Producer } from "@platformatic/kafka";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import type { Broker, ShardRecord } from "../../../adapters/broker/broker.ts";
import { kafkaBroker } from "../../../adapters/kafka/broker.ts";
import { connectionOptions } from "../../../adapters/kafka/connection.ts";
import { createKafkaPublisher } from "../../../adapters/kafka/publisher.ts";
import { createReader, offsetsAt } from "../../../adapters/kafka/topic-reader.ts";
import { anyFreePort } from "../../../local/ports.ts";
import { openTopics, type TestTopics, testSettings } from "../../support/topics.ts";
import { type BrokerWorld, describeBroker } from "../broker/broker-contract.ts";

const settings = testSettings(inject("kafka"));
let topics: TestTopics;
let broker: Broker;
let world: BrokerWorld;
let producer: Producer;

beforeAll(async () => {
  topics = openTopics(settings);
  broker = kafkaBroker(settings);
  producer = new Producer({ ...connectionOptions(settings, 20), acks: ProduceAcks.ALL });
  const nowhere = testSettings(`127.0.0.1:${await anyFreePort()}`);
  world = {
    create: (partitions) => topics.create(partitions),
    broker,
    publisher: (streamNames, budgetMs = 30_000) => createKafkaPublisher(settings, { streamNames, budgetMs }),
    unreachable: (streamNames) => createKafkaPublisher(nowhere, { streamNames, budgetMs: 0 }),
  };
});
afterAll(async () => {
  await producer?.close(true);
  await topics?.close();
});

describeBroker(() => world);

async function read(topic: string, partition = 0, from: number | string | null = null): Promise<ShardRecord[]> {
  const found: ShardRecord[] = [];
  for await (const batch of broker.readShard(topic, String(partition), from)) found.push(...batch);
  return found;
}
const texts = (records: readonly ShardRecord[]) => records.map(({ data }) => Buffer.from(data).toString());
const put = (topic: string, ...values: string[]) =>
  producer.send({ messages: values.map((value) => ({ topic, partition: 0, value: Buffer.from(value) })) });

describe("a topic", () => {
  test.each([
    [
      { "message.timestamp.type": "CreateTime" },
      "message.timestamp.type=CreateTime",
      "message.timestamp.type=LogAppendTime",
    ],
    [{ "cleanup.policy": "compact" }, "cleanup.policy=compact", "cleanup.policy=delete"],
    [{ "cleanup.policy": "compact,delete" }, "cleanup.policy=compact,delete", "cleanup.policy=delete"],
  ])("that would lose arrivals or events is refused: %j", async (configs, given, repair) => {
    const topic = await topics.create(1, configs);
    await expect(broker.list(topic)).rejects.toMatchObject({
      code: "topic_unsuitable",
      message: expect.stringContaining(`topic ${topic} has ${given}`),
      repair: `set ${repair} on the topic`,
    });
  });

  test("gives arrivals of its own, whatever time a producer claims", async () => {
    const topic = await topics.create(1);
    const beforeMs = Date.now();
    await producer.send({ messages: [{ topic, partition: 0, value: Buffer.from("a"), timestamp: 1_000n }] });
    const [{ arrivalMs }] = await read(topic);
    expect(arrivalMs).toBeGreaterThanOrEqual(beforeMs - 1_000);
    expect(arrivalMs).toBeLessThanOrEqual(Date.now() + 1_000);
  });

  test("that kept its producers' times gives only what came since it does no more", async () => {
    const topic = await topics.create(1, { "message.timestamp.type": "CreateTime" });
    await put(topic, "theirs");
    await topics.admin.incrementalAlterConfigs({
      resources: [
        {
          ...{ resourceType: 2, resourceName: topic },
          configs: [{ name: "message.timestamp.type", value: "LogAppendTime", configOperation: 0 }],
        },
      ],
    });
    await expect
      .poll(
        () =>
          broker.list(topic).then(
            () => "fine",
            () => "not yet",
          ),
        { timeout: 30_000 },
      )
      .toBe("fine");
    await put(topic, "own");
    expect(texts(await read(topic))).toEqual(["own"]);
  });

  test("may hold records without a value: they have no bytes", async () => {
    const topic = await topics.create(1);
    await producer.send({ messages: [{ topic, partition: 0, key: Buffer.from("k") } as never] });
    await put(topic, "a");
    expect(texts(await read(topic))).toEqual(["", "a"]);
  });

  test.each(Object.values(CompressionAlgorithms))(
    "is read whatever its producers compress with: %s",
    async (compression) => {
      const topic = await topics.create(1);
      const values = Array.from({ length: 200 }, (_, i) => `${compression}-${i}`);
      await producer.send({
        compression,
        messages: values.map((value) => ({ topic, partition: 0, value: Buffer.from(value) })),
      });
      expect(texts(await read(topic))).toEqual(values);
    },
  );

  test("gets partitions: each is a shard, and takes a heartbeat", async () => {
    const topic = await topics.create(1);
    await put(topic, "before");
    await topics.admin.createPartitions({ topics: [{ name: topic, count: 3, assignments: null }] } as never);
    await expect
      .poll(async () => (await broker.list(topic)).shards.map(({ id }) => id), { timeout: 30_000 })
      .toEqual(["0", "1", "2"]);
    const { shards } = await broker.list(topic);
    await broker.putOnEveryShard(topic, shards, Buffer.from("beat"));
    expect(await Promise.all([0, 1, 2].map(async (partition) => texts(await read(topic, partition))))).toEqual([
      ["before", "beat"],
      ["beat"],
      ["beat"],
    ]);
  });

  test("loses what retention takes, says since when it holds all, and is read from there", async () => {
    const topic = await topics.create(1);
    await put(topic, "a", "b", "c");
    expect((await broker.list(topic)).heldSinceMs).toBe(Number.NEGATIVE_INFINITY);
    await new Promise((resolve) => setTimeout(resolve, 20));
    await put(topic, "d", "e");
    const [, , , d] = await read(topic);
    await topics.admin.deleteRecords({ topics: [{ name: topic, partitions: [{ partition: 0, offset: 3n }] }] });
    const listed = await broker.list(topic);
    expect(listed).toMatchObject({ heldSinceMs: d.arrivalMs, createdAtMs: d.arrivalMs });
    expect(texts(await read(topic))).toEqual(["d", "e"]);
    // Behind a record that is gone.
    expect(texts(await read(topic, 0, "0"))).toEqual(["d", "e"]);
    await topics.admin.deleteRecords({ topics: [{ name: topic, partitions: [{ partition: 0, offset: 5n }] }] });
    const nowMs = Date.now();
    expect((await broker.list(topic)).heldSinceMs).toBeGreaterThanOrEqual(nowMs);
    expect(await read(topic)).toEqual([]);
  });

  test("has gaps where transactions ended: what was committed is read, what was aborted is not", async () => {
    const topic = await topics.create(1);
    const transactional = new Producer({ ...connectionOptions(settings, 20), idempotent: true });
    try {
      for (const [value, end] of [
        ["kept-1", "commit"],
        ["dropped-1", "abort"],
        ["kept-2", "commit"],
        ["dropped-2", "abort"],
      ] as const) {
        const transaction = await transactional.beginTransaction();
        await transaction.send({ messages: [{ topic, partition: 0, value: Buffer.from(value) }] });
        await transaction[end]();
      }
    } finally {
      await transactional.close(true);
    }
    await put(topic, "plain");
    const found = await read(topic);
    expect(texts(found)).toEqual(["kept-1", "kept-2", "plain"]);
    expect(found.map(({ sequence }) => sequence)).toEqual(["0", "4", "8"]);
    expect(texts(await read(topic, 0, "0"))).toEqual(["kept-2", "plain"]);
    // Ends with what does not count.
    const last = await topics.create(1);
    const aborting = new Producer({ ...connectionOptions(settings, 20), idempotent: true });
    const transaction = await aborting.beginTransaction();
    await transaction.send({ messages: [{ topic: last, partition: 0, value: Buffer.from("dropped") }] });
    await transaction.abort();
    await aborting.close(true);
    expect(await read(last)).toEqual([]);
  });

  test("of many batches is read over several fetches, to what was its end", async () => {
    const topic = await topics.create(1);
    for (let i = 0; i < 6; i++) {
      const values = Array.from({ length: 9 }, (_, j) => ({
        topic,
        partition: 0,
        value: Buffer.alloc(100_000, `${i}${j}`),
      }));
      await producer.send({ messages: values });
    }
    const seen: ShardRecord[] = [];
    for await (const batch of broker.readShard(topic, "0", null)) {
      seen.push(...batch);
      await put(topic, "later");
    }
    expect(seen).toHaveLength(54);
  });
});

test("a partition that refuses its records says nothing of the others", async () => {
  const topic = await topics.create(8, { "max.message.bytes": "2000" });
  const { publish } = createKafkaPublisher(settings, { streamNames: { tx: topic }, budgetMs: 0 });
  const sizes = [100, 9_000, 100, 100];
  const records = sizes.map((size, i) => ({ data: Buffer.alloc(size), partitionKey: `key-${i}` }));
  // Without retries, on a machine that may be busy: one attempt of several finds every other partition in time.
  const deadline = Date.now() + 60_000;
  for (;;) {
    const outcomes = await publish("tx", records);
    expect(outcomes[1]).toBe("unavailable");
    const others = [outcomes[0], outcomes[2], outcomes[3]];
    if (others.every((outcome) => outcome === "queued")) return;
    if (Date.now() > deadline) expect(others).toEqual(["queued", "queued", "queued"]);
    await sleep(100);
  }
});

test("offsets of a topic that is not there are an error that names it", async () => {
  const consumer = createReader(settings);
  await expect(offsetsAt(consumer, "never-made", ListOffsetTimestamps.LATEST)).rejects.toThrow("never-made");
  await consumer.close(true);
});
