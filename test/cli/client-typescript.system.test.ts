/** The TypeScript client against a deployed app: events to features, scores, rankings, pushed values and a historical job. */
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { typescriptClient } from "../../cli/client-typescript.ts";
import { FreshetClient } from "../../clients/typescript/client.ts";
import type { FreshetError } from "../../clients/typescript/errors.ts";
import { plan } from "../../features/plan.ts";
import { transaction } from "../functions/api/contract/contract-calls.ts";
import { createTenant, deployed } from "../support/deployed.ts";

const folder = mkdtempSync(join(tmpdir(), "freshet-client-"));
const card = `c-${randomUUID()}`;
let key: string;
let client: FreshetClient<any>;

beforeAll(async () => {
  ({ key } = await createTenant());
  const file = join(folder, "freshet.ts");
  writeFileSync(file, typescriptClient(plan));
  // The generated file itself, as an application would import it.
  const { createClient } = await import(file);
  client = createClient({ url: deployed().serve.url, apiKey: key });
});
afterAll(() => rmSync(folder, { recursive: true }));

it("events become features", async () => {
  const events = Array.from({ length: 3 }, () => transaction({ card_id: card, amount: 10 }));
  expect(await client.send("transactions", [...events, { ...events[0], amount: "x" }] as never)).toMatchObject({
    ...{ queued: 3, invalid: 1, throttled: 0 },
    results: [{ index: 0 }, { index: 1 }, { index: 2 }, { index: 3, code: "wrong_type", field: "amount" }],
  });
  const features = ["card_activity:tx_count_1h", "card_activity:amount_sum_1h"];
  const read = () => client.online({ features, entities: { card_id: card } as never });
  await expect
    .poll(async () => (await read()).features["card_activity:tx_count_1h"].value, { timeout: 60_000 })
    .toBe(3);
  const { rows } = await client.batch({ features, entities: [{ card_id: card }, { card_id: "none" }] as never });
  expect(rows.map((row) => row["card_activity:amount_sum_1h"])).toMatchObject([
    { value: 30, status: "PRESENT" },
    { value: null, status: "NOT_FOUND" },
  ]);
  const known = await client.entity("card", card);
  expect(known.features).toMatchObject({ "card_activity:tx_count_1h": { value: 3 } });
});

it("scores and ranks", async () => {
  const request = { card_id: card, merchant_id: "m1", amount: 10, country: "SE" };
  const score = await client.score("fraud", { ...request, explain: true } as never);
  expect(score).toMatchObject({ variant: "fallback", degraded: false, explanation: { method: "rules" } });
  expect((await client.scoreBatch("fraud", [request, request] as never)).rows).toHaveLength(2);
  const ranked = await client.rank("recommendation", {
    user_id: "u1",
    category: null,
    candidates: ["i1", "i2"],
  } as never);
  expect(ranked.items.map(({ id }) => id).sort()).toEqual(["i1", "i2"]);
  const asked = {
    service: "fraud",
    entities: { card_id: card, merchant_id: "m1" },
    request: { amount: 10, country: "SE" },
  };
  expect((await client.onlineService(asked as never)).features).toMatchObject({ amount_to_mean: { value: 1 } });
});

it("ids of any characters are one part of a path", async () => {
  for (const id of ["a/b", "a%2Fb", "ä €", "..", "?x=1#"]) {
    const { id: echoed } = await client.entity("card", id).catch((error: FreshetError) => ({ id: error.code }));
    // A path cannot hold dots alone: they are resolved before anything is sent.
    expect(echoed).toBe(id === ".." ? "not_found" : id);
  }
});

it("pushes and reads back; starts a job and finds it", async () => {
  const name = "client:age";
  const headers = { "x-api-key": key, "content-type": "application/json" };
  const body = JSON.stringify({ name, dtype: "int64", entity: "card", ttl: "1d" });
  expect((await fetch(`${deployed().serve.url}/v1/features/register`, { method: "POST", headers, body })).status).toBe(
    201,
  );
  const pushed = await client.push({ features: [name], rows: [{ id: card, event_time_ms: Date.now(), values: [7] }] });
  expect(pushed).toMatchObject({ accepted: 1, refused: 0 });
  const { features } = await client.online({ features: [name], entities: { card_id: card } as never });
  expect(features[name]).toMatchObject({ value: 7, status: "PRESENT" });
  const job = await client.historical({
    service: "fraud",
    rows: [{ as_of_ms: Date.now(), card_id: card, merchant_id: "m1", amount: 1, country: "SE" }],
  });
  await expect
    .poll(async () => (await client.historicalJob(job.job_id)).state, { timeout: 120_000 })
    .toMatch(/^(done|failed)$/);
  const done = await client.historicalJob(job.job_id);
  expect([done.state, done.error]).toEqual(["done", null]);
  expect(done.files.map((file) => file.name)).toContain("manifest.json");
});

it("an error has the words of the problem document", async () => {
  await expect(
    client.online({ features: ["card_activity:none"], entities: { card_id: "c" } as never }),
  ).rejects.toMatchObject({
    ...{ name: "FreshetError", status: 404, code: "feature_unknown", field: "features[0]" },
    repair: expect.stringContaining("card_activity:"),
  });
  const stranger = new FreshetClient<any>({ url: deployed().serve.url, apiKey: "fk_none_none" });
  await expect(stranger.entity("card", "c")).rejects.toMatchObject({ status: 401, code: "api_key_invalid" });
});
