/** What callers see of snapshots: in each answer, in the metrics, in the log. The store and the snapshots are doubles. */
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import type { SnapshotAnswer, SnapshotSource } from "../../../../adapters/online-store/online-store.ts";
import type { FeatureValue } from "../../../../core/plan.ts";
import { contextAnswer } from "../../../../functions/api/catalogue/catalogue-schemas.ts";
import { createKey } from "../../../../functions/api/keys/keys.ts";
import * as schemas from "../../../../functions/api/openapi/schemas.ts";
import { listen, type RunningServer } from "../../../../functions/api/server.ts";
import { callerOf, conforming, scorable } from "../contract/contract-calls.ts";
import { plan, testDependencies } from "../doubles.ts";

const ports = testDependencies();
const present = (value: FeatureValue["value"]): FeatureValue => ({ value, status: "PRESENT", eventTimeMs: 1 });
/** By entity's name; others keep none. */
let kept: Record<string, SnapshotAnswer> = {};
const snapshots: SnapshotSource = {
  keeps: () => true,
  warm: async () => {},
  read: async (requests) => requests.map(({ entity }) => kept[entity] ?? { lost: "not_declared" }),
};
let server: RunningServer;
let key: string;
const call = callerOf(
  plan,
  () => server,
  () => key,
);
const featuresOf = (entity: string) =>
  plan.views.filter((view) => view.entity === entity).flatMap(({ features }) => features.map(({ name }) => name));
const fraudOf = (entity: string) => plan.services[0].features.filter((name) => featuresOf(entity).includes(name));

beforeAll(async () => {
  key = (await createKey(ports.keys, { tenant: "team-a", scopes: ["read", "score"], nowMs: 0 })).key;
  const fallback = { snapshots, budget: { totalMs: 250, storeMs: 100 } };
  server = await listen({ port: 0, dependencies: { ...ports.dependencies, fallback } });
});
afterAll(() => server?.close());
beforeEach(() => {
  ports.reader.down = true;
  ports.lines.length = 0;
});

it("a score has what snapshots know, says how old that is, and lists the rest as missing", async () => {
  const values = fraudOf("card").map((name) => present(name.includes("country") ? "SE" : 11));
  kept = { card: { values, ageMs: 61_000 } };
  const reply = await call("/v1/score/fraud", { body: { ...scorable, explain: true } });
  const answer = conforming(schemas.scoreAnswer, reply);
  expect(answer).toMatchObject({
    degraded: true,
    degraded_reason: "snapshot",
    snapshot_age_ms: 61_000,
    variant: "fallback",
  });
  expect(answer.features_used).toEqual(expect.arrayContaining(fraudOf("card")));
  expect(answer.features_missing).toEqual(expect.arrayContaining(fraudOf("merchant")));
  expect(answer.explanation?.contributions.map(({ name }) => name)).toContain("velocity");
});

it("features of an entity that is kept are read with their age; without a snapshot the read fails as before", async () => {
  const features = ["card_activity:tx_count_1h"];
  kept = { card: { values: [present(3)], ageMs: 5 } };
  const online = await call("/v1/features/online", { body: { entities: { card_id: "c1" }, features } });
  expect(conforming(schemas.onlineAnswer, online)).toMatchObject({
    features: { [features[0]]: { value: 3, status: "PRESENT" } },
    ...{ degraded: true, degraded_reason: "snapshot", snapshot_age_ms: 5 },
  });
  const batch = await call("/v1/features/batch", { body: { entities: [{ card_id: "c1" }], features } });
  expect(conforming(schemas.batchAnswer, batch)).toMatchObject({ rows: [{ values: [3] }], snapshot_age_ms: 5 });
  const both = {
    entities: { card_id: "c1", merchant_id: "m" },
    features: [...features, "merchant_activity:tx_count_1h"],
  };
  const mixed = await call("/v1/features/online", { body: both });
  expect([mixed.status, mixed.body.code]).toEqual([503, "store_unavailable"]);
});

it("a context for a language model says how old a snapshot is, in words and as a number", async () => {
  kept = { card: { values: featuresOf("card").map(() => present(3)), ageMs: 5 * 60_000 } };
  const json = await call("/v1/context/card/c1?format=json");
  expect(conforming(contextAnswer, json)).toMatchObject({ degraded_reason: "snapshot", snapshot_age_ms: 300_000 });
  const text = await fetch(`${server.url}/v1/context/card/c1`, { headers: { "x-api-key": key } });
  expect(await text.text()).toContain("Values may lag behind (snapshot, as they were 5 minutes ago).");
});

it("nobody answers: scores by rules and says that the store is away", async () => {
  kept = { card: { lost: "unavailable" } };
  const { status, body } = await call("/v1/score/fraud", { body: scorable });
  expect([status, body.degraded_reason, body.snapshot_age_ms]).toEqual([200, "store_unavailable", undefined]);
});

it("a store that answers is told of as before, without an age", async () => {
  ports.reader.down = false;
  // After its breaker has closed, if it was open.
  await expect.poll(async () => (await call("/v1/score/fraud", { body: scorable })).body.degraded).toBe(false);
  const { body } = await call("/v1/score/fraud", { body: scorable });
  expect([body.degraded_reason, "snapshot_age_ms" in body]).toEqual([null, false]);
});

it("metrics tell who answered, what was lost, and when a breaker opened; the log the latter", async () => {
  kept = { card: { values: fraudOf("card").map(() => present(1)), ageMs: 1 } };
  for (let i = 0; i < 8; i++) await call("/v1/score/fraud", { body: scorable });
  const text = await (await fetch(`${server.url}/metrics`)).text();
  expect(text).toMatch(/freshet_reads_total\{by="snapshot"\} \d/);
  expect(text).toMatch(/freshet_fallback_duration_seconds_count\{by="snapshot"\} \d/);
  expect(text).toMatch(/freshet_snapshot_losses_total\{reason="not_declared"\} \d/);
  expect(text).toContain('freshet_breaker_open{of="store"} 1');
  expect(text).toMatch(/freshet_breaker_changes_total\{of="store",to="open"\} \d/);
  expect(text).toMatch(/freshet_degraded_total\{route="score",reason="snapshot"\} \d/);
  expect(ports.lines.map(({ message, details }) => [message, details])).toContainEqual([
    "calls are spared what does not answer",
    { of: "store" },
  ]);
});
