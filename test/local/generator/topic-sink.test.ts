import { expect, it } from "vitest";
import type { KafkaSettings } from "../../../adapters/broker/open-broker.ts";
import { disturb } from "../../../local/generator/disturb.ts";
import { simulate } from "../../../local/generator/simulate.ts";
import { type TopicProducer, topicSink } from "../../../local/generator/topic-sink.ts";

const settings: KafkaSettings = {
  ...{ kind: "kafka", bootstrapServers: "127.0.0.1:1", auth: null },
  region: "us-east-1",
};
const TOPICS = { transactions: "payments-topic", clicks: "clicks-topic", labels: "labels-topic" };
const nowMs = 1_800_000_000_000;
const outs = [
  ...disturb(
    simulate({
      seed: 3,
      fromMs: nowMs - 60_000,
      toMs: nowMs,
      transactionsPerSecond: 20,
      clicksPerSecond: 10,
      customers: 20,
    }),
    3,
    { duplicates: 0, late: 0, disorder: 0, malformed: 0.02 },
  ),
];

type Message = Parameters<TopicProducer["send"]>[0]["messages"][number];
function producer(failures: number) {
  const sent: Message[] = [];
  let calls = 0;
  const fake = {
    sent,
    closed: 0,
    async send({ messages, acks }: Parameters<TopicProducer["send"]>[0]) {
      expect([acks, messages.length <= 500]).toEqual([-1, true]);
      if (calls++ < failures) throw new Error("no answer");
      sent.push(...messages);
      return {};
    },
    async close() {
      fake.closed++;
    },
  };
  return fake;
}
const asProducer = (fake: ReturnType<typeof producer>) => fake as unknown as TopicProducer;

it("each event is a record of its stream's topic, under its partition key, in order", async () => {
  const fake = producer(0);
  const sink = topicSink(settings, TOPICS, 3, asProducer(fake));
  expect(await sink.send(outs)).toBe(outs.length);
  for (const [stream, topic] of Object.entries(TOPICS)) {
    const own = outs.filter(({ event }) => event.stream === stream);
    const records = fake.sent.filter((message) => message.topic === topic);
    expect(records.map(({ key, value }) => [key?.toString(), value?.toString("base64")])).toEqual(
      own.map(({ event, bytes }) => [event.partitionKey, bytes.toString("base64")]),
    );
  }
  expect(fake.sent.length).toBeGreaterThan(1_000);
  await sink.close();
  expect(fake.closed).toBe(1);
});

it("what is not answered is sent again, and told when it stays so", async () => {
  const patient = producer(2);
  expect(await topicSink(settings, TOPICS, 3, asProducer(patient)).send(outs.slice(0, 5))).toBe(5);
  expect(patient.sent).toHaveLength(5);
  await expect(topicSink(settings, TOPICS, 2, asProducer(producer(9))).send(outs.slice(0, 5))).rejects.toMatchObject({
    code: "broker_unreachable",
    message: expect.stringMatching(/^Kafka did not take \d records of [a-z]+-topic$/),
  });
});
