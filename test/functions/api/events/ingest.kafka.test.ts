/** Ingest before a Kafka of its own, which is stopped, killed and started again: the answers are those that any broker's outage has. */
import { mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { EventCodec } from "../../../../adapters/avro/event-codec.ts";
import { kafkaBroker } from "../../../../adapters/kafka/broker.ts";
import { createKafkaPublisher } from "../../../../adapters/kafka/publisher.ts";
import { createApp } from "../../../../functions/api/app.ts";
import { createKey } from "../../../../functions/api/keys/keys.ts";
import { endWithThisProcess } from "../../../../local/end-with-process.ts";
import { bootstrapOf, kafkaProcess } from "../../../../local/kafka/broker.ts";
import { anyFreePort } from "../../../../local/ports.ts";
import { startProcess, stopProcess, waitUntilReady } from "../../../../local/processes.ts";
import { openTopics, testSettings } from "../../../support/topics.ts";
import { transaction } from "../contract/contract-calls.ts";
import { testDependencies } from "../doubles.ts";

const DEADLINE_MS = 120_000;
let home: string;
let guard: ReturnType<typeof endWithThisProcess>;
let ports: { kafka: number; kafkaController: number };
let pid: number;
let topic: string;
let app: ReturnType<typeof createApp>;
let key: string;

const settings = () => testSettings(bootstrapOf(ports.kafka));
async function start(): Promise<void> {
  const record = await startProcess(home, await kafkaProcess(home, ports));
  pid = record.pid;
  const answers = async () => {
    const topics = openTopics(settings());
    try {
      return (await topics.admin.metadata({ topics: [] })).brokers.size > 0;
    } finally {
      await topics.close();
    }
  };
  await waitUntilReady(home, record, () => answers().catch(() => false), { timeoutMs: DEADLINE_MS });
}

beforeAll(async () => {
  home = realpathSync(mkdtempSync(join(tmpdir(), "freshet-kafka-")));
  guard = endWithThisProcess(home);
  ports = { kafka: await anyFreePort(), kafkaController: await anyFreePort() };
  await start();
  const topics = openTopics(settings());
  topic = await topics.create(2);
  await topics.close();
  const { dependencies, keys } = testDependencies();
  key = (await createKey(keys, { tenant: "team-a", scopes: ["write"], nowMs: 0 })).key;
  const publisher = createKafkaPublisher(settings(), { streamNames: { transactions: topic } });
  app = createApp({ ...dependencies, ingest: { ...dependencies.ingest!, publisher } });
});
afterAll(async () => {
  guard?.kill("SIGKILL");
  if (home !== undefined) {
    await stopProcess(home, "kafka", 20_000).catch(() => {});
    rmSync(home, { recursive: true, force: true });
  }
});

async function send(...ids: string[]) {
  const events = ids.map((id) => transaction({ transaction_id: id, card_id: `card-${id}` }));
  const headers = { "x-api-key": key, "content-type": "application/json" };
  const reply = await app.request("/v1/events/transactions", { method: "POST", headers, body: JSON.stringify(events) });
  const { results, code } = (await reply.json()) as any;
  return { status: reply.status, code, records: results.map(({ status, code }: any) => code ?? status) };
}
/** Until the broker takes it; a machine that is busy may need its time. */
const sendUntilQueued = (id: string) =>
  expect.poll(() => send(id).then(({ status }) => status), { timeout: DEADLINE_MS, interval: 100 }).toBe(202);
const AWAY = { status: 503, code: "broker_unavailable", records: ["broker_unavailable", "broker_unavailable"] };

async function inTopic(): Promise<Set<unknown>> {
  const broker = kafkaBroker(settings());
  const codec = EventCodec.for("transactions.v1");
  const ids = new Set<unknown>();
  try {
    for (const shard of ["0", "1"]) {
      for await (const batch of broker.readShard(topic, shard, null)) {
        for (const { data } of batch) ids.add(codec.decode(data).fields["transaction_id"]);
      }
    }
  } finally {
    await broker.close();
  }
  return ids;
}

test("an event that was queued is in the topic, whatever becomes of the broker then; else its sender is told", async () => {
  await sendUntilQueued("before");
  // Holds its connections and answers nobody.
  process.kill(pid, "SIGSTOP");
  try {
    expect(await send("held-1", "held-2")).toEqual(AWAY);
  } finally {
    process.kill(pid, "SIGCONT");
  }
  await sendUntilQueued("between");
  process.kill(pid, "SIGKILL");
  await expect.poll(() => isGone(pid), { timeout: 30_000 }).toBe(true);
  expect(await send("lost-1", "lost-2")).toEqual(AWAY);
  await start();
  await sendUntilQueued("after");
  const found = await inTopic();
  for (const id of ["before", "between", "after"]) expect(found).toContain(id);
  expect(found).not.toContain("lost-1");
});

function isGone(of: number): boolean {
  try {
    process.kill(of, 0);
    return false;
  } catch {
    return true;
  }
}
