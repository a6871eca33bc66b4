/** What API Gateway is told of a key. That it asks, and keeps the answer, is in the template and the system test. */
import { describe, expect, it } from "vitest";
import { createAuthorizer } from "../../../../functions/api/keys/authorizer.ts";
import { createAuthenticator, createKey } from "../../../../functions/api/keys/keys.ts";
import { memoryKeyStore } from "../doubles.ts";

const API = "arn:aws:execute-api:eu-west-1:000000000000:a1b2c3";
const unknown = `fk_${"z".repeat(12)}_${"A".repeat(43)}`;

const usageKeys = { own: { "team-a": "key-of-team-a" }, shared: ["s0", "s1", "s2"] };

async function setUp(expiresAtMs?: number, tenant = "team-a") {
  const store = memoryKeyStore();
  const time = { ms: 1_000 };
  const { key, record } = await createKey(store, { tenant, scopes: ["read"], nowMs: 0, expiresAtMs });
  const authorize = createAuthorizer(
    createAuthenticator(store, () => time.ms),
    usageKeys,
  );
  const ask = (headers: Record<string, string>) =>
    authorize({ methodArn: `${API}/prod/GET/v1/features/card/c1`, headers });
  return { store, time, key, record, ask };
}

describe("the authorizer", () => {
  it("lets a key of ours in, to every method and path of the stage: the answer is kept for the key", async () => {
    const { key, record, ask } = await setUp();
    const answer = await ask({ "X-Api-Key": key });
    expect(answer).toEqual({
      principalId: record.id,
      policyDocument: {
        Version: "2012-10-17",
        Statement: [{ Action: "execute-api:Invoke", Effect: "Allow", Resource: `${API}/prod/*` }],
      },
      usageIdentifierKey: "key-of-team-a",
      context: { key_id: record.id, tenant: "team-a" },
    });
    expect(JSON.stringify(answer)).not.toContain(key.split("_")[2]);
  });

  it.each([
    ["no key", {}],
    ["another text", { "x-api-key": "let-me-in" }],
    ["a key that there is not", { "x-api-key": unknown }],
  ] as [string, Record<string, string>][])("keeps out %s", async (_, headers) => {
    const { ask } = await setUp();
    expect((await ask(headers)).policyDocument.Statement[0].Effect).toBe("Deny");
  });

  it("keeps out a wrong secret, before and after the right one was seen", async () => {
    const { key, ask } = await setUp();
    const wrong = key.slice(0, -1) + (key.endsWith("A") ? "B" : "A");
    for (let i = 0; i < 2; i++) {
      expect((await ask({ "x-api-key": wrong })).policyDocument.Statement[0].Effect).toBe("Deny");
      expect((await ask({ "x-api-key": key })).policyDocument.Statement[0].Effect).toBe("Allow");
    }
  });

  it("names a key of the gateway for every caller that it lets in: a tenant's own, or one by its name that it shares", async () => {
    const keyOf = async (tenant: string, expiresAtMs?: number) => {
      const { key, ask } = await setUp(expiresAtMs, tenant);
      return (await ask({ "x-api-key": key })).usageIdentifierKey;
    };
    const others = await Promise.all(Array.from({ length: 30 }, (_, i) => keyOf(`team-${i}`)));
    expect(new Set(others)).toEqual(new Set(usageKeys.shared));
    expect(await keyOf("team-7")).toBe(others[7]);
    // Names that every object has are tenants like others.
    expect(usageKeys.shared).toContain(await keyOf("constructor"));
    expect(usageKeys.shared).toContain(await keyOf("team-a", 500));
  });

  it("leaves an expired key to the router, which tells its holder", async () => {
    const { key, ask } = await setUp(500);
    expect(await ask({ "x-api-key": key })).toMatchObject({
      principalId: "expired",
      policyDocument: { Statement: [{ Effect: "Allow" }] },
    });
  });

  it("notices within 30 s that a key was revoked", async () => {
    const { key, record, store, time, ask } = await setUp();
    await ask({ "x-api-key": key });
    await store.remove(record.id);
    time.ms += 30_000;
    expect((await ask({ "x-api-key": key })).policyDocument.Statement[0].Effect).toBe("Deny");
  });

  it("decides nothing while the table does not answer: that would be kept", async () => {
    const { key, store, ask } = await setUp();
    store.broken = true;
    await expect(ask({ "x-api-key": key })).rejects.toMatchObject({ code: "keys_unavailable" });
  });
});
