/** The mapping on a real Kafka, with functions that fail as they are told. */
import { randomBytes } from "node:crypto";
import { Admin, Consumer, Producer } from "@platformatic/kafka";
import { afterEach, beforeEach, describe, expect, inject, it } from "vitest";
import type { KafkaSettings } from "../../../adapters/broker/open-broker.ts";
import { Mapping, type MappingOptions } from "../../../functions/mapping/mapping.ts";

const settings: KafkaSettings = {
  ...{ kind: "kafka", bootstrapServers: inject("kafka"), auth: null },
  region: "us-east-1",
};
const options = { clientId: "test", bootstrapBrokers: [settings.bootstrapServers] };

let topic: string;
let group: string;
let admin: Admin;
let producer: Producer;
let running: Running[];

beforeEach(async () => {
  topic = `mapping-${randomBytes(5).toString("hex")}`;
  group = `${topic}-group`;
  admin = new Admin(options);
  producer = new Producer(options);
  running = [];
  await createTopic(topic, "LogAppendTime");
});

afterEach(async () => {
  await Promise.all(running.map((one) => one.end()));
  await Promise.all([admin.close(), producer.close(true)]);
});

const createTopic = (name: string, timestamps: string): Promise<unknown> =>
  admin.createTopics({
    ...{ topics: [name], partitions: 3, replicas: 1 },
    configs: [{ name: "message.timestamp.type", value: timestamps }],
  });

/**
 * Onto the partitions in turn, with a producer's time that nobody may take for arrival. A producer that is not answered sends twice.
 * @returns the ends of the partitions
 */
async function send(count: number, partitions: readonly number[] = [0, 1, 2]): Promise<number[]> {
  const messages = Array.from({ length: count }, (_, i) => ({
    ...{ topic, partition: partitions[i % partitions.length]!, timestamp: 1_000n },
    value: Buffer.from(`event-${i}`),
  }));
  await producer.send({ messages, acks: -1 });
  const consumer = new Consumer({ ...options, groupId: "ends" });
  try {
    return (await consumer.listOffsets({ topics: [topic] })).get(topic)!.map(Number);
  } finally {
    await consumer.close(true);
  }
}

interface Delivered {
  readonly partition: number;
  readonly offset: number;
  readonly timestamp: number;
  readonly timestampType: string;
}

/** A mapping with a function that remembers what it acknowledged. */
class Running {
  readonly acknowledged: Delivered[] = [];
  readonly logged: string[] = [];
  /** Throws, or answers how many of the records it has done. */
  fails: (records: readonly Delivered[]) => number | null = () => null;
  atOnce = 0;
  readonly mapping: Mapping;
  readonly #ran: Promise<void>;

  constructor(change: Partial<MappingOptions> = {}) {
    const inFlight = new Set<number>();
    this.mapping = new Mapping({
      ...{ settings, group, topics: [topic], batchSize: 20, batchWindowMs: 0, sessionTimeoutMs: 6_000 },
      hasRoom: () => true,
      log: (message, details) => this.logged.push(`${message} ${JSON.stringify(details)}`),
      invoke: async (event) => {
        const [records] = Object.values((event as { records: Record<string, Delivered[]> }).records);
        const delivered = records!;
        const { partition } = delivered[0]!;
        expect(inFlight.has(partition), "one batch of a partition at a time").toBe(false);
        inFlight.add(partition);
        this.atOnce = Math.max(this.atOnce, inFlight.size);
        await new Promise((resolve) => setImmediate(resolve));
        inFlight.delete(partition);
        const done = this.fails(delivered) ?? delivered.length;
        this.acknowledged.push(...delivered.slice(0, done));
        if (done === delivered.length) return { batchItemFailures: [] };
        const { offset } = delivered[done]!;
        return { batchItemFailures: [{ itemIdentifier: { partition: `${topic}-${partition}`, offset } }] };
      },
      ...change,
    });
    this.#ran = this.mapping.run();
    this.#ran.catch(() => {});
    running.push(this);
  }

  /** Of each partition. */
  get counts(): number[] {
    return [0, 1, 2].map((partition) => this.offsets(partition).length);
  }

  offsets(partition: number): number[] {
    return this.acknowledged.filter((one) => one.partition === partition).map(({ offset }) => offset);
  }

  async end(): Promise<void> {
    this.mapping.stop();
    await this.#ran;
  }
}

async function until(what: string, probe: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 90_000;
  while (!(await probe())) {
    if (Date.now() > deadline)
      throw new Error(
        `waited for ${what}: ${JSON.stringify(running.map(({ logged, acknowledged, mapping: { state } }) => [acknowledged.length, state.lanes.map(({ partition, position, attempts, lag }) => `${partition}: ${position} ${attempts} ${lag}`), logged]))}`,
      );
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const upTo = (end: number): number[] => Array.from({ length: end }, (_, i) => i);
const same = (a: readonly number[], b: readonly number[]): boolean => a.join() === b.join();

/** Offsets that the group has committed, by partition; 0 where it has none. */
async function committed(): Promise<number[]> {
  const consumer = new Consumer({ ...options, groupId: group });
  try {
    const offsets = await consumer.listCommittedOffsets({ topics: [{ topic, partitions: [0, 1, 2] }] });
    return [...(offsets.get(topic) ?? [])].map((offset) => Math.max(0, Number(offset)));
  } finally {
    await consumer.close(true);
  }
}

describe("the mapping", () => {
  it("delivers what was there before it, in each partition's order, with the broker's own times, and goes on where it was", async () => {
    const beforeMs = Date.now();
    const before = await send(150);
    const first = new Running();
    await until("what was there", () => same(first.counts, before));
    expect(first.atOnce).toBeGreaterThan(1);
    for (const partition of [0, 1, 2]) expect(first.offsets(partition)).toEqual(upTo(before[partition]!));
    expect(first.acknowledged.every(({ timestampType }) => timestampType === "LOG_APPEND_TIME")).toBe(true);
    expect(Math.min(...first.acknowledged.map(({ timestamp }) => timestamp))).toBeGreaterThanOrEqual(beforeMs - 1_000);
    await first.end();
    expect(await committed()).toEqual(before);

    const after = await send(30);
    const second = new Running();
    await until("what came since", async () => same(await committed(), after));
    await second.end();
    for (const partition of [0, 1, 2]) {
      expect(second.offsets(partition)).toEqual(upTo(after[partition]!).slice(before[partition]));
    }
  });

  it("tries a batch that fails again and again: its partition waits, others go on, and nothing is skipped", async () => {
    const one = new Running();
    let healed = false;
    one.fails = (records) => {
      if (!healed && records.some(({ partition, offset }) => partition === 1 && offset === 7)) throw new Error("away");
      return null;
    };
    const ends = await send(90);
    await until("others to go on, and the cause to stand alone", async () => {
      const blocked = one.mapping.state.lanes.find(({ partition }) => partition === 1);
      return (blocked?.attempts ?? 0) >= 2 && same(await committed(), [ends[0]!, 7, ends[2]!]);
    });
    healed = true;
    await until("the rest", () => same(one.counts, ends));
    for (const partition of [0, 1, 2]) expect(one.offsets(partition)).toEqual(upTo(ends[partition]!));
    expect(one.mapping.state.lanes.map(({ attempts, lag }) => [attempts, lag])).toEqual(Array(3).fill([0, 0]));
    expect(one.logged.some((line) => line.includes("batch failed") && line.includes("away"))).toBe(true);
    expect(one.logged.join()).not.toContain(Buffer.from("event-0").toString("base64"));
  });

  it("delivers again what a partial answer names, and what comes behind it, and no more", async () => {
    const one = new Running();
    const refused = new Set<number>();
    one.fails = (records) => {
      const index = records.findIndex(({ offset }) => offset % 4 === 3 && !refused.has(offset));
      if (index < 0) return null;
      refused.add(records[index]!.offset);
      return index;
    };
    const ends = await send(40, [2]);
    await until("all of it", async () => same(await committed(), ends));
    expect(one.offsets(2)).toEqual(upTo(ends[2]!));
    expect(refused.size).toBeGreaterThanOrEqual(10);
  });

  it("shares partitions with others, and takes over those of one that leaves", async () => {
    const [one, other] = [new Running(), new Running()];
    const shares = () => [one, other].map(({ mapping }) => mapping.state.lanes.length).sort();
    await until("the partitions to be shared", () => same(shares(), [1, 2]));
    const before = await send(60);
    await until("both to have worked", async () => same(await committed(), before));
    expect(Math.min(one.acknowledged.length, other.acknowledged.length)).toBeGreaterThan(0);
    await one.end();
    const after = await send(60);
    await until("the other to have the rest", async () => same(await committed(), after));
    for (const partition of [0, 1, 2]) {
      const seen = new Set([...one.offsets(partition), ...other.offsets(partition)]);
      expect([...seen].sort((a, b) => a - b)).toEqual(upTo(after[partition]!));
    }
    expect(other.mapping.state.lanes).toHaveLength(3);
  });

  it("drains: what is in flight is finished and committed before it leaves", async () => {
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    let finished = 0;
    const slow = new Running({
      invoke: async (event) => {
        await held;
        const [records] = Object.values((event as { records: Record<string, Delivered[]> }).records);
        finished += records!.length;
        return null;
      },
    });
    await send(10, [0]);
    await until("a batch in flight", () => slow.mapping.state.invocations === 1);
    const end = slow.end();
    // Were it not waited for, the function would find its member gone.
    await new Promise((resolve) => setTimeout(resolve, 200));
    release();
    await end;
    expect(finished).toBeGreaterThan(0);
    expect(await committed()).toEqual([finished, 0, 0]);
  });

  it("goes on with the oldest record where retention has passed its position, and says what is gone", async () => {
    const before = await send(30, [0]);
    const first = new Running();
    await until("the first records", () => same(first.counts, before));
    await first.end();
    const after = await send(30, [0]);
    const gone = before[0]! + 15;
    await admin.deleteRecords({ topics: [{ name: topic, partitions: [{ partition: 0, offset: BigInt(gone) }] }] });
    const second = new Running();
    await until("what is left", async () => same(await committed(), after));
    expect(second.offsets(0)).toEqual(upTo(after[0]!).slice(gone));
    expect(second.logged.join()).toContain("records are gone that were not read");
    expect(second.logged.join()).toContain(`"from":"${before[0]}","to":"${gone}"`);
  });

  it("finds partitions that are added", async () => {
    const one = new Running();
    await until("its partitions", () => one.mapping.state.lanes.length === 3);
    await admin.createPartitions({ topics: [{ name: topic, count: 4, assignments: [{ brokerIds: [1] }] }] });
    const ends = await send(8, [3]);
    await until("what is on the new one", () => one.offsets(3).length === ends[3]);
    expect(one.counts).toEqual([0, 0, 0]);
  });

  it("refuses a topic whose times are its producers', before it reads anything, with the repair", async () => {
    topic = `${topic}-theirs`;
    await createTopic(topic, "CreateTime");
    const refused = new Mapping({
      ...{ settings, group, topics: [topic], batchSize: 20, batchWindowMs: 0, sessionTimeoutMs: 6_000 },
      hasRoom: () => true,
      log: () => {},
      invoke: async () => {
        throw new Error("nothing may be delivered");
      },
    });
    await expect(refused.run()).rejects.toMatchObject({
      code: "topic_unsuitable",
      message: expect.stringContaining("message.timestamp.type=CreateTime"),
      repair: expect.stringContaining("LogAppendTime"),
    });
  });
});
