/** Requests are checked by hand where they are hot and described by zod where they are published: both must say the same. */
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { createApp } from "../../../../functions/api/app.ts";
import { createKey } from "../../../../functions/api/keys/keys.ts";
import { createOpenApiDocument } from "../../../../functions/api/openapi/openapi.ts";
import { requestSchemas } from "../../../../functions/api/openapi/schemas.ts";
import { transaction } from "../contract/contract-calls.ts";
import { memoryPushed, plan, testDependencies } from "../doubles.ts";

const { dependencies, keys } = testDependencies();
const app = createApp(dependencies);
const schemas = requestSchemas(plan);
let key: string;

beforeAll(async () => {
  key = (await createKey(keys, { tenant: "team-a", scopes: ["read", "write", "score", "admin"], nowMs: 0 })).key;
});

async function answer(path: string, body: unknown): Promise<{ status: number; body: any }> {
  const headers = { "x-api-key": key, "content-type": "application/json" };
  const response = await app.request(path, { method: "POST", headers, body: JSON.stringify(body) });
  return { status: response.status, body: await response.json() };
}

const OMITTED = Symbol("omitted");
const value = fc.constantFrom<unknown>(
  OMITTED,
  null,
  "",
  "c1",
  "é".repeat(256),
  "c".repeat(257),
  0,
  -1.5,
  1e20,
  true,
  [],
  ["c1"],
  {},
);
/** An object with any of the values in any of the fields, and mostly good ones, so that both outcomes are common. */
const objectOf = (good: Record<string, unknown>) =>
  fc.record(
    Object.fromEntries(
      Object.entries(good).map(([name, usual]) => [
        name,
        fc.oneof({ weight: 6, arbitrary: fc.constant(usual) }, { weight: 1, arbitrary: value }),
      ]),
    ),
  );
const present = (drawn: Record<string, unknown>) =>
  Object.fromEntries(Object.entries(drawn).filter(([, given]) => given !== OMITTED));

/** Of a member that the call does not have. */
const mostlyLeftOut = fc.oneof({ weight: 9, arbitrary: fc.constant(OMITTED) }, { weight: 1, arbitrary: value });

async function agree(
  arbitrary: fc.Arbitrary<unknown>,
  path: string,
  schema: { safeParse(given: unknown): { success: boolean; error?: unknown } },
): Promise<void> {
  const seen = { taken: 0, refused: 0 };
  await fc.assert(
    fc.asyncProperty(arbitrary, async (body) => {
      const reply = await answer(path, body);
      const taken = reply.status < 400;
      const parsed = schema.safeParse(body);
      expect({ taken, why: taken ? "" : reply.body.code }).toEqual({
        taken: parsed.success,
        why: taken ? "" : reply.body.code,
      });
      seen[taken ? "taken" : "refused"]++;
    }),
    { numRuns: 500 },
  );
  expect(Math.min(seen.taken, seen.refused)).toBeGreaterThan(20);
}

describe("the published schema and the router take the same requests", () => {
  it("scores", async () => {
    const good = { card_id: "c1", merchant_id: "m1", device_id: "d1", user_id: null, amount: 1.5, country: "SE" };
    const body = objectOf({ ...good, explain: false }).map(present);
    await agree(body, "/v1/score/fraud", schemas.score["fraud"]);
  });

  it("online features of a card", async () => {
    const entities = objectOf({ card_id: "c1", device_id: null }).map(present);
    // A card's key may be left out as far as the schema can tell; that it is needed depends on the features named.
    const asked = entities.filter((given) => "card_id" in given);
    const features = fc.constant(["card_activity:tx_count_1h"]);
    const body = fc.record({ entities: asked, features, as_of_ms: mostlyLeftOut }).map(present);
    await agree(body, "/v1/features/online", schemas.online);
  });

  it("batches", async () => {
    const row = objectOf({ card_id: "c1" })
      .map(present)
      .filter((given) => "card_id" in given);
    const rows = fc.oneof(
      fc.array(row, { maxLength: 3 }),
      fc.constant(Array.from({ length: 101 }, () => ({ card_id: "c" }))),
    );
    const features = fc.constant(["card_activity:tx_count_1h"]);
    const body = fc.record({ entities: rows, features, request: mostlyLeftOut }).map(present);
    await agree(body, "/v1/features/batch", schemas.batch);
  });

  it("events, as far as types go", async () => {
    const good = transaction();
    // Ids and times have rules beyond their types; they keep good values here and have cases of their own.
    const { transaction_id, event_time, card_id, ...free } = good;
    const body = objectOf(free)
      .map(present)
      .filter((given) => !Object.values(given).some((one) => one === 1e20 || String(one).length > 256))
      .map((given) => ({ transaction_id, event_time, card_id, ...given }));
    await agree(body, "/v1/events/transactions", schemas.events["transactions"]);
  });
});

// None of these ports is asked anything: each call ends before.
const all = createApp({ ...dependencies, pushed: memoryPushed(), scoring: {} as never, historical: {} as never });

it("what a change of an alias does not have is refused: a misspelt `force` is one that is left out", async () => {
  const options = {
    method: "POST",
    headers: { "x-api-key": key, "content-type": "application/json" },
    body: '{"version": 1, "froce": true}',
  };
  const reply = await all.request("/v1/models/fraud/aliases/champion", options);
  expect(await reply.json()).toMatchObject({ code: "field_unknown", field: "froce", repair: "did you mean force?" });
});

describe("parameters of a query", () => {
  const { paths } = createOpenApiDocument(plan, "1") as { paths: Record<string, Record<string, Operation>> };
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { security, parameters = [] }]) => ({
      method: method.toUpperCase(),
      path: path.replace(/\{\w+\}/g, "x"),
      keyed: (security ?? []).length > 0,
      names: parameters.filter((one) => one.in === "query").map(({ name }) => name),
    })),
  );
  const feasts = [
    "/get-online-features",
    "/push",
    "/write-to-online-store",
    "/materialize",
    "/materialize-incremental",
  ];
  const told = async (method: string, path: string, name: string) =>
    (await (await all.request(`${path}?${name}=1`, { method, headers: { "x-api-key": key } })).json()) as any;

  const ours = operations.filter(({ path, keyed }) => keyed && !feasts.includes(path));
  it.each(ours)("$method $path: those published are known, others are refused", async ({ method, path, names }) => {
    const { code, field, detail } = await told(method, path, "versoin");
    expect([code, field]).toEqual(["field_unknown", "versoin"]);
    expect(detail).toContain("has no parameter versoin");
    for (const name of names) expect((await told(method, path, name)).code).not.toBe("field_unknown");
  });

  it.each(feasts)("%s takes any, as Feast's server does", async (path) => {
    expect((await told("POST", path, "versoin")).code).not.toBe("field_unknown");
  });

  it("public pages take any: who looks whether a host lives may add what keeps an answer from being kept", async () => {
    expect((await app.request("/health?t=1")).status).toBe(200);
  });
});

interface Operation {
  readonly security?: readonly unknown[];
  readonly parameters?: readonly { readonly in: string; readonly name: string }[];
}
