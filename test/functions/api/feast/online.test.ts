/** `/get-online-features` held to what Feast's own server answered to the same requests over the same values (test/feast/record.py). */
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { FeatureValue, Value } from "../../../../core/plan.ts";
import { createKey } from "../../../../functions/api/keys/keys.ts";
import { listen, type RunningServer } from "../../../../functions/api/server.ts";
import recorded from "../../../fixtures/feast/0.67.0.json" with { type: "json" };
import { ridePlan, rideServices } from "../../../support/feast-plan.ts";
import { testDependencies } from "../doubles.ts";

interface Answer {
  readonly status: number;
  readonly body: string;
}
interface Case {
  readonly name: string;
  readonly path: string;
  readonly body?: unknown;
  readonly text?: string;
  readonly answer: Answer;
}
const cases = (recorded.cases as Case[]).filter(({ path }) => path === "/get-online-features");

const ports = testDependencies();
const { reader } = ports;
let server: RunningServer;
let key = "";
let readless = "";

const at = Date.parse("2026-01-31T10:00:00.123Z");
const whole = Date.parse("2026-01-31T10:00:00Z");
const values = (eventTimeMs: number, view: string, given: Record<string, Value>): Record<string, FeatureValue> =>
  Object.fromEntries(
    Object.entries(given).map(([name, value]) => [
      `${view}:${name}`,
      { value, status: value === null ? "NULL_VALUE" : "PRESENT", eventTimeMs },
    ]),
  );

beforeAll(async () => {
  const make = async (scopes: string[]) => (await createKey(ports.keys, { tenant: "team-a", scopes, nowMs: 0 })).key;
  [key, readless] = [await make(["read"]), await make(["score"])];
  const dependencies = { ...ports.dependencies, plan: ridePlan, services: rideServices, ingest: null };
  server = await listen({ port: 0, dependencies });
});
afterAll(() => server?.close());
beforeEach(() => {
  Object.assign(reader, { down: false, fault: null, degraded: null });
  const drivers = { conv_rate: 0.7, trips: 12, city: "Malmö", active: true };
  reader.values.clear();
  reader.values.set("team-a/driver/d1", values(at, "driver_stats", drivers));
  const second = { conv_rate: 3, trips: Number.MAX_SAFE_INTEGER, city: null, active: false };
  reader.values.set("team-a/driver/d2", values(whole, "driver_stats", second));
  reader.values.set("team-a/rider/1", values(at, "rider_stats", { spend: 9.5, trips: 3 }));
  reader.values.set("team-a/rider/2", values(whole, "rider_stats", { spend: 1e21, trips: 4 }));
});

async function post(body: unknown, headers: Record<string, string> = { "x-api-key": key }) {
  const response = await fetch(`${server.url}/get-online-features`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
  return { status: response.status, headers: response.headers, body: await response.text() };
}

it("answers a row alone as beside others", async () => {
  const ask = async (entity: string, ids: string[], features: string[]) => {
    const { body } = await post({ entities: { [entity]: ids }, features });
    // As text: a parser makes 3 of 3.0.
    return [...body.matchAll(/"(values|statuses|event_timestamps)":\[(.*?)\]/g)].map(([, , list]) => list.split(","));
  };
  for (const [entity, ids, features] of [
    ["driver_id", ["d1", "d2", "d3"], ["conv_rate", "trips", "city", "active"].map((name) => `driver_stats:${name}`)],
    ["rider_id", ["1", "2", "3"], ["rider_stats:spend", "rider_stats:trips"]],
  ] as const) {
    const together = await ask(entity, [...ids], [...features]);
    expect(together.length).toBe(3 * (1 + features.length));
    for (const [i, id] of ids.entries()) {
      expect(await ask(entity, [id], [...features]), id).toEqual(together.map((list) => [list[i]]));
    }
  }
});

interface Column {
  readonly values: unknown[];
  readonly statuses: string[];
  readonly event_timestamps: string[];
}
/** By name: Feast's own order within a view is another one each time it starts. */
function columns(body: string): Record<string, Column> {
  const { results, metadata } = JSON.parse(body);
  expect(results).toHaveLength(metadata.feature_names.length);
  return Object.fromEntries(metadata.feature_names.map((name: string, i: number) => [name, results[i]]));
}

/** Where Freshet answers something else, and why. */
const OTHERWISE: Readonly<Record<string, string>> = {
  "rows that are known, null in part, and missing":
    "Feast says PRESENT of nulls and of entities that it has never seen; the contract has words for both",
  "integer keys": "the same: rider 3 is NOT_FOUND",
  "integer keys as text": "ids are echoed as they were sent",
  "a service with an on-demand view": "Feast computes the first row alone",
  "a service with an on-demand view, full names": "Feast leaves the on-demand feature out",
  "a null key": "Feast fails; no key is an entity that is not found",
  "a null key beside a whole one": "the same",
  "a key of another type": "Feast takes 1.5 for 1",
  "a body without a type": "curl -d as in Feast's documentation is taken",
};
/** Feast's 500 for what a caller can mend, which its client would send three times more. */
const REFUSED: Readonly<Record<string, string>> = {
  "a feature that is named twice": "FeatureNameCollisionError",
  "a name that two views have": "FeatureNameCollisionError",
  "no row": "FeastError",
  "no entity": "FeastError",
  "lists of different lengths": "FeastError",
  "a join key that is not there": "FeastError",
  "neither features nor service": "FeastError",
  "a feature that its view lacks": "FeastObjectNotFoundException",
  "a name without a view": "FeastObjectNotFoundException",
};

describe("Feast's own answers", () => {
  const same = cases.filter(({ name, answer }) => answer.status === 200 && !(name in OTHERWISE));
  it.each(same)("$name: the same columns", async ({ body, answer }) => {
    const reply = await post(body);
    expect([reply.status, columns(reply.body)]).toEqual([200, columns(answer.body)]);
    // Join keys come first, in the order given, then views, each of them together, then what is computed on demand.
    const kinds = (names: string[]) => names.map((name) => name.replace(/^(city|conv_rate|trips|active)$/, "driver"));
    const names = (text: string) => JSON.parse(text).metadata.feature_names;
    if (!answer.body.includes("__")) expect(kinds(names(reply.body))).toEqual(kinds(names(answer.body)));
  });

  it("are met in enough cases, and every exception is one that is met", () => {
    expect(same.length).toBeGreaterThanOrEqual(9);
    const known = cases.map(({ name }) => name);
    expect([...Object.keys(OTHERWISE), ...Object.keys(REFUSED)].filter((name) => !known.includes(name))).toEqual([]);
    const failed = cases.filter(({ answer }) => answer.status === 500).map(({ name }) => name);
    expect(failed.filter((name) => !(name in REFUSED) && !(name in OTHERWISE))).toEqual([]);
  });

  it("bytes: doubles keep their point, texts their letters, times three digits or none", async () => {
    const body = { entities: { driver_id: ["d2", "d1"] }, features: ["driver_stats:conv_rate", "driver_stats:city"] };
    expect((await post(body)).body).toBe(
      '{"results":[{"values":["d2","d1"],"statuses":["PRESENT","PRESENT"],"event_timestamps":["1970-01-01T00:00:00Z","1970-01-01T00:00:00Z"]},' +
        '{"values":[3.0,0.7],"statuses":["PRESENT","PRESENT"],"event_timestamps":["2026-01-31T10:00:00Z","2026-01-31T10:00:00.123Z"]},' +
        '{"values":[null,"Malmö"],"statuses":["NULL_VALUE","PRESENT"],"event_timestamps":["2026-01-31T10:00:00Z","2026-01-31T10:00:00.123Z"]}],' +
        '"metadata":{"feature_names":["driver_id","conv_rate","city"]}}',
    );
  });

  const errors = cases.filter(({ answer }) => [404, 422].includes(answer.status) && !answer.body.startsWith("{"));
  it.each(errors)("$name: the same status and class", async ({ body, answer }) => {
    const reply = await post(body);
    const [ours, theirs] = [JSON.parse(JSON.parse(reply.body)), JSON.parse(JSON.parse(answer.body))];
    expect([reply.status, ours.module, ours.class]).toEqual([answer.status, theirs.module, theirs.class]);
    expect(ours.message).not.toBe("");
  });

  const shapes = cases.filter(({ name, answer }) => answer.body.startsWith('{"detail"') && !(name in OTHERWISE));
  it.each(shapes)("$name: 422 with the same place", async ({ body, text, answer }) => {
    const reply = await post(text ?? body);
    const [[ours], [theirs]] = [JSON.parse(reply.body).detail, JSON.parse(answer.body).detail];
    expect(reply.status).toBe(answer.status);
    // Where JSON breaks off is not told here.
    if (text === undefined) expect(ours.loc).toEqual(theirs.loc);
    expect(ours).not.toHaveProperty("input");
  });

  it.each(Object.entries(REFUSED))("%s: 422 or 404 with class %s, where Feast fails", async (name, wanted) => {
    const { body, answer } = cases.find((one) => one.name === name)!;
    expect(answer.status).toBe(500);
    const reply = await post(body);
    const ours = JSON.parse(JSON.parse(reply.body));
    expect([[404, 422].includes(reply.status), ours.class]).toEqual([true, wanted]);
    expect(ours).toEqual(expect.objectContaining({ code: expect.any(String), repair: expect.any(String) }));
  });
});

describe("where Freshet says more than Feast", () => {
  it("nulls, the unknown, the old and the unbuilt have statuses of their own, and no value", async () => {
    const view = (status: FeatureValue["status"]): FeatureValue => ({ value: null, status, eventTimeMs: at });
    reader.values.set("team-a/driver/d5", {
      "driver_stats:conv_rate": view("NULL_VALUE"),
      "driver_stats:trips": view("OUTSIDE_MAX_AGE"),
      "driver_stats:city": view("NOT_READY"),
    });
    const features = ["conv_rate", "trips", "city", "active"].map((name) => `driver_stats:${name}`);
    const { conv_rate, trips, city, active } = columns(
      (await post({ entities: { driver_id: ["d5"] }, features })).body,
    );
    const time = "2026-01-31T10:00:00.123Z";
    expect(
      [conv_rate, trips, city, active].map(({ values, statuses, event_timestamps }) => [
        values[0],
        statuses[0],
        event_timestamps[0],
      ]),
    ).toEqual([
      [null, "NULL_VALUE", time],
      [null, "OUTSIDE_MAX_AGE", time],
      [null, "INVALID", time],
      [null, "NOT_FOUND", "1970-01-01T00:00:00Z"],
    ]);
  });

  it("on-demand features are computed for each row, and have their service's name in full", async () => {
    const entities = { driver_id: ["d1", "d9", "d2"], rider_id: [1, 2, 3], surge: [2, 1.5, null] };
    const short = columns((await post({ entities, feature_service: "ride" })).body);
    expect(short.price).toEqual({
      values: [1.4, null, null],
      statuses: ["PRESENT", "NULL_VALUE", "NULL_VALUE"],
      event_timestamps: Array(3).fill("1970-01-01T00:00:00Z"),
    });
    const full = columns((await post({ entities, feature_service: "ride", full_feature_names: true })).body);
    expect(Object.keys(full)).toEqual([
      "driver_id",
      "rider_id",
      "driver_stats__conv_rate",
      "driver_stats__city",
      "rider_stats__spend",
      "ride__price",
    ]);
  });

  it.each([
    ["1.5", [1.5], "given 1.5"],
    ["an integer beyond 2^53", [2 ** 53], "given a larger one"],
    ["true", [true], "given a boolean"],
    ["an object", [{}], "given an object"],
    ["an empty text", [""], "is empty"],
  ])("a key that is %s is refused", async (_, rider_id, detail) => {
    const reply = await post({ entities: { rider_id }, features: ["rider_stats:spend"] });
    expect([reply.status, reply.body.includes(detail)]).toEqual([422, true]);
  });

  it("a null key is read nowhere", async () => {
    reader.requests.length = 0;
    const body = { entities: { driver_id: [null, "d1"] }, features: ["driver_stats:trips"] };
    const { driver_id, trips } = columns((await post(body)).body);
    expect([driver_id.statuses, trips.statuses]).toEqual([
      ["NULL_VALUE", "PRESENT"],
      ["NOT_FOUND", "PRESENT"],
    ]);
    expect(reader.requests.map(({ id }) => id)).toEqual(["d1"]);
  });

  it("1 and 1.0 are the id 1, and the tenant is the key's", async () => {
    reader.requests.length = 0;
    await post(
      '{"entities":{"rider_id":[1,1.0,"1"],"tenant":["team-b","team-b","team-b"]},"features":["rider_stats:spend"]}',
    );
    expect(reader.requests.map(({ tenant, id }) => `${tenant}/${id}`)).toEqual(Array(3).fill("team-a/1"));
  });

  it("an unknown service, items that are no names and request data are told by the fields of the body", async () => {
    const told = async (body: object) => {
      const { detail, message, field } = ((text) => (typeof text === "string" ? JSON.parse(text) : text))(
        JSON.parse((await post({ entities: { driver_id: ["d1"], rider_id: ["1"], surge: ["much"] }, ...body })).body),
      );
      return [field, message ?? detail[0].msg];
    };
    expect(await told({ feature_service: "rides" })).toEqual([
      "feature_service",
      'no feature service is named "rides" (did you mean ride?)',
    ]);
    expect((await told({ features: ["driver_stats:city", 1] }))[0]).toBe("features[1]");
    expect((await told({ features: ["driver_stats:city", 1] }))[1]).toContain("features[1] is a name, given a number");
    const [field, message] = await told({ feature_service: "ride" });
    expect([field, message]).toEqual([
      "entities.surge[0]",
      expect.stringContaining("entities.surge[0] is a number or"),
    ]);
    expect(await told({ features: ["driver_stats:city", "driver_stats:city"] })).toEqual([
      "features",
      "driver_stats:city is named twice (name each feature once)",
    ]);
  });

  it("features that are no list of names are refused, also where a service wins over them", async () => {
    for (const features of [5, "driver_stats:city", [5], {}]) {
      const reply = await post({ entities: { driver_id: ["d1"], rider_id: ["1"] }, features, feature_service: "ride" });
      expect([reply.status, JSON.parse(reply.body).code]).toEqual([422, "wrong_type"]);
    }
  });

  it("more than 100 rows are refused", async () => {
    const reply = await post({ entities: { driver_id: Array(101).fill("d1") }, features: ["driver_stats:city"] });
    expect(reply.status).toBe(422);
    expect(JSON.parse(JSON.parse(reply.body))).toMatchObject({ class: "FeastError", code: "too_many_rows" });
  });
});

it("the configuration in the documentation is the one that make test-feast runs with", () => {
  const read = (path: string) => readFileSync(new URL(`../../../../${path}`, import.meta.url), "utf8");
  expect(read("docs/api.md")).toContain(`\`\`\`yaml\n${read("test/feast/feature_store.yaml")}\`\`\``);
});

describe("keys and faults", () => {
  const body = { entities: { driver_id: ["d1"] }, features: ["driver_stats:city"] };

  it("the key comes in x-api-key or as a bearer token, as Feast's client sends it", async () => {
    expect((await post(body, { authorization: `Bearer ${key}` })).status).toBe(200);
    // A variable of the caller's that is not set makes an empty header, which presents nothing.
    expect((await post(body, { "x-api-key": "", authorization: `Bearer ${key}` })).status).toBe(200);
    expect(JSON.parse((await post(body, { "x-api-key": "" })).body).code).toBe("api_key_missing");
    const none = await post(body, {});
    expect([none.status, JSON.parse(none.body).code]).toEqual([401, "api_key_missing"]);
    const wrong = await post(body, { authorization: "Bearer nobody" });
    expect([wrong.status, JSON.parse(wrong.body).code]).toEqual([401, "api_key_invalid"]);
    expect(JSON.parse(wrong.body).detail).not.toContain("nobody");
  });

  it("a key without the scope is 403, Feast's FeastPermissionError", async () => {
    const reply = await post(body, { "x-api-key": readless });
    expect(reply.status).toBe(403);
    expect(JSON.parse(JSON.parse(reply.body))).toMatchObject({ class: "FeastPermissionError", code: "scope_missing" });
  });

  it("a store that does not answer is 503 with Retry-After, which Feast's client heeds", async () => {
    reader.down = true;
    const reply = await post(body);
    expect([reply.status, reply.headers.get("retry-after")]).toEqual([503, "1"]);
    expect(JSON.parse(JSON.parse(reply.body))).toMatchObject({ class: "FeastError", code: "store_unavailable" });
  });

  it("a store that may lag behind is told in a header", async () => {
    reader.degraded = "failover";
    expect((await post(body)).headers.get("x-freshet-degraded")).toBe("failover");
  });
});
