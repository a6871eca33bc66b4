/** The driver behind `freshet replay` on a topic: killed, it goes on where it was, by partition and offset. */
import { Producer } from "@platformatic/kafka";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { connectionOptions } from "../../adapters/kafka/connection.ts";
import type { Functions } from "../../cli/invoke.ts";
import { type Replay, replayFromBroker } from "../../cli/replay.ts";
import { NOTHING_YET, type ReplayState } from "../../cli/replay-state.ts";
import { openTopics, type TestTopics, testSettings } from "../support/topics.ts";

const settings = testSettings(inject("kafka"));
const COUNT = 40;
let topics: TestTopics;
let topic: string;
let producer: Producer;

beforeAll(async () => {
  topics = openTopics(settings);
  topic = await topics.create(3);
  producer = new Producer(connectionOptions(settings, 20));
  // A batch of a replay has 5 MB: these are several of each partition, but for the last, which has none.
  for (let i = 0; i < COUNT; i++) {
    const value = Buffer.alloc(400_000, String(i).padStart(4, "0"));
    await producer.send({ messages: [{ topic, partition: i % 2, value }] });
  }
});
afterAll(async () => {
  await producer?.close(true);
  await topics?.close();
});

/** @param dies at the call of that number, without an answer, as a process that is killed would leave it */
function functions(dies = Number.POSITIVE_INFINITY) {
  const events: any[] = [];
  const port: Functions = {
    async invoke<T>(_: string, event: any) {
      if (events.length >= dies) throw new Error("killed");
      events.push(event);
      const { length } = event.records;
      return { events: length, applied: length, duplicates: 0, late: 0, quarantined: 0 } as T;
    },
    close() {},
  };
  return { port, events };
}
const replay = (over: Partial<Replay> = {}): Replay => ({
  ...{ stream: "transactions", fromMs: Date.now() - 3_600_000, toMs: Date.now() + 60_000, sealMs: 0 },
  ...{ dryRun: false, ratePerS: undefined, ...over },
});
const run = (port: Functions, state: ReplayState, keep: (state: ReplayState) => void = () => {}) => ({
  ...{ functions: port, state, keep, signal: new AbortController().signal },
  deployment: { replayFunction: "replay", streams: { transactions: topic }, stage: "local", broker: settings } as never,
});
const firsts = (events: any[]) =>
  events.flatMap(({ records }) => records.map(({ data }: any) => Buffer.from(data, "base64").toString("utf8", 0, 4)));

test("what was done is not read again, and nothing is left out", async () => {
  const order = replay();
  const first = functions(2);
  let kept = NOTHING_YET;
  const keep = (state: ReplayState): void => {
    kept = state;
  };
  await expect(replayFromBroker(order, run(first.port, NOTHING_YET, keep))).rejects.toThrow("killed");
  expect(kept.counts.events).toBe(firsts(first.events).length);
  const second = functions();
  expect(await replayFromBroker(order, run(second.port, kept))).toMatchObject({ events: COUNT, applied: COUNT });
  const all = [...firsts(first.events), ...firsts(second.events)];
  expect([...all].sort()).toEqual(Array.from({ length: COUNT }, (_, i) => String(i).padStart(4, "0")));
  const [event] = first.events;
  expect(event).toMatchObject({ kind: "records", stream: "transactions", shard: "0" });
  expect(event.records[0].sequence).toBe("0");
});

test("a range holds what arrived in it, and a dry run asks nothing of the function", async () => {
  const none = functions();
  const past = replay({ toMs: Date.now() - 1_800_000 });
  expect(await replayFromBroker(past, run(none.port, NOTHING_YET))).toMatchObject({ events: 0 });
  expect(await replayFromBroker(replay({ dryRun: true }), run(none.port, NOTHING_YET))).toMatchObject({
    events: COUNT,
  });
  expect(none.events).toEqual([]);
});
