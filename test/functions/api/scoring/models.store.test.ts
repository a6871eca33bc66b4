/** Scoring with models: the plain server with a real registry, real artefacts and a real log, over a store of the test's making. */
import { setTimeout as sleep } from "node:timers/promises";
import { GetObjectCommand, ListObjectsV2Command } from "@aws-sdk/client-s3";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { hash64 } from "../../../../adapters/hash.ts";
import { createInferenceLog } from "../../../../adapters/inference-log/inference-log.ts";
import { type InferenceRow, readInferenceLog } from "../../../../adapters/inference-log/inference-log-format.ts";
import { createArtefactStore } from "../../../../adapters/model/artefact-store.ts";
import { createExactExplainer } from "../../../../adapters/model/exact-explainer.ts";
import { ModelRegistry } from "../../../../adapters/model/model-registry.ts";
import { promote } from "../../../../adapters/model/promotion.ts";
import { registerModel } from "../../../../adapters/model/register.ts";
import { createModelServing, type ServingEvent } from "../../../../adapters/model/serving.ts";
import type { SnapshotSource } from "../../../../adapters/online-store/online-store.ts";
import type { FeatureServiceDefinition } from "../../../../core/definition.ts";
import type { FeatureValue, Scalar } from "../../../../core/plan.ts";
import { fractionOf } from "../../../../core/scoring/variant.ts";
import type { FallbackPorts } from "../../../../functions/api/app.ts";
import { createKey } from "../../../../functions/api/keys/keys.ts";
import * as schemas from "../../../../functions/api/openapi/schemas.ts";
import { createScoreLogger } from "../../../../functions/api/scoring/score-log.ts";
import type { ScoringPorts } from "../../../../functions/api/scoring/scoring-ports.ts";
import { listen, type RunningServer } from "../../../../functions/api/server.ts";
import { createBucket, createTable, startEmulator, type TestEmulator, testClients } from "../../../harness/emulator.ts";
import { alteredFolder, modelDefinition, modelJson, modelPlan } from "../../../support/model-fixture.ts";
import { caller, conforming, type Reply } from "../contract/contract-calls.ts";
import { testDependencies } from "../doubles.ts";

const [service] = modelPlan.services;
const manifest = modelJson("manifest.json");
const golden = modelJson("golden.json");
const keysBody = Object.fromEntries(modelPlan.entities.map(({ name, joinKey }) => [joinKey, `${name}-1`]));

let emulator: TestEmulator;
let tenants = 0;
let server: RunningServer | undefined;
const ports = testDependencies();
const { reader } = ports;
let registry: ModelRegistry;
let scoring: ScoringPorts;
let tenant: string;
let key: string;
const events: ServingEvent[] = [];
const bucket = "archive";

beforeAll(async () => {
  emulator = await startEmulator();
  await createBucket(emulator.url, "models");
  await createBucket(emulator.url, bucket);
  await createTable(emulator.url, "models");
  const { dynamodb, s3 } = testClients(emulator.url);
  registry = new ModelRegistry({ table: "models", dynamodb, artefacts: createArtefactStore({ bucket: "models", s3 }) });
});
afterAll(async () => {
  await server?.close();
  await emulator?.stop();
});
beforeEach(async () => {
  tenant = `team-${tenants++}`;
  const scopes = ["read", "score", "admin"];
  ({ key } = await createKey(ports.keys, { tenant, scopes, nowMs: 0 }));
  Object.assign(reader, { down: false, fault: null, degraded: null, control: "ok" });
  reader.values.clear();
  events.length = 0;
});

/** A server of its own for what the service says of itself. */
async function start(
  more: Partial<FeatureServiceDefinition> = {},
  pollMs = 50,
  fallback?: FallbackPorts,
): Promise<void> {
  await server?.close();
  const { s3 } = testClients(emulator.url);
  const serving = createModelServing({
    registry,
    plan: modelPlan,
    clock: Date.now,
    pollMs,
    onEvent: (event) => events.push(event),
  });
  const log = createInferenceLog({ bucket, s3, maxDelayMs: 60_000, onFault: ({ error }) => Promise.reject(error) });
  const logger = createScoreLogger({ log, plan: modelPlan, onFault: ({ error }) => Promise.reject(error) });
  const explainer = createExactExplainer({ timeoutMs: 60_000 });
  scoring = {
    registry,
    serving,
    logger,
    explainer,
    async close() {
      await logger.close();
      await Promise.all([serving.close(), explainer.close()]);
    },
  };
  const dependencies = { ...ports.dependencies, plan: modelPlan, services: [modelDefinition(more)], scoring, fallback };
  server = await listen({ port: 0, dependencies });
}
const call = (path: string, options: { body?: unknown; method?: string } = {}): Promise<Reply> =>
  caller({
    baseUrl: () => server!.url,
    keys: () => ({ first: key, second: "", readOnly: "", expired: "" }),
    plan: modelPlan,
    exactBytes: true,
  })(path, options);

const register = (metrics: Record<string, number> = {}, files: Record<string, Uint8Array> = {}) =>
  registerModel(
    registry,
    alteredFolder((given) => void Object.assign(given.metrics, metrics), files),
    {
      tenant,
      service: "fraud",
      plan: modelPlan,
      nowMs: Date.now(),
      by: "test",
    },
  );
/** Without a look at the artefact: as when it breaks later. */
const give = (version: number, alias: "champion" | "challenger" | "shadow" = "champion", more: object = {}) =>
  promote(
    registry,
    { tenant, service: "fraud" },
    { version, alias, check: async () => {}, nowMs: Date.now(), by: "test", ...more },
  );

/** A golden row as the values that it was encoded from, put into the store; the request's fields are given back. */
function recall(row: (number | null)[]): Record<string, Scalar> {
  const request: Record<string, Scalar> = {};
  manifest.features.forEach(({ name, dtype, categories }: any, i: number) => {
    const code = row[i];
    const text = code !== null && code < 0 ? "never seen" : categories?.[code as number];
    const value = code === null ? null : dtype === "string" ? text : dtype === "boolean" ? Boolean(code) : code;
    if (name.startsWith("request:")) request[name.slice("request:".length)] = value;
    else if (name.includes(":")) {
      const entity = modelPlan.views.find((view) => name.startsWith(`${view.name}:`))!.entity;
      const path = `${tenant}/${entity}/${entity}-1`;
      const given: FeatureValue = { value, status: value === null ? "NULL_VALUE" : "PRESENT", eventTimeMs: 1 };
      reader.values.set(path, { ...reader.values.get(path), [name]: given });
    }
  });
  return request;
}
/** On-demand features are computed, so a golden row can only be had again where its own are missing or as computed. */
const onDemandAt = manifest.features.flatMap(({ name }: any, i: number) => (name.includes(":") ? [] : [i]));
const plain: number[] = golden.rows.flatMap((row: (number | null)[], i: number) =>
  row.every((value, at) => onDemandAt.includes(at) || value === null || Math.abs(value) < 1e6) ? [i] : [],
);
/** On-demand functions that give what the golden row has. */
const computing = (row: (number | null)[]): Partial<FeatureServiceDefinition> => ({
  onDemand: Object.fromEntries(
    onDemandAt.map((at: number) => [
      manifest.features[at].name,
      () => {
        const value = row[at];
        return value !== null && manifest.features[at].dtype === "boolean" ? Boolean(value) : value;
      },
    ]),
  ),
});
const score = async (body: object = {}) => {
  const reply = await call("/v1/score/fraud", { body: { ...keysBody, ...body } });
  if (reply.status !== 200) throw new Error(JSON.stringify(reply.body));
  return conforming(schemas.scoreAnswer, reply);
};
async function logged(): Promise<InferenceRow[]> {
  await scoring.logger.settle();
  const { s3 } = testClients(emulator.url);
  const { Contents = [] } = await s3.send(
    new ListObjectsV2Command({ Bucket: bucket, Prefix: `inference-log/tenant=${tenant}/` }),
  );
  const rows: InferenceRow[] = [];
  for (const { Key } of Contents) {
    const { Body } = await s3.send(new GetObjectCommand({ Bucket: bucket, Key }));
    rows.push(...readInferenceLog(await Body!.transformToByteArray()));
  }
  return rows;
}

describe("a champion", () => {
  it("scores what the store holds as training did", async () => {
    const version = await register();
    await give(version.version);
    expect(plain.length).toBeGreaterThan(10);
    for (const at of plain.slice(0, 4)) {
      const row: (number | null)[] = golden.rows[at];
      const request = recall(row);
      await start(computing(row));
      const answer = await score(request);
      expect(answer).toMatchObject({ model_version: "fraud-lightgbm@1", variant: "champion", degraded: false });
      expect(Math.abs(answer.score - golden.probability[at])).toBeLessThan(1e-12);
      reader.values.clear();
    }
  });

  it("explains along the path, or exactly, and says which; both add up to the raw score", async () => {
    await give((await register()).version);
    const row = golden.rows[plain[0]];
    const request = recall(row);
    await start(computing(row));
    const sums: number[] = [];
    for (const [explain, method] of [
      [true, "path"],
      ["exact", "shap"],
    ] as const) {
      const { explanation, score: given } = await score({ ...request, explain });
      const { base, raw_score, contributions, reasons } = explanation!;
      expect(explanation!.method).toBe(method);
      expect(contributions.reduce((sum, one) => sum + one.contribution, base)).toBeCloseTo(raw_score!, 9);
      expect(1 / (1 + Math.exp(-raw_score!))).toBeCloseTo(given, 12);
      expect(contributions.map(({ contribution }) => Math.abs(contribution))).toEqual(
        contributions.map(({ contribution }) => Math.abs(contribution)).sort((a, b) => b - a),
      );
      expect(reasons.length).toBeLessThanOrEqual(5);
      for (const { contribution, text } of reasons) {
        expect(contribution).toBeGreaterThan(0);
        expect(text).toMatch(/^[\w ]+: \S/);
      }
      sums.push(base);
    }
    expect(sums[0]).toBeCloseTo(sums[1], 9);
  });

  it("is held to the service's own limits", async () => {
    await give((await register()).version);
    await start({ decision: { review: 1e-9, decline: 1 } });
    expect((await score({ ...recall(golden.rows[plain[0]]) })).decision).toBe("review");
  });

  it("gives way to the rules when the store is away and features lack defaults; with defaults it goes on", async () => {
    await give((await register()).version);
    const request = recall(golden.rows[plain[0]]);
    await start();
    reader.down = true;
    const away = { variant: "fallback", model_version: "rule-based-v1", degraded_reason: "store_unavailable" };
    expect(await score(request)).toMatchObject(away);
    await start({
      defaults: Object.fromEntries(service.features.map((name) => [name, name.includes("country") ? "SE" : 0])),
    });
    expect(await score(request)).toMatchObject({ variant: "champion", degraded_reason: "store_unavailable" });
  });

  it("goes on from snapshots alone, with the same score; the rules take over where one entity has none", async () => {
    await give((await register()).version);
    const request = recall(golden.rows[plain[0]]);
    let lost = "";
    const snapshots: SnapshotSource = {
      keeps: () => true,
      warm: async () => {},
      async read(requests) {
        const values = await Promise.all(
          requests.map(({ tenant: of, entity, id, features }) => {
            const known = reader.values.get(`${of}/${entity}/${id}`) ?? {};
            return features.map(
              (name) => known[name] ?? { value: null, status: "NOT_FOUND" as const, eventTimeMs: null },
            );
          }),
        );
        return requests.map(({ entity }, i) =>
          entity === lost ? { lost: "corrupt" } : { values: values[i], ageMs: 7 },
        );
      },
    };
    await start({}, undefined, { snapshots, budget: { totalMs: 2_000, storeMs: 1_000 } });
    const whole = await score(request);
    reader.down = true;
    const alike = { variant: "champion", score: whole.score, degraded_reason: "snapshot", snapshot_age_ms: 7 };
    expect(await score(request)).toMatchObject(alike);
    lost = "card";
    expect(await score(request)).toMatchObject({ variant: "fallback", degraded_reason: "snapshot" });
  });
});

describe("promotion", () => {
  it("reaches serving within seconds; no request is dropped meanwhile, and none gets anything else", async () => {
    for (let i = 0; i < 2; i++) await register();
    await give(1);
    const request = recall(golden.rows[plain[0]]);
    await start({}, 1_500);
    const seen: { model: string; status: number }[] = [];
    let isOver = false;
    const traffic = (async () => {
      while (!isOver) {
        const reply = await call("/v1/score/fraud", { body: { ...keysBody, ...request } });
        seen.push({ model: reply.body.model_version, status: reply.status });
        await sleep(5);
      }
    })();
    try {
      await expect.poll(() => seen.length).toBeGreaterThan(0);
      await give(2);
      await expect.poll(() => seen.at(-1)!.model).toBe("fraud-lightgbm@2");
    } finally {
      isOver = true;
      await traffic;
    }
    expect(new Set(seen.map(({ status }) => status))).toEqual(new Set([200]));
    const models = seen.map(({ model }) => model);
    expect(models).toEqual([...models].sort());
    expect(new Set(models)).toEqual(new Set(["fraud-lightgbm@1", "fraud-lightgbm@2"]));
  });

  it("of a broken artefact is refused: the old model stays, and /ready says how many and why, the log which", async () => {
    for (let i = 0; i < 2; i++) await register();
    await give(1);
    await start();
    const { prefix } = await registry.get({ tenant, service: "fraud" }, 2);
    const bytes = Buffer.from("broken");
    const artefacts = createArtefactStore({ bucket: "models", s3: testClients(emulator.url).s3 });
    await artefacts.put(prefix, { "model.onnx": bytes });
    await give(2);
    await scoring.serving.refresh();
    expect((await score(recall(golden.rows[plain[0]]))).model_version).toBe("fraud-lightgbm@1");
    const ready = await call("/ready");
    expect([ready.status, ready.body.status]).toEqual([200, "degraded"]);
    expect(conforming(schemas.readyAnswer, ready).checks.models!.refused).toEqual({
      artefact_digest: 1,
    });
    // The page is open to all, so it names nothing of a tenant.
    expect(ready.body.reason).toBe(
      "1 of the models that aliases name are not served, artefact_digest; what served before goes on",
    );
    expect(events.filter(({ kind }) => kind === "refused")).toEqual([
      expect.objectContaining({ tenant, service: "fraud", model: "champion version 2" }),
    ]);
    expect((await call("/metrics")).body).toMatch(/^freshet_models_refused 1$/m);
    const { refused } = scoring.serving.state();
    expect(refused).toHaveLength(1);
  });

  it("of a first, broken one leaves the rules, degraded", async () => {
    await register();
    const { prefix } = await registry.get({ tenant, service: "fraud" }, 1);
    const artefacts = createArtefactStore({ bucket: "models", s3: testClients(emulator.url).s3 });
    await artefacts.put(prefix, { "trees.json": Buffer.from("{}") });
    await give(1);
    await start();
    expect(await score(recall(golden.rows[plain[0]]))).toMatchObject({
      variant: "fallback",
      degraded: true,
      degraded_reason: "model_refused",
    });
  });

  it("of one tenant's model is nothing to another", async () => {
    await give((await register()).version);
    await start();
    const own = await score(recall(golden.rows[plain[0]]));
    tenant = `team-${tenants++}`;
    ({ key } = await createKey(ports.keys, { tenant, scopes: ["score", "admin"], nowMs: 0 }));
    const other = await score(recall(golden.rows[plain[0]]));
    expect([own.variant, other.variant, other.degraded]).toEqual(["champion", "fallback", false]);
    expect(conforming(schemas.modelsAnswer, await call("/v1/models")).models[0].versions).toEqual([]);
  });
});

describe("an experiment", () => {
  const [{ joinKey }] = modelPlan.entities;
  const isChallengers = (id: string, share: number) => fractionOf(`fraud/${id}`, hash64) < share;

  it("gives each key its variant, by the share that the service declares or the alias overrules", async () => {
    for (let i = 0; i < 2; i++) await register();
    await give(1);
    await give(2, "challenger");
    await start({ experiment: { key: joinKey, challenger: 0.3 } });
    const request = recall(golden.rows[plain[0]]);
    const ids = Array.from({ length: 30 }, (_, i) => `x${i}`);
    const variants = async () =>
      Promise.all(ids.map(async (id) => (await score({ ...request, [joinKey]: id })).variant));
    const wanted = (share: number) => ids.map((id) => (isChallengers(id, share) ? "challenger" : "champion"));
    expect(await variants()).toEqual(wanted(0.3));
    await give(2, "challenger", { share: 0.8 });
    await scoring.serving.refresh();
    expect(await variants()).toEqual(wanted(0.8));
    const { variant, model_version } = await score({ ...request, [joinKey]: ids[0], variant: "challenger" });
    expect([variant, model_version]).toEqual(["challenger", "fraud-lightgbm@2"]);
    expect((await score({ ...request, variant: "fallback" })).model_version).toBe("rule-based-v1");
    const assigned = new Set((await logged()).map((row) => row.assigned));
    expect(assigned).toEqual(new Set(["hash", "request"]));
  });

  it("deals nothing to a request without its key, and does not log it as dealt", async () => {
    for (let i = 0; i < 2; i++) await register();
    await give(1);
    await give(2, "challenger");
    const [text] = Object.entries(service.request).find(([, type]) => type === "string")!;
    await start({ experiment: { key: text, challenger: 1 } });
    const request = recall(golden.rows[plain[0]]);
    const answers = [await score({ ...request, [text]: "SE" }), await score({ ...request, [text]: null })];
    expect(answers.map(({ variant }) => variant)).toEqual(["challenger", "champion"]);
    const rows = await logged();
    expect(rows.map(({ variant, assigned }) => [variant, assigned])).toEqual([
      ["challenger", "hash"],
      ["champion", "only"],
    ]);
  });

  it("does not return a shadow, and logs it", async () => {
    for (let i = 0; i < 2; i++) await register();
    await give(1);
    await give(2, "shadow");
    await start();
    const answer = await score(recall(golden.rows[plain[0]]));
    expect(JSON.stringify(answer)).not.toContain("fraud-lightgbm@2");
    const [row] = await logged();
    expect(row).toMatchObject({
      model: "fraud-lightgbm@1",
      shadow: { model: "fraud-lightgbm@2", score: answer.score },
    });
  });
});

describe("the inference log", () => {
  it("has what went into a score, with pii hashed in every place", async () => {
    await give((await register()).version);
    const [text] = Object.entries(service.request).find(([, type]) => type === "string")!;
    const [amount] = Object.entries(service.request).find(([, type]) => type === "double")!;
    await start({ log: { sample: 1, pii: [text, amount] } });
    const request = { ...recall(golden.rows[plain[0]]), [text]: "Atlantis", [amount]: 1234.5 };
    const answer = await score(request);
    const rows = await logged();
    expect(rows).toHaveLength(1);
    const [row] = rows;
    expect(row).toMatchObject({
      tenant,
      service: "fraud",
      asOfMs: answer.as_of_ms,
      requestId: answer.request_id,
      planHash: modelPlan.hash,
      keys: keysBody,
      model: "fraud-lightgbm@1",
      variant: "champion",
      assigned: "only",
      score: answer.score,
      features: manifest.features.map(({ name }: any) => name),
    });
    const hashed = `sha256:${hash64("Atlantis")}`;
    expect(row.request[text]).toBe(hashed);
    const at = row.features.indexOf(`request:${text}`);
    expect([row.values[at], row.vector![at], row.vector![row.features.indexOf(`request:${amount}`)]]).toEqual([
      hashed,
      null,
      null,
    ]);
    expect(JSON.stringify(row)).not.toMatch(/Atlantis|1234\.5/);
    expect(row.statuses).toHaveLength(service.features.length);
    expect(row.values.slice(0, row.statuses.length)).toEqual(
      service.features.map(
        (name) => reader.values.get(`${tenant}/${name.split("_")[0]}/${name.split("_")[0]}-1`)?.[name]?.value ?? null,
      ),
    );
  });

  it("samples by the request's id", async () => {
    await start({ log: { sample: 0.5, pii: [] } });
    const request = recall(golden.rows[plain[0]]);
    const answers = [];
    for (let i = 0; i < 20; i++) answers.push(await score(request));
    const wanted = answers.filter(({ request_id }) => fractionOf(`${request_id}/0`, hash64) < 0.5);
    expect((await logged()).map(({ requestId }) => requestId).sort()).toEqual(
      wanted.map(({ request_id }) => request_id).sort(),
    );
  });

  it("is whole when the server has ended in order", async () => {
    await start();
    const request = recall(golden.rows[plain[0]]);
    for (let i = 0; i < 5; i++) await score(request);
    await server!.close();
    expect(await logged()).toHaveLength(5);
    await start();
  });
});

describe("a batch", () => {
  it("scores its rows as single requests do, in order, and logs each", async () => {
    for (let i = 0; i < 2; i++) await register();
    await give(1);
    await give(2, "challenger", { share: 0.5 });
    await start();
    const request = recall(golden.rows[plain[0]]);
    const [{ joinKey }] = modelPlan.entities;
    const bodies = Array.from({ length: 40 }, (_, i) => ({
      ...keysBody,
      ...request,
      [joinKey]: i % 3 === 0 ? "c" : `b${i}`,
    }));
    const reply = await call("/v1/score/fraud/batch", { body: { rows: bodies } });
    expect(reply.status).toBe(200);
    const { rows } = conforming(schemas.batchScoreAnswer, reply);
    for (const [i, body] of bodies.entries()) {
      const { latency_ms: _, as_of_ms: __, request_id: ___, ...alone } = await score(body);
      expect(rows[i]).toEqual(alone);
    }
    expect(new Set(rows.map(({ variant }) => variant))).toEqual(new Set(["champion", "challenger"]));
    expect(
      (await logged()).filter(({ requestId }) => requestId === reply.body.request_id).map(({ row }) => row),
    ).toEqual(bodies.map((_, i) => i));
  });
});

describe("the registry over HTTP", () => {
  const alias = (name: string, body: object, model = "fraud") => call(`/v1/models/${model}/aliases/${name}`, { body });

  it("lists, promotes, refuses by the gate, rolls back", async () => {
    await register({ pr_auc: 0.5 });
    await register({ pr_auc: 0.4 });
    await start();
    expect(conforming(schemas.aliasAnswer, await alias("champion", { version: 1 }))).toMatchObject({
      from: null,
      to: 1,
      forced: false,
    });
    const { models } = conforming(schemas.modelsAnswer, await call("/v1/models"));
    expect(models[0]).toMatchObject({
      name: "fraud",
      aliases: { champion: 1 },
      serving: { champion: "fraud-lightgbm@1" },
    });
    expect(models[0].versions.map(({ version }) => version)).toEqual([2, 1]);
    const refused = await alias("champion", { version: 2 });
    expect([refused.status, refused.body.code]).toEqual([409, "gate_refused"]);
    expect(refused.body.detail).toContain("pr_auc 0.4000 is 0.1000 (20.0 %) worse");
    expect(conforming(schemas.aliasAnswer, await alias("champion", { version: 2, force: true })).forced).toBe(true);
    expect(conforming(schemas.aliasAnswer, await alias("champion", { rollback: true }))).toMatchObject({
      from: 2,
      to: 1,
    });
    expect((await score(recall(golden.rows[plain[0]]))).model_version).toBe("fraud-lightgbm@1");
  });

  it("gives no alias to what could not serve, nor goes back to it", async () => {
    for (let i = 0; i < 2; i++) await register();
    await give(1);
    await give(2);
    const { prefix } = await registry.get({ tenant, service: "fraud" }, 1);
    const artefacts = createArtefactStore({ bucket: "models", s3: testClients(emulator.url).s3 });
    await artefacts.put(prefix, { "trees.json": Buffer.from("{}") });
    await start();
    for (const body of [{ rollback: true }, { version: 1, force: true }]) {
      const refused = await alias("champion", body);
      expect([refused.status, refused.body.code, refused.body.reason]).toEqual([
        409,
        "model_unservable",
        "artefact_digest",
      ]);
      conforming(schemas.problem, refused);
    }
    expect((await registry.aliases({ tenant, service: "fraud" })).champion).toBe(2);
  });

  it.each<[string, () => Promise<Reply>, number, string]>([
    ["an unknown alias", () => alias("winner", { version: 1 }), 404, "alias_unknown"],
    ["an unknown model", () => alias("champion", { version: 1 }, "nothing"), 404, "service_unknown"],
    ["an unknown version", () => alias("champion", { version: 9 }), 404, "model_version_unknown"],
    ["no version", () => alias("champion", {}), 400, "wrong_type"],
    ["a rollback that is no yes or no", () => alias("champion", { rollback: "yes" }), 400, "wrong_type"],
    ["a rollback to a version", () => alias("champion", { rollback: true, version: "1" }), 400, "wrong_type"],
    ["a share above 1", () => alias("challenger", { version: 1, share: 2 }), 400, "share_invalid"],
    ["a share of a champion", () => alias("champion", { version: 1, share: 0.1 }), 400, "share_invalid"],
    ["an alias that is not given, taken away", () => alias("shadow", { version: null }), 409, "alias_empty"],
    ["a rollback without a champion", () => alias("champion", { rollback: true }), 409, "rollback_impossible"],
    [
      "a variant that nobody plays",
      () => call("/v1/score/fraud", { body: { ...keysBody, ...recall(golden.rows[plain[0]]), variant: "challenger" } }),
      409,
      "variant_absent",
    ],
    [
      "a variant of another name",
      () => call("/v1/score/fraud", { body: { ...keysBody, ...recall(golden.rows[plain[0]]), variant: "shadow" } }),
      400,
      "wrong_type",
    ],
    ["a batch without rows", () => call("/v1/score/fraud/batch", { body: {} }), 400, "field_missing"],
    [
      "a batch of too many rows",
      () => call("/v1/score/fraud/batch", { body: { rows: Array(101).fill({}) } }),
      400,
      "too_many_rows",
    ],
    [
      "a batch with a row that is none",
      () => call("/v1/score/fraud/batch", { body: { rows: [7] } }),
      400,
      "wrong_type",
    ],
    [
      "a batch with a wrong row",
      () => call("/v1/score/fraud/batch", { body: { rows: [{ ...keysBody }] } }),
      400,
      "field_missing",
    ],
  ])("%s is refused", async (_, work, status, code) => {
    await register();
    await start();
    const reply = await work();
    expect([reply.status, reply.body.code]).toEqual([status, code]);
    conforming(schemas.problem, reply);
  });

  it("what stands already is refused, and a key without admin may neither read nor change", async () => {
    await register();
    await start();
    await alias("champion", { version: 1 });
    expect((await alias("champion", { version: 1 })).body.code).toBe("alias_standing");
    expect((await alias("shadow", { version: 1 })).body.code).toBe("champion_needed");
    ({ key } = await createKey(ports.keys, { tenant, scopes: ["score", "read"], nowMs: 0 }));
    expect([(await call("/v1/models")).status, (await alias("champion", { version: 1 })).status]).toEqual([403, 403]);
  });
});
