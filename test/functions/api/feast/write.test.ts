/** `/push` and `/write-to-online-store` held to what Feast's own server answered. What they store: contract-feast.ts. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { PushedFeature } from "../../../../core/pushed-feature.ts";
import { createKey } from "../../../../functions/api/keys/keys.ts";
import { listen, type RunningServer } from "../../../../functions/api/server.ts";
import recorded from "../../../fixtures/feast/0.67.0.json" with { type: "json" };
import { ridePlan } from "../../../support/feast-plan.ts";
import { testDependencies } from "../doubles.ts";

const registered = (
  entity: string,
  dtypes: Record<string, PushedFeature["dtype"]>,
  view = `${entity}_stats_push`,
): PushedFeature[] =>
  Object.entries(dtypes).map(([key, dtype], id) => ({
    ...{ view, key, dtype, id, entity, version: 1, ttlMs: 3_600_000 },
    ...{ description: "", unit: "", owner: "", tags: [], deprecated: null, registeredMs: 0 },
  }));
const features = [
  ...registered("driver", { conv_rate: "double", trips: "int64", city: "string", active: "boolean" }),
  ...registered("rider", { spend: "double", trips: "int64" }),
  // The second from before such names were refused.
  ...registered("driver", { created: "string", driver_id: "string" }, "odd"),
];

const ports = testDependencies();
let server: RunningServer;
let key = "";
const stored: string[] = [];
let archived = "";
let archiveFails = false;
beforeAll(async () => {
  key = (await createKey(ports.keys, { tenant: "team-a", scopes: ["write", "read"], nowMs: 0 })).key;
  const current = new Map(features.map(({ view, key: name }) => [`${view}:${name}`, 1]));
  const pushed = {
    registry: { load: async () => ({ revision: 1, features, current }), register: () => Promise.reject(new Error()) },
    store: {
      push: async (rows: readonly { id: string; view: string }[]) => {
        stored.push(...rows.map(({ view, id }) => `${view}/${id}`));
        return rows.map(() => 1_800_000_000_000);
      },
    },
    archive: {
      append: async (_: string, __: string, lines: string) => {
        if (archiveFails) throw new Error("the bucket is gone");
        archived += lines;
      },
    },
    close: async () => {},
  };
  const dependencies = { ...ports.dependencies, plan: ridePlan, services: [], ingest: null, pushed };
  server = await listen({ port: 0, dependencies });
});
afterAll(() => server?.close());

async function post(path: string, body: unknown) {
  const response = await fetch(server.url + path, {
    method: "POST",
    headers: { authorization: `Bearer ${key}` },
    body: JSON.stringify(body),
  });
  return { status: response.status, body: await response.text() };
}
const recordedAs = (name: string): any => recorded.cases.find((one) => one.name === name);
/** Here the push source has the view's name, whichever route writes. */
const asHere = (body: any) =>
  body.feature_view_name === "rider_stats" ? { ...body, feature_view_name: "rider_stats_push" } : body;

describe("Feast's own answers", () => {
  it.each(["push", "write"])("%s: the same, with all of it stored and archived", async (name) => {
    const { path, body, answer } = recordedAs(name);
    [stored.length, archived] = [0, ""];
    const reply = await post(path, asHere(body));
    expect([reply.status, reply.body]).toEqual([answer.status, answer.body]);
    const ids =
      name === "push" ? ["driver_stats_push/d1", "driver_stats_push/d2"] : ["rider_stats_push/1", "rider_stats_push/2"];
    expect(stored).toEqual(ids.map((id) => `_${id}`));
    expect(archived.trim().split("\n")).toHaveLength(2);
  });

  it.each(["push: an unknown source", "write: an unknown view"])("%s: the same status", async (name) => {
    const { path, body, answer } = recordedAs(name);
    const reply = await post(path, body);
    const [ours, theirs] = [reply.body, answer.body].map((text) => JSON.parse(JSON.parse(text)).class);
    // FeatureViewNotFoundException is the more exact of two classes that Feast has for the same.
    expect([reply.status, ours]).toEqual([
      answer.status,
      theirs === "FeastObjectNotFoundException" ? "FeatureViewNotFoundException" : theirs,
    ]);
  });

  it.each(["push: no source", "write: no view"])("%s: 422 with the same place", async (name) => {
    const { path, body, answer } = recordedAs(name);
    const reply = await post(path, { ...body, df: {} });
    expect([reply.status, JSON.parse(reply.body).detail[0].loc]).toEqual([422, JSON.parse(answer.body).detail[0].loc]);
  });

  it.each(["push: an unknown target", "push: columns of different lengths", "push: no key", "push: no time"])(
    "%s: 422, where Feast fails",
    async (name) => {
      const { path, body, answer } = recordedAs(name);
      expect([answer.status, (await post(path, body)).status]).toEqual([500, 422]);
    },
  );

  it("push: a feature less: is taken, where Feast fails", async () => {
    const { path, body, answer } = recordedAs("push: a feature less");
    expect([answer.status, (await post(path, body)).status]).toEqual([500, 200]);
  });
});

describe("columns", () => {
  const frame = { driver_id: ["d1"], event_timestamp: ["2026-01-31T10:00:00"] };
  const write = async (view: string, df: object) => {
    const { status, body } = await post("/write-to-online-store", {
      feature_view_name: view,
      df: { ...frame, ...df },
    });
    const parsed = JSON.parse(body);
    const error = typeof parsed === "string" ? JSON.parse(parsed) : parsed;
    return { status, ...error, told: error?.message ?? error?.detail[0].msg };
  };

  it("one of Feast's own is left aside, and written where a feature has its name", async () => {
    expect((await write("driver_stats_push", { trips: [1], created: [5] })).status).toBe(200);
    expect((await write("odd", { created: ["2026"] })).status).toBe(200);
    expect(await write("odd", { created: [5] })).toMatchObject({ status: 422, field: "df.created[0]" });
    // As Feast's client sends it with whatever is written: it must not become the feature's value.
    const nothing = await write("odd", { created: [null] });
    expect(nothing).toMatchObject({ status: 422, code: "selection_invalid", field: "df" });
  });

  it("of one feature there is one", async () => {
    expect(await write("driver_stats_push", { trips: [1], "trips@1": [2] })).toMatchObject({
      ...{ status: 422, code: "selection_invalid", field: "df.trips@1" },
      message: "driver_stats_push:trips@1 is named twice, as trips and trips@1 (send one column for each feature)",
    });
  });

  it("name what is wrong in a row", async () => {
    expect(await write("driver_stats_push", { driver_id: [null], trips: [1] })).toMatchObject({
      ...{ status: 422, code: "wrong_type", field: "df.driver_id[0]" },
      told: "1 of 1 rows were refused, none was stored; row 0: driver_id is null (send its id, or leave the row out)",
    });
    const old = await write("driver_stats_push", { trips: [1], event_timestamp: ["1999-12-31"] });
    expect(old).toMatchObject({ status: 422, code: "event_time_invalid", field: "df.event_timestamp[0]" });
    expect(old.told).toContain(
      'event_timestamp is when the values were true, from 2000 on, given "1999-12-31" (send ISO',
    );
    const ahead = await write("driver_stats_push", { trips: [1], event_timestamp: ["2126-12-31"] });
    expect(ahead).toMatchObject({ code: "event_time_future", field: "df.event_timestamp[0]" });
    expect(ahead.told).toContain("event_timestamp is more than");
    expect(await write("driver_stats_push", { city: ["Oslo"], trips: ["many"] })).toMatchObject({
      ...{ code: "value_type", field: "df.trips[0]" },
    });
    expect((await write("driver_stats_push", {})).told).toContain(
      "(send one or more of active, city, conv_rate, trips)",
    );
  });

  it("a feature that is named as the join key is not read beside it, unless by its name in full", async () => {
    const read = (full_feature_names: boolean) =>
      post("/get-online-features", {
        entities: { driver_id: ["d1"] },
        features: ["odd:driver_id"],
        full_feature_names,
      });
    const short = await read(false);
    expect([short.status, JSON.parse(JSON.parse(short.body))]).toMatchObject([422, { code: "names_collide" }]);
    expect((await read(true)).status).toBe(200);
  });
});

it("what is not in the archive is not acknowledged: 503, to be sent again", async () => {
  archiveFails = true;
  const { path, body } = recordedAs("push");
  const reply = await post(path, body);
  archiveFails = false;
  expect([reply.status, JSON.parse(JSON.parse(reply.body)).code]).toEqual([503, "archive_unavailable"]);
});
