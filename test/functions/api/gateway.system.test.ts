/** The contract suite through API Gateway and on the plain server beside it, over the whole deployed path. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createArtefactStore } from "../../../adapters/model/artefact-store.ts";
import { ModelRegistry } from "../../../adapters/model/model-registry.ts";
import { registerModel } from "../../../adapters/model/register.ts";
import { s3Client } from "../../../adapters/s3/client.ts";
import { makeModel } from "../../../bench/make-model.ts";
import { plan } from "../../../features/plan.ts";
import { createKeyStore } from "../../../functions/api/keys/key-store.ts";
import { createKey } from "../../../functions/api/keys/keys.ts";
import { ENVIRONMENT } from "../../../functions/shared/environment.ts";
import { createTenant, createTenantKey, deployed, deployedClientConfig } from "../../support/deployed.ts";
import { describeErrors } from "./contract/contract.ts";
import type { ContractTarget } from "./contract/contract-calls.ts";
import { describeCatalogue } from "./contract/contract-catalogue.ts";
import { describeFeast } from "./contract/contract-feast.ts";
import { describeFlow } from "./contract/contract-flow.ts";
import { describeHistorical } from "./contract/contract-historical.ts";
import { describePushed } from "./contract/contract-pushed.ts";
import { describeRank } from "./contract/contract-rank.ts";
import { describeRegistered } from "./contract/contract-registered.ts";
import { describeTenants } from "./contract/contract-tenants.ts";

const keys = { first: "", second: "", readOnly: "", expired: "", firstAdmin: "", secondAdmin: "" };
const host = (baseUrl: () => string, exactBytes: boolean): ContractTarget => ({
  baseUrl,
  keys: () => keys,
  plan,
  exactBytes,
});

beforeAll(async () => {
  const { tenant, key } = await createTenant();
  keys.first = key;
  const second = await createTenant();
  keys.second = second.key;
  keys.firstAdmin = await createTenantKey(tenant, ["admin"]);
  keys.secondAdmin = await createTenantKey(second.tenant, ["admin"]);
  keys.readOnly = await createTenantKey(tenant, ["read"]);
  const client = new DynamoDBClient(deployedClientConfig());
  const store = createKeyStore(client, deployed().environment[ENVIRONMENT.keysTable]);
  const nowMs = Date.now();
  keys.expired = (await createKey(store, { tenant, scopes: ["read", "score"], nowMs, expiresAtMs: nowMs - 1 })).key;
  client.destroy();
});

const folder = mkdtempSync(join(tmpdir(), "freshet-tenants-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** Gives a tenant a model, which cannot be registered over HTTP. */
async function equip(tenant: string): Promise<void> {
  const { environment } = deployed();
  const s3 = s3Client(deployedClientConfig());
  const dynamodb = new DynamoDBClient(deployedClientConfig());
  const artefacts = createArtefactStore({ bucket: environment[ENVIRONMENT.modelsBucket], s3 });
  const registry = new ModelRegistry({ table: environment[ENVIRONMENT.modelsTable], dynamodb, artefacts });
  const model = makeModel(plan, plan.services.find(({ name }) => name === "fraud")!, folder, 5);
  await registerModel(registry, model, { tenant, service: "fraud", plan, nowMs: Date.now(), by: "test" });
  s3.destroy();
  dynamodb.destroy();
}

/** A key that was used on both hosts and then revoked through API Gateway, before everything else. */
let revoked: { key: string; atMs: number };
const hosts = () => [deployed().api.url, deployed().serve.url];
const used = async (key: string, path = "/v1/features/card/c1") =>
  Promise.all(
    hosts().map(async (url) => {
      const reply = await fetch(url + path, { headers: { "x-api-key": key } });
      return [reply.status, ((await reply.json()) as { code?: string }).code];
    }),
  );
beforeAll(async () => {
  const { key: admin } = await createTenant();
  const call = async (method: string, path: string, body?: object) => {
    const headers = { "x-api-key": admin, "content-type": "application/json" };
    const reply = await fetch(deployed().api.url + path, { method, headers, body: body && JSON.stringify(body) });
    return (await reply.json()) as any;
  };
  const { key, id } = await call("POST", "/v1/keys", { scopes: ["read"] });
  expect(await used(key)).toEqual([
    [200, undefined],
    [200, undefined],
  ]);
  expect(await call("DELETE", `/v1/keys/${id}`)).toMatchObject({ revoked: true });
  revoked = { key, atMs: Date.now() };
});

describe("API Gateway", () => {
  const target = host(() => deployed().api.url, false);
  describeErrors(target);
  describeFlow(target);
  describeRank(target);
  describeHistorical(target);
  describeTenants({ ...target, newTenant: createTenant, equip });
  describeRegistered(target);
  describePushed(target);
  describeCatalogue(target);
  describeFeast(target);

  it("answers what has no key by itself, as the router would", async () => {
    const answer = await fetch(`${deployed().api.url}/v1/features/card/c1`);
    const problem = (await answer.json()) as Record<string, unknown>;
    expect([answer.status, answer.headers.get("content-type")]).toEqual([401, "application/problem+json"]);
    const router = await fetch(`${deployed().serve.url}/v1/features/card/c1`);
    const { request_id, ...told } = (await router.json()) as Record<string, unknown>;
    expect(problem).toEqual({ ...told, request_id: answer.headers.get("x-request-id") });
    expect(answer.headers.get("www-authenticate")).toBe(router.headers.get("www-authenticate"));
    expect([request_id, problem["request_id"]]).toEqual([expect.stringMatching(/\w/), expect.stringMatching(/\w/)]);
  });
});

describe("freshet serve", () => {
  const target = host(() => deployed().serve.url, true);
  describeErrors(target);
  describeFlow(target);
  describeRank(target);
  describeHistorical(target);
  describeTenants({ ...target, newTenant: createTenant, equip });
  describeRegistered(target);
  describePushed(target);
  describeCatalogue(target);
  describeFeast(target);
});

// At the end, when the time has passed.
it("a revoked key is refused everywhere 30 s later, though API Gateway keeps what its authorizer said for longer", async () => {
  await sleep(Math.max(0, revoked.atMs + 30_000 - Date.now()));
  expect(await used(revoked.key)).toEqual([
    [401, "api_key_invalid"],
    [401, "api_key_invalid"],
  ]);
});

it("the wall asks for a key where the router would: not on open pages, nor where bearer tokens are spoken", async () => {
  const answers = await Promise.all(
    ["/health", "/openapi.json", "/v1/nothing", "/v1/events/transactions", "/get-online-features"].map(async (path) => {
      const reply = await fetch(deployed().api.url + path, { method: path.startsWith("/get") ? "POST" : "GET" });
      const { code } = (await reply.json()) as { code?: string };
      return [path, reply.status, code];
    }),
  );
  expect(answers).toEqual([
    ["/health", 200, undefined],
    ["/openapi.json", 200, undefined],
    ["/v1/nothing", 401, "api_key_missing"],
    ["/v1/events/transactions", 401, "api_key_missing"],
    ["/get-online-features", 401, "api_key_missing"],
  ]);
});
