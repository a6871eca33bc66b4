/**
 * Services that take registered features, on a host whose table of registrations is a double: what each tenant is answered,
 * and what happens while the table does not answer.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { FeatureValue } from "../../../../core/plan.ts";
import { createKey } from "../../../../functions/api/keys/keys.ts";
import * as schemas from "../../../../functions/api/openapi/schemas.ts";
import { listen, type RunningServer } from "../../../../functions/api/server.ts";
import { definitions, registeredPlan as plan } from "../../../support/registered-plan.ts";
import { caller, conforming } from "../contract/contract-calls.ts";
import { memoryPushed, testDependencies } from "../doubles.ts";

const ports = testDependencies();
const pushed = memoryPushed();
let nowMs = Date.now();
const keys = { first: "", second: "", readOnly: "", expired: "" };
let server: RunningServer;
const call = caller({ baseUrl: () => server.url, keys: () => keys, plan, exactBytes: true });
const present = (value: FeatureValue["value"]): FeatureValue => ({ value, status: "PRESENT", eventTimeMs: 1_000 });

beforeAll(async () => {
  const make = async (tenant: string) =>
    (await createKey(ports.keys, { tenant, scopes: ["read", "score", "write", "admin"], nowMs: 0 })).key;
  keys.first = await make("team-a");
  keys.second = await make("team-b");
  const dependencies = {
    ...ports.dependencies,
    ingest: null,
    plan,
    services: definitions.services,
    pushed,
    clock: () => nowMs,
  };
  server = await listen({ port: 0, dependencies });
  // In the order in which their ids are given.
  for (const [name, dtype, entity, version] of [
    ["profile:score", "double", "shop", 1],
    ["profile:city", "string", "shop", 2],
    ["profile:score", "double", "shop", 7],
    ["identity:years", "int64", "owner", 1],
  ] as const) {
    const reply = await call("/v1/features/register", { body: { name, dtype, entity, version } });
    expect([reply.body.detail, reply.status]).toEqual([undefined, 201]);
  }
  expect(ports.audit.records.map(({ action, target, outcome }) => [action, target, outcome])).toEqual(
    ["profile:score@1", "profile:city@2", "profile:score@7", "identity:years@1"].map((name) => [
      ...["features.register", `feature ${name}, created`, "done"],
    ]),
  );
  const { values } = ports.reader;
  values.set("team-a/shop/s1", { "risk:n": present(3), "profile:score": present(5), "profile:city": present("Oslo") });
  values.set("team-a/owner/o1", { "identity:years": present(9) });
  values.set("team-b/shop/s1", { "risk:n": present(4), "profile:score": present(500) });
});
afterAll(() => server?.close());
beforeEach(() => {
  pushed.table = "answers";
  ports.reader.requests.length = 0;
  ports.lines.length = 0;
});

const body = { shop: "s1", owner_id: "o1" };
const score = async (key?: string) => {
  const reply = await call("/v1/score/trust", { body: { ...body, explain: true }, key });
  expect([reply.body.detail, reply.status]).toEqual([undefined, 200]);
  return conforming(schemas.scoreAnswer, reply);
};

describe("a service with registered features", () => {
  it("scores with what the tenant has registered and pushed, each read under its version's id", async () => {
    expect(await score()).toMatchObject({
      // 1 - (1 - 0.1) (1 - 0.5), since the rule saw 5.
      score: 0.55,
      features_used: ["risk:n", "profile:score", "profile:city", "identity:years", "twice"],
      features_missing: [],
      degraded: false,
      explanation: { features: { "profile:score": 5, twice: 10, "identity:years": 9 } },
    });
    expect(ports.reader.requests).toMatchObject([
      {
        ...{ tenant: "team-a", entity: "shop", id: "s1", features: ["risk:n", "profile:score", "profile:city"] },
        // Not the version that the name alone means.
        registered: [
          { position: 1, field: "_profile", id: 0 },
          { position: 2, field: "_profile", id: 1 },
        ],
      },
      { tenant: "team-a", entity: "owner", id: "o1", registered: [{ position: 0, field: "_identity", id: 3 }] },
    ]);
  });

  it("misses what another tenant has not registered, and asks the store for none of it", async () => {
    expect(await score(keys.second)).toMatchObject({
      score: expect.closeTo(0.1, 12),
      features_used: ["risk:n"],
      features_missing: ["profile:score", "profile:city", "identity:years", "twice"],
      degraded: false,
      // The declared default stands in.
      explanation: { features: { "profile:score": null, "identity:years": 1 } },
    });
    expect(ports.reader.requests).toMatchObject([{ tenant: "team-b", features: ["risk:n"], registered: null }]);
  });

  it("is told by the catalogue as it was scored: what an outage leaves out counts as nothing", async () => {
    const told = async () => (await call("/v1/features/profile:score@1", {})).body.served;
    const before = await told();
    await score();
    const after = await told();
    expect(after).toMatchObject({ rows: before.rows + 1, present_rate: 1, values: { min: 5, max: 5 } });
    ports.reader.down = true;
    expect(await score()).toMatchObject({ degraded: true });
    ports.reader.down = false;
    expect((await told()).rows).toBe(after.rows);
  });

  it("needs the keys of all its entities, whoever has registered what", async () => {
    for (const key of [keys.first, keys.second]) {
      const batch = await call("/v1/score/trust/batch", { body: { rows: [{ shop: "s1" }] }, key });
      expect([batch.status, batch.body.code, batch.body.field]).toEqual([
        ...[400, "key_missing_in_body", "rows[0].owner_id"],
      ]);
      const wrong = await call("/v1/score/trust", { body: { ...body, owner_id: 5 }, key });
      expect([wrong.status, wrong.body.code, wrong.body.field]).toEqual([400, "wrong_type", "owner_id"]);
    }
  });

  it("is read in one go, row by row, and as Feast's clients ask; with its on-demand features where they are asked for", async () => {
    const online = await call("/v1/features/online", { body: { entities: body, service: "trust", request: {} } });
    expect(conforming(schemas.onlineAnswer, online).features).toMatchObject({
      "profile:score": { value: 5, status: "PRESENT" },
      "identity:years": { value: 9 },
      twice: { value: 10 },
    });
    const batch = await call("/v1/features/batch", {
      body: { entities: [body, body], service: "trust" },
      key: keys.second,
    });
    expect(conforming(schemas.batchAnswer, batch)).toMatchObject({
      features: ["risk:n", "profile:score", "profile:city", "identity:years"],
      rows: [
        { values: [4, null, null, null], statuses: ["PRESENT", "NOT_FOUND", "NOT_FOUND", "NOT_FOUND"] },
        { values: [4, null, null, null] },
      ],
    });
    const entities = { shop: ["s1", "s2"], owner_id: ["o1", "o2"] };
    const feast = async (asked: object, key?: string) => {
      const reply = await call("/get-online-features", { body: { entities, ...asked }, key });
      expect([reply.body, reply.status]).toEqual([expect.anything(), 200]);
      const { feature_names: names } = reply.body.metadata;
      return Object.fromEntries(names.map((name: string, i: number) => [name, reply.body.results[i].values]));
    };
    expect(await feast({ feature_service: "trust" })).toEqual({
      ...{ shop: ["s1", "s2"], owner_id: ["o1", "o2"], n: [3, null], score: [5, null], city: ["Oslo", null] },
      ...{ years: [9, null], twice: [10, null] },
    });
    expect(await feast({ feature_service: "trust", full_feature_names: true }, keys.second)).toMatchObject({
      ...{
        risk__n: [4, null],
        profile__score: [null, null],
        identity__years: [null, null],
        trust__twice: [null, null],
      },
    });
    // What is computed on demand takes the service's version, whatever the name alone means by now.
    ports.reader.values.get("team-a/shop/s1")!["profile:score@1"] = present(5);
    expect(await feast({ features: ["trust:twice", "risk:n"] })).toMatchObject({ twice: [10, null], n: [3, null] });
    expect(await feast({ features: ["trust:twice"] }, keys.second)).toMatchObject({ twice: [null, null] });
  });

  it("is told of in the catalogue, by the version that it takes, and in contexts", async () => {
    const services = async (name: string) => (await call(`/v1/features/${name}`)).body.services;
    expect(await services("profile:score@1")).toEqual(["trust"]);
    expect(await services("profile:score@7")).toEqual([]);
    expect(await services("risk:n")).toEqual(["buy", "trust"]);
    ports.reader.values.get("team-a/shop/s1")!["profile:city@2"] = present("Oslo");
    const context = await call("/v1/context/shop/s1?service=trust&format=json");
    expect(context.body.features.map(({ name }: { name: string }) => name).sort()).toEqual([
      ...["profile:city@2", "profile:score@1", "risk:n"],
    ]);
  });

  it("refuses registrations that it could not read, naming what it takes", async () => {
    const register = (more: object) =>
      call("/v1/features/register", {
        body: { name: "profile:score", dtype: "double", entity: "shop", ...more },
        key: keys.second,
      });
    const wrong = await register({ dtype: "int64" });
    expect([wrong.status, wrong.body]).toMatchObject([
      409,
      {
        code: "feature_conflict",
        field: "dtype",
        detail: "service trust takes profile:score@1 with dtype double, given int64",
        repair: "register it with dtype double, or under another name or version",
      },
    ]);
    expect((await register({ entity: "owner" })).body).toMatchObject({ code: "feature_conflict", field: "entity" });
    expect((await register({ dtype: "int64", version: 3 })).status).toBe(201);
  });
});

describe("while the table of registrations does not answer", () => {
  it.each(["fails", "hangs"] as const)("and %s, a host that knows them goes on with what it knew", async (how) => {
    await score();
    pushed.table = how;
    nowMs += 3_600_000;
    expect(await score()).toMatchObject({ score: 0.55, degraded: false, features_missing: [] });
    expect(await score()).toMatchObject({ score: 0.55, degraded: false });
  });

  it.each(["fails", "hangs"] as const)(
    "and %s, a host that knows none scores by rules and says so; a read fails",
    async (how) => {
      // The host tells each kind of fault once a second.
      nowMs += 1_000;
      const key = (await createKey(ports.keys, { tenant: `new-${how}`, scopes: ["read", "score"], nowMs: 0 })).key;
      ports.reader.values.set(`new-${how}/shop/s1`, { "risk:n": present(4) });
      pushed.table = how;
      expect(await score(key)).toMatchObject({
        score: expect.closeTo(0.1, 12),
        variant: "fallback",
        degraded: true,
        degraded_reason: "catalogue_unavailable",
        features_used: ["risk:n"],
        features_missing: ["profile:score", "profile:city", "identity:years", "twice"],
      });
      expect(ports.lines).toMatchObject([{ message: "score degraded", details: { code: "catalogue_unavailable" } }]);
      if (how === "hangs") return;
      for (const [path, asked] of [
        ["/v1/features/online", { entities: body, service: "trust" }],
        ["/get-online-features", { entities: { shop: ["s1"], owner_id: ["o1"] }, feature_service: "trust" }],
      ] as const) {
        const read = await call(path, { body: asked, key });
        expect([read.status, JSON.stringify(read.body)]).toEqual([
          503,
          expect.stringContaining("catalogue_unavailable"),
        ]);
      }
      // Other services are not touched by it.
      const other = { entities: { shop: "s1" }, service: "buy" };
      expect((await call("/v1/features/online", { body: other, key })).status).toBe(200);
    },
  );
});
