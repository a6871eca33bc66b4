import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { KinesisClient, PutRecordsCommand, PutRecordsOutput } from "@aws-sdk/client-kinesis";
import { afterEach, describe, expect, test } from "vitest";
import { deaggregate } from "../../../adapters/kinesis/kpl.ts";
import { disturb, type Outgoing } from "../../../local/generator/disturb.ts";
import { simulate } from "../../../local/generator/simulate.ts";
import { brokerSink, fileSink, httpSink, laneOf, pack } from "../../../local/generator/sinks.ts";

const START = Date.UTC(2026, 0, 5, 12);
const all = [
  ...disturb(simulate({ seed: 7, fromMs: START, toMs: START + 600_000, transactionsPerSecond: 5 }), 7, {
    malformed: 0.01,
  }),
];
const payments = all.filter(({ event }) => event.stream === "transactions");
const names = { transactions: "t", clicks: "c", labels: "l" };
const atOnce = async () => {};

/** A broker whose answers are scripted, as no real one fails on demand: what each call's records meet. */
function scriptedBroker(answer: (call: number, record: number) => "ok" | "throttled" | Error) {
  const taken: { stream: string; data: Buffer; key: string; hashKey?: string }[] = [];
  let calls = 0;
  const client = {
    async send({ input }: PutRecordsCommand): Promise<Partial<PutRecordsOutput>> {
      const call = calls++;
      const results = input.Records!.map((_, i) => answer(call, i));
      const broken = results.find((result) => result instanceof Error);
      if (broken) throw broken;
      return {
        Records: input.Records!.map((record, i) => {
          if (results[i] === "throttled") return { ErrorCode: "ProvisionedThroughputExceededException" };
          const { Data, PartitionKey, ExplicitHashKey } = record;
          taken.push({
            stream: input.StreamName!,
            data: Buffer.from(Data!),
            key: PartitionKey!,
            hashKey: ExplicitHashKey,
          });
          return { SequenceNumber: "1", ShardId: "shardId-000000000000" };
        }),
      };
    },
  };
  return { client: client as unknown as Pick<KinesisClient, "send">, taken, calls: () => calls };
}

const eventsIn = (records: { data: Buffer }[]) => records.flatMap(({ data }) => deaggregate(data) ?? [data]);
const sorted = (bytes: readonly Buffer[]) => bytes.map((b) => b.toString("hex")).sort();

describe("to the broker", () => {
  test.each([true, false])("every event arrives in its own stream once (packed: %s)", async (packed) => {
    const broker = scriptedBroker(() => "ok");
    expect(await brokerSink(broker.client, names, packed, 7).send(all)).toBe(all.length);
    for (const [stream, name] of Object.entries(names)) {
      const sent = all.filter(({ event }) => event.stream === stream).map(({ bytes }) => bytes);
      expect(sorted(eventsIn(broker.taken.filter((record) => record.stream === name)))).toEqual(sorted(sent));
    }
  });

  test("what fails is sent again alone, and only what was acknowledged counts", async () => {
    const broker = scriptedBroker((call, record) => (call === 0 && record % 3 === 0 ? "throttled" : "ok"));
    const batch = payments.slice(0, 300);
    expect(await brokerSink(broker.client, names, false, 7, atOnce).send(batch)).toBe(300);
    expect(broker.calls()).toBe(2);
    expect(broker.taken).toHaveLength(300);
  });

  test("a broker that stays full acknowledges nothing, and says so", async () => {
    const broker = scriptedBroker((_, record) => (record === 0 ? "throttled" : "ok"));
    expect(await brokerSink(broker.client, names, false, 7, atOnce).send(payments.slice(0, 10))).toBe(9);
  });

  test("a call that met no answer is made again", async () => {
    const broker = scriptedBroker((call) => (call < 3 ? new Error("socket hang up") : "ok"));
    expect(await brokerSink(broker.client, names, true, 7, atOnce).send(payments)).toBe(payments.length);
  });

  test("a broker that is away is an error with a repair, not a silent loss", async () => {
    const broker = scriptedBroker(() => new Error("connect ECONNREFUSED"));
    await expect(brokerSink(broker.client, names, false, 7, atOnce).send(payments.slice(0, 10))).rejects.toMatchObject({
      code: "broker_unreachable",
      message: "the broker did not take 10 records of t",
    });
  });

  test("a stream that is not there is told at once", async () => {
    const gone = Object.assign(new Error("not found"), { name: "ResourceNotFoundException" });
    const broker = scriptedBroker(() => gone);
    await expect(brokerSink(broker.client, names, true, 7, atOnce).send(payments)).rejects.toMatchObject({
      code: "stream_missing",
      message: "the broker has no stream t",
    });
    expect(broker.calls()).toBe(1);
  });

  test("no call has more than 500 records", async () => {
    const broker = scriptedBroker((_, record) => (record >= 500 ? new Error("too many") : "ok"));
    expect(await brokerSink(broker.client, names, false, 7, atOnce).send(payments.slice(0, 1_200))).toBe(1_200);
    expect(broker.calls()).toBe(3);
  });
});

describe("packing", () => {
  test("goes to every quarter of the hash space, each record within 50 KiB", () => {
    const records = pack(all);
    expect(new Set(records.map(({ hashKey }) => BigInt(hashKey!) >> 126n))).toEqual(new Set([0n, 1n, 2n, 3n]));
    expect(Math.max(...records.map(({ data }) => data.length))).toBeLessThanOrEqual(50 * 1024);
    expect(records.reduce((sum, { events }) => sum + events, 0)).toBe(all.length);
  });

  test("an event is in the quarter of its key, and those of one card stay in order", () => {
    const position = new Map(payments.map(({ bytes }, i) => [bytes.toString("hex"), i]));
    const quarters = Map.groupBy(pack(payments), ({ hashKey }) => Number(BigInt(hashKey!) >> 126n));
    for (const [quarter, records] of quarters) {
      const positions = eventsIn(records).map((bytes) => position.get(bytes.toString("hex"))!);
      expect(positions).toEqual([...positions].sort((a, b) => a - b));
      for (const at of positions) expect(laneOf(payments[at].event.partitionKey)).toBe(quarter);
    }
  });
});

describe("to the API", () => {
  let server: Server | null = null;
  afterEach(() => server?.close());

  interface Post {
    readonly path: string;
    readonly key: string | undefined;
    readonly events: Record<string, unknown>[];
  }
  async function listen(answer: (post: Post, call: number) => { status: number; body: unknown }) {
    const posts: Post[] = [];
    server = createServer(async (request, response) => {
      let text = "";
      for await (const chunk of request) text += chunk;
      const post = {
        path: request.url!,
        key: request.headers["x-api-key"] as string | undefined,
        events: JSON.parse(text),
      };
      posts.push(post);
      const { status, body } = answer(post, posts.length - 1);
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    return { posts, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
  }
  const queued = ({ events }: Post) => ({ status: 202, body: { results: events.map(() => ({ status: "queued" })) } });

  test("requests hold up to 500 events, without tenant, with the key", async () => {
    const api = await listen(queued);
    const batch = payments.slice(0, 1_100);
    expect(await httpSink(api.url, "key-1").send(batch)).toBe(1_100);
    expect(api.posts.map(({ path, key, events }) => [path, key, events.length])).toEqual([
      ["/v1/events/transactions", "key-1", 500],
      ["/v1/events/transactions", "key-1", 500],
      ["/v1/events/transactions", "key-1", 100],
    ]);
    expect(api.posts[0].events.filter((event) => "tenant" in event)).toEqual([]);
  });

  test("what is throttled comes again alone; what is invalid does not", async () => {
    const statuses = (call: number) => (_: unknown, i: number) => ({
      status: call > 0 ? "queued" : i < 4 ? "throttled" : i < 6 ? "invalid" : "queued",
    });
    const api = await listen(({ events }, call) => ({ status: 207, body: { results: events.map(statuses(call)) } }));
    expect(await httpSink(api.url, "k", atOnce).send(payments.slice(0, 10))).toBe(8);
    expect(api.posts.map(({ events }) => events.length)).toEqual([10, 4]);
  });

  test("an outage is waited for; a request that is refused as a whole is not repeated", async () => {
    const outage = await listen((post, call) => (call < 2 ? { status: 503, body: {} } : queued(post)));
    expect(await httpSink(outage.url, "k", atOnce).send(payments.slice(0, 5))).toBe(5);
    server?.close();
    const refusal = await listen(() => ({ status: 413, body: { code: "body_too_large" } }));
    expect(await httpSink(refusal.url, "k", atOnce).send(payments.slice(0, 5))).toBe(0);
    expect(refusal.posts).toHaveLength(1);
  });

  test("a wrong key ends the run", async () => {
    const api = await listen(() => ({ status: 401, body: {} }));
    await expect(httpSink(api.url, "wrong").send(payments.slice(0, 5))).rejects.toThrow(
      "the API refused the key (401)",
    );
  });

  test("an API that is away is an error", async () => {
    const api = await listen(queued);
    server?.close();
    await expect(httpSink(api.url, "k", atOnce).send(payments.slice(0, 5))).rejects.toMatchObject({
      code: "api_unreachable",
    });
  });
});

test("to a file: a line an event, without the broken ones", async () => {
  const folder = mkdtempSync(join(tmpdir(), "freshet-generator-"));
  try {
    const sink = fileSink(join(folder, "events.ndjson"));
    const whole: Outgoing[] = all.filter(({ kind }) => kind !== "malformed");
    expect(await sink.send(all)).toBe(whole.length);
    await sink.close();
    const lines = readFileSync(join(folder, "events.ndjson"), "utf8").trimEnd().split("\n");
    expect(lines.map((line) => JSON.parse(line))).toEqual(
      whole.map(({ event }) => ({ stream: event.stream, ...event.fields })),
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});
