/** Models on both deployed hosts: the Lambda function with its bundled runtime, and the plain server beside it. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { afterAll, beforeAll, expect, it } from "vitest";
import { createArtefactStore } from "../../../../adapters/model/artefact-store.ts";
import { ModelRegistry } from "../../../../adapters/model/model-registry.ts";
import { registerModel } from "../../../../adapters/model/register.ts";
import { readScores } from "../../../../adapters/offline/scored-outcomes.ts";
import { s3Client } from "../../../../adapters/s3/client.ts";
import { makeModel } from "../../../../bench/make-model.ts";
import { plan } from "../../../../features/plan.ts";
import { ENVIRONMENT } from "../../../../functions/shared/environment.ts";
import { createTenant, deployed, deployedClientConfig } from "../../../support/deployed.ts";
import { caller, type Reply } from "../contract/contract-calls.ts";

/** A promotion takes five seconds at most where nothing else is going on; this machine may be three times slower. */
const PATIENCE_MS = 15_000;
const service = plan.services.find(({ name }) => name === "fraud")!;
const folder = mkdtempSync(join(tmpdir(), "freshet-models-"));
const s3 = s3Client(deployedClientConfig());
const dynamodb = new DynamoDBClient(deployedClientConfig());
const hosts = [() => deployed().api.url, () => deployed().serve.url];
let tenant: string;
let key: string;
let body: Record<string, unknown>;

const call = (baseUrl: () => string, path: string, given?: unknown): Promise<Reply> =>
  caller({ baseUrl, keys: () => ({ first: key, second: "", readOnly: "", expired: "" }), plan, exactBytes: true })(
    path,
    {
      body: given,
    },
  );
const score = async (host: () => string, more: object = {}) => {
  const reply = await call(host, "/v1/score/fraud", { ...body, ...more });
  expect([reply.status, reply.body.detail]).toEqual([200, undefined]);
  return reply.body;
};

beforeAll(async () => {
  ({ tenant, key } = await createTenant());
  const keys = plan.entities
    .filter(({ name }) => service.entities.includes(name))
    .map(({ joinKey }) => [joinKey, `x-${tenant}`]);
  body = {
    ...Object.fromEntries(keys),
    ...Object.fromEntries(Object.keys(service.request).map((name) => [name, null])),
  };
  const { environment } = deployed();
  const artefacts = createArtefactStore({ bucket: environment[ENVIRONMENT.modelsBucket], s3 });
  const registry = new ModelRegistry({ table: environment[ENVIRONMENT.modelsTable], dynamodb, artefacts });
  const model = makeModel(plan, service, folder, 20);
  for (let i = 0; i < 2; i++) {
    await registerModel(registry, model, { tenant, service: "fraud", plan, nowMs: Date.now(), by: "test" });
  }
});
afterAll(() => {
  s3.destroy();
  dynamodb.destroy();
  rmSync(folder, { recursive: true, force: true });
});

it("a promotion through one host is served by both within seconds, and so is a rollback", async () => {
  for (const host of hosts) expect((await score(host)).variant).toBe("fallback");
  const steps = [
    [{ version: 1, force: true }, "bench@1"],
    [{ version: 2, force: true }, "bench@2"],
    [{ rollback: true }, "bench@1"],
  ] as const;
  for (const [change, wanted] of steps) {
    const reply = await call(hosts[0], "/v1/models/fraud/aliases/champion", change);
    expect([reply.status, reply.body.detail]).toEqual([200, undefined]);
    const changedMs = Date.now();
    for (const host of hosts) {
      let answer = await score(host);
      while (answer.model_version !== wanted && Date.now() - changedMs < PATIENCE_MS) {
        await sleep(100);
        answer = await score(host);
      }
      expect([answer.model_version, answer.variant, answer.degraded]).toEqual([wanted, "champion", false]);
    }
  }
});

it("both hosts score and explain alike, exactly too", async () => {
  const [first, second] = await Promise.all(hosts.map((host) => score(host, { explain: "exact" })));
  expect(first.explanation.method).toBe("shap");
  expect([first.score, first.explanation.contributions]).toEqual([second.score, second.explanation.contributions]);
});

it("the function has written its log row before its answer is out", async () => {
  const { request_id: id, as_of_ms: atMs, score: wanted } = await score(hosts[0], { transaction_id: "tx-1" });
  const range = { tenant, service: "fraud", fromMs: atMs, toMs: atMs + 1 };
  const rows = [];
  for await (const row of readScores(s3, deployed().environment[ENVIRONMENT.archiveBucket], range)) rows.push(row);
  expect(rows).toContainEqual(
    expect.objectContaining({ requestId: id, score: wanted, eventId: "tx-1", model: "bench@1" }),
  );
});
