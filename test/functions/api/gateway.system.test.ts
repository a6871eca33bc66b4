/** The contract suite through API Gateway and on the plain server beside it, over the whole deployed path. */
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { beforeAll, describe, expect, it } from "vitest";
import { plan } from "../../../features/plan.ts";
import { createKeyStore } from "../../../functions/api/key-store.ts";
import { createKey } from "../../../functions/api/keys.ts";
import { ENVIRONMENT } from "../../../functions/shared/environment.ts";
import { createTenant, createTenantKey, deployed, deployedClientConfig } from "../../support/deployed.ts";
import { describeErrors } from "./contract.ts";
import type { ContractTarget } from "./contract-calls.ts";
import { describeCatalogue } from "./contract-catalogue.ts";
import { describeFeast } from "./contract-feast.ts";
import { describeFlow } from "./contract-flow.ts";
import { describeHistorical } from "./contract-historical.ts";
import { describePushed } from "./contract-pushed.ts";
import { describeRank } from "./contract-rank.ts";

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

describe("API Gateway", () => {
  const target = host(() => deployed().api.url, false);
  describeErrors(target);
  describeFlow(target);
  describeRank(target);
  describeHistorical(target);
  describePushed(target);
  describeCatalogue(target);
  describeFeast(target);

  it("answers a path without a method by itself, as a problem document", async () => {
    const answer = await fetch(`${deployed().api.url}/v1/events`);
    const problem = (await answer.json()) as Record<string, unknown>;
    expect([answer.status, answer.headers.get("content-type")]).toEqual([404, "application/problem+json"]);
    expect(problem).toMatchObject({ type: "urn:freshet:problem:not_found", status: 404, code: "not_found" });
    expect(problem["request_id"]).toMatch(/\w/);
    expect(answer.headers.get("x-request-id")).toBe(problem["request_id"]);
  });
});

describe("freshet serve", () => {
  const target = host(() => deployed().serve.url, true);
  describeErrors(target);
  describeFlow(target);
  describeRank(target);
  describeHistorical(target);
  describePushed(target);
  describeCatalogue(target);
  describeFeast(target);
});
