/** The bundled aggregate function under the mapping's documented rules and faults: each event counts exactly once. */
import { createHash } from "node:crypto";
import { ScanCommand } from "@aws-sdk/client-dynamodb";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { EventFields } from "../../adapters/avro/event-codec.ts";
import type { OnlineReader } from "../../adapters/online-store/online-store.ts";
import { createReader } from "../../adapters/valkey/reader.ts";
import { plan } from "../../features/plan.ts";
import { startAggregation, TABLES, type TestAggregation } from "../harness/aggregation.ts";
import { testClients } from "../harness/emulator.ts";
import { KinesisMapping, type MappingFault } from "../harness/kinesis-mapping.ts";
import type { MappingSettings } from "../harness/mapping-settings.ts";
import { seededRandom } from "../harness/random.ts";

/** As deployed, but for smaller batches, so that there are many. */
const SETTINGS = {
  batchSize: 12,
  parallelizationFactor: 3,
  bisectBatchOnFunctionError: true,
  reportBatchItemFailures: true,
  startingPosition: "LATEST",
} as const;

let path: TestAggregation;
let reader: OnlineReader;

beforeAll(async () => {
  path = await startAggregation("transactions");
  reader = createReader(plan, { host: path.valkey.host, port: path.valkey.port, timeoutMs: 20_000 });
  expect(await path.tick()).toMatchObject({ state: "ok", epoch: 1 });
});
afterAll(async () => {
  await reader?.close();
  await path?.stop();
});

function transaction(id: string, card: string, amount: number, eventTimeMs: number): EventFields {
  return {
    tenant: "default",
    transaction_id: id,
    event_time: eventTimeMs,
    card_id: card,
    user_id: `user-of-${card}`,
    merchant_id: `merchant-of-${card}`,
    device_id: null,
    amount,
    currency: "EUR",
    country: "DE",
    merchant_category: "grocery",
    channel: "online",
    status: "approved",
  };
}

/** A mapping that reads what is put after it was made. */
const mapping = (
  seed: number,
  faults?: (random: ReturnType<typeof seededRandom>) => MappingFault | null,
  settings: Partial<MappingSettings> = {},
) =>
  new KinesisMapping({
    stream: path.stream,
    host: path.aggregate,
    clock: path.clock,
    random: seededRandom(seed),
    settings: { ...SETTINGS, ...settings },
    randomBatchSizes: true,
    faults: (_, random) => faults?.(random) ?? null,
  });

async function cardFeatures(card: string) {
  const features = ["card_activity:tx_count_24h", "card_activity:amount_sum_24h"];
  // The producers' clock, which the mapping's retry delays have moved ahead of the real one.
  const [answer] = await reader.read([{ tenant: "default", entity: "card", id: card, features }], path.clock.now());
  return { count: answer!.values[0]!.value, sum: answer!.values[1]!.value };
}

/** Puts `count` events of `cards` cards under a prefix, some of them twice; returns what each card must show. */
function putAll(prefix: string, count: number, cards: number) {
  const random = seededRandom(count);
  const truth = new Map<string, { count: number; sum: number }>();
  for (let i = 0; i < count; i++) {
    const card = `${prefix}-card-${i % cards}`;
    const cents = 1 + random.below(10_000);
    const event = transaction(`${prefix}-${i}`, card, cents / 100, path.clock.now() - random.below(300_000));
    path.put(card, event, random.chance(0.2) ? 2 : 1);
    const known = truth.get(card) ?? { count: 0, sum: 0 };
    truth.set(card, { count: known.count + 1, sum: known.sum + cents });
  }
  return truth;
}

async function expectTruth(truth: Map<string, { count: number; sum: number }>): Promise<void> {
  for (const [card, { count, sum }] of truth) {
    expect({ card, ...(await cardFeatures(card)) }).toEqual({ card, count, sum: sum / 100 });
  }
}

/** Of each event under the prefix: it is archived, and applied to its card, by exactly one row that says so. */
async function expectArchived(prefix: string, count: number): Promise<void> {
  const visible = new Map<string, Set<number>>();
  const ids = new Set<string>();
  for (const row of await path.archived()) {
    if (!row.eventId?.startsWith(`${prefix}-`)) continue;
    ids.add(row.eventId);
    for (const { entity, id, visibleMs } of row.fates) {
      const key = `${row.identity}/${entity}/${id}`;
      visible.set(key, (visible.get(key) ?? new Set()).add(visibleMs!));
    }
  }
  expect(ids.size).toBe(count);
  // Card, merchant and user; a duplicate answers the first apply's time, so all rows of one event agree.
  expect(visible.size).toBe(3 * count);
  expect([...visible.values()].filter((times) => times.size !== 1)).toEqual([]);
}

describe("the aggregate function", () => {
  test("counts each event once under lost responses, zombies, repeated deliveries and producers' retries", async () => {
    const run = mapping(11, (random) =>
      random.chance(0.4)
        ? random.pick([
            { kind: "lost-response" },
            { kind: "stalled", invocations: random.below(6) },
            { kind: "lost-checkpoint" },
            { kind: "not-started" },
          ] as const)
        : null,
    );
    const truth = putAll("repeat", 120, 7);
    await run.run();
    await run.drain();
    await expectTruth(truth);
    await expectArchived("repeat", 120);
    expect(run.failures).toEqual([]);
  });

  test("counts each event once when its process is killed at any moment", async () => {
    let kills = 0;
    const run = mapping(12, (random) => {
      if (kills >= 15 || !random.chance(0.5)) return null;
      kills += 1;
      return { kind: "kill", afterMs: random.below(25) };
    });
    const truth = putAll("kill", 80, 5);
    await run.run();
    await expectTruth(truth);
    await expectArchived("kill", 80);
    const killed = run.invocations.filter(
      ({ verdict }) => verdict?.kind === "failure" && verdict.why.includes("SIGKILL"),
    );
    expect(killed.length).toBeGreaterThan(0);
  });

  test("counts each event once when connections to Valkey break in the middle of batches", async () => {
    const random = seededRandom(13);
    const run = mapping(13, () => {
      const where = random.pick(["request", "answer", "nowhere"]);
      if (where === "request") path.valkeyFaults.cutAfterRequestBytes(random.below(6_000));
      if (where === "answer") path.valkeyFaults.cutAfterAnswerBytes(random.below(400));
      return null;
    });
    const truth = putAll("cut", 100, 6);
    await run.run();
    path.valkeyFaults.cutAfterRequestBytes(Number.POSITIVE_INFINITY);
    path.valkeyFaults.cutAfterAnswerBytes(Number.POSITIVE_INFINITY);
    await expectTruth(truth);
    await expectArchived("cut", 100);
  });

  test("blocks while Valkey is away, skips nothing, and goes on by itself", async () => {
    path.valkeyFaults.refuse(true);
    const run = mapping(14);
    const truth = putAll("away", 30, 3);
    await run.run(() => run.invocations.length >= 6);
    for (const { verdict } of run.invocations) expect(verdict?.kind).not.toBe("success");
    path.valkeyFaults.refuse(false);
    await run.run();
    await expectTruth(truth);
    await expectArchived("away", 30);
    expect(run.failures).toEqual([]);
  });

  test("acknowledges nothing that is applied and not archived", async () => {
    path.awsFaults.use(({ operation }) =>
      operation === "PutObject" ? { kind: "error", status: 403, code: "AccessDenied" } : null,
    );
    const run = mapping(15);
    const truth = putAll("unarchived", 30, 3);
    await run.run(() => run.invocations.length >= 5);
    for (const { verdict } of run.invocations) expect(verdict?.kind).not.toBe("success");
    path.awsFaults.use(null);
    await run.run();
    await expectTruth(truth);
    await expectArchived("unarchived", 30);
  });

  test("sets bad records aside, each with its reason and bytes, and lets their neighbours pass", async () => {
    const run = mapping(16);
    const truth = putAll("poison", 20, 2);
    const nonsense = Buffer.from("no event at all");
    path.stream.put({ partitionKey: "poison-card-0", data: nonsense });
    path.put("poison-card-0", transaction("poison-nan", "poison-card-0", Number.NaN, path.clock.now()));
    path.put("poison-card-1", transaction("poison-future", "poison-card-1", 1, path.clock.now() + 3_600_000));
    await run.run();
    await expectTruth(truth);
    expect(run.invocations.every(({ verdict }) => verdict?.kind === "success")).toBe(true);
    const reasons = ["event_time_future", "not_single_object", "number_not_finite"];
    const rows = (await path.archived()).filter((row) => row.reason !== undefined);
    expect(rows.map(({ reason }) => reason).sort()).toEqual(reasons);
    const items = await quarantined();
    expect(items.map((item) => item["reason"].S).sort()).toEqual(reasons);
    const hash = createHash("sha256").update(nonsense).digest("hex");
    expect(items.find((item) => item["reason"].S === "not_single_object")!["sha256"].S).toBe(hash);
  });

  test("goes on counting through a split and a merge of shards", async () => {
    const run = mapping(17, (random) => (random.chance(0.2) ? { kind: "lost-response" } : null));
    const before = putAll("reshard", 20, 4);
    const [low, high] = path.stream.openShards();
    const [, right] = path.stream.split(low!.id);
    const during = putAll("resplit", 20, 4);
    path.stream.merge(right, high!.id);
    const after = putAll("remerge", 20, 4);
    await run.run();
    await run.drain();
    for (const truth of [before, during, after]) await expectTruth(truth);
  });

  test("a replay of the whole stream, from its first record, changes nothing", async () => {
    const run = mapping(18);
    const truth = putAll("replay", 40, 4);
    await run.run();
    const again = mapping(19, undefined, { startingPosition: "TRIM_HORIZON", batchSize: 100 });
    await again.run();
    expect(again.invocations.flatMap(({ sequences }) => sequences).length).toBeGreaterThan(300);
    await expectTruth(truth);
    await expectArchived("replay", 40);
  });
});

/** Items of the quarantine's index, whoever's they are. */
async function quarantined(): Promise<Record<string, any>[]> {
  const { dynamodb } = testClients(path.emulator.url);
  return (await dynamodb.send(new ScanCommand({ TableName: TABLES.quarantine }))).Items ?? [];
}
