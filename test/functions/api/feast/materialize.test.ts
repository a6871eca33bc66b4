/** `/materialize` and `/materialize-incremental`: what is asked for, what is answered, and what a function makes of it. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { MaterializeRequest } from "../../../../adapters/jobs/materialize-requests.ts";
import { FreshetError } from "../../../../core/errors.ts";
import { createKey } from "../../../../functions/api/keys/keys.ts";
import { listen } from "../../../../functions/api/server.ts";
import type { RunRequest } from "../../../../functions/shared/materialization/materialization.ts";
import { runMaterializeRequest } from "../../../../functions/shared/materialization/materialize-request.ts";
import recorded from "../../../fixtures/feast/0.67.0.json" with { type: "json" };
import { ridePlan, rideServices } from "../../../support/feast-plan.ts";
import { memoryRequests, testDependencies } from "../doubles.ts";

const HOUR = 3_600_000;
const NOW = Date.UTC(2026, 1, 1, 10, 30);
const END = Date.UTC(2026, 0, 31, 10);
const iso = (ms: number) => new Date(ms).toISOString();

async function serve(state: MaterializeRequest["state"], waitMs = 0) {
  const ports = testDependencies();
  const requests = memoryRequests(state);
  const make = async (scopes: string[]) => (await createKey(ports.keys, { tenant: "team-a", scopes, nowMs: 0 })).key;
  const keys = { admin: await make(["admin"]), writer: await make(["write"]) };
  const dependencies = {
    ...ports.dependencies,
    plan: ridePlan,
    services: rideServices,
    ingest: null,
    clock: () => NOW,
  };
  const server = await listen({ port: 0, dependencies: { ...dependencies, materialize: { requests, waitMs } } });
  const post = async (path: string, body: unknown, key = keys.admin) => {
    const response = await fetch(server.url + path, {
      method: "POST",
      headers: { "x-api-key": key, "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    const json = await response.json();
    const error = typeof json === "string" ? JSON.parse(json) : json;
    return { status: response.status, body: json, error };
  };
  return { server, requests, post, keys, ports };
}

let open: Awaited<ReturnType<typeof serve>>;
beforeAll(async () => {
  open = await serve("running");
});
afterAll(() => open?.server.close());
const range = { start_ts: "2026-01-31T10:00:00", end_ts: "2026-01-31T12:00:00+00:00" };

it("twenty requests of a tenant wait or run, and no more", async () => {
  const { server, requests, post } = await serve("running");
  const other = {
    tenant: "team-b",
    id: "0",
    views: [],
    fromMs: 0,
    toMs: 1,
    createdMs: NOW,
    updatedMs: NOW,
    error: null,
  };
  for (let n = 0; n < 20; n++) await requests.put({ ...other, state: "queued" });
  for (let n = 0; n < 20; n++) expect((await post("/materialize", range)).status).toBe(202);
  const { status, error } = await post("/materialize", range);
  expect([status, error.code, error.class]).toEqual([429, "too_many_jobs", "FeastError"]);
  expect(requests.all.filter(({ tenant }) => tenant === "team-a")).toHaveLength(20);
  await server.close();
});

describe("asking", () => {
  it("keeps the request for the key's tenant and says 202 while it goes on", async () => {
    const reply = await open.post("/materialize", { ...range, feature_views: ["rider_stats"], tenant: "team-b" });
    expect([reply.status, reply.body]).toEqual([202, { status: "accepted", feature_views: ["rider_stats"] }]);
    const times = { createdMs: NOW, updatedMs: NOW };
    expect(open.requests.all.at(-1)).toMatchObject({
      ...{ tenant: "team-a", views: ["rider_stats"], fromMs: END, toMs: END + 2 * HOUR, ...times },
    });
    expect(open.ports.audit.records.at(-1)).toMatchObject({ action: "features.materialize", outcome: "done" });
  });

  it("takes all batch views by itself, from where they are, and no end ahead of the clock", async () => {
    await open.post("/materialize-incremental", { end_ts: iso(NOW + 30_000) });
    expect(open.requests.all.at(-1)).toMatchObject({ views: ["driver_stats", "rider_stats"], fromMs: null, toMs: NOW });
    await open.post("/materialize", { disable_event_timestamp: true });
    expect(open.requests.all.at(-1)).toMatchObject({ fromMs: NOW - HOUR - HOUR / 2, toMs: NOW - HOUR / 2 });
  });

  it("async is refused with 409 while one is under way, unless it is forced", async () => {
    const body = { ...range, feature_views: ["rider_stats"] };
    const refused = await open.post("/materialize?async=true", body);
    // As Feast's server answers it.
    expect([refused.status, refused.body]).toMatchObject([
      409,
      {
        error: expect.stringContaining("rider_stats is being materialized already"),
        feature_views: ["rider_stats"],
        code: "materialization_running",
      },
    ]);
    expect((await open.post("/materialize?async=true&force=true", body)).status).toBe(202);
  });

  it("the end is waited for, and told as Feast tells it", async () => {
    // The clock of these servers stands, so what is over at the first look is told.
    const [done, failed] = [await serve("done", 1_000), await serve("failed", 1_000)];
    try {
      const reply = await done.post("/materialize", range);
      expect([reply.status, reply.body]).toEqual([200, null]);
      const { status, error } = await failed.post("/materialize", range);
      expect([status, error.class, error.code]).toEqual([500, "FeastError", "materialization_failed"]);
      expect(error.message).toContain("view_query_failed: the query failed");
      // Not waited for.
      expect((await failed.post("/materialize?async=true", range)).status).toBe(202);
    } finally {
      await Promise.all([done.server.close(), failed.server.close()]);
    }
  });

  it.each([
    ["/materialize", {}, "wrong_type", "start_ts"],
    ["/materialize", { ...range, end_ts: range.start_ts }, "selection_invalid", "end_ts"],
    ["/materialize", { ...range, start_ts: "yesterday" }, "wrong_type", "start_ts"],
    ["/materialize", { ...range, end_ts: iso(NOW + HOUR) }, "selection_invalid", "end_ts"],
    ["/materialize", { ...range, start_ts: "2020-01-01" }, "selection_invalid", "start_ts"],
    ["/materialize", { ...range, feature_views: "rider_stats" }, "wrong_type", "feature_views"],
    ["/materialize", { ...range, feature_views: ["nobody"] }, "view_unknown", "feature_views[0]"],
    ["/materialize", { ...range, feature_views: [] }, "selection_invalid", "feature_views"],
    ["/materialize", { ...range, feature_views: ["rider_stats", 1] }, "wrong_type", "feature_views[1]"],
    ["/materialize", { ...range, feature_views: ["rider_stats"], version: "v99" }, "selection_invalid", "version"],
    ["/materialize", { disable_event_timestamp: true, start_ts: [] }, "wrong_type", "start_ts"],
    ["/materialize", { ...range, disable_event_timestamp: "yes" }, "wrong_type", "disable_event_timestamp"],
    ["/materialize-incremental", {}, "wrong_type", "end_ts"],
  ])("%s %j is refused with %s", async (path, body, code, field) => {
    const before = open.requests.all.length;
    const { status, error } = await open.post(path, body);
    expect({ status, code: error.code, field: error.field }).toEqual({
      status: code === "view_unknown" ? 404 : 422,
      code,
      field,
    });
    expect(open.requests.all).toHaveLength(before);
  });

  it("needs the scope admin", async () => {
    const { status, error } = await open.post("/materialize", range, open.keys.writer);
    expect([status, error.class]).toEqual([403, "FeastPermissionError"]);
  });

  it("an unknown view is what it is in Feast", async () => {
    const theirs = recorded.cases.find(({ name }) => name === "materialize: an unknown view")!.answer;
    const { status, error } = await open.post("/materialize", { ...range, feature_views: ["nobody"] });
    expect([status, error.class]).toEqual([theirs.status, JSON.parse(JSON.parse(theirs.body)).class]);
  });
});

describe("doing", () => {
  const of = { tenant: "team-a", id: "1" };
  const asked = (change: Partial<MaterializeRequest> = {}): MaterializeRequest => ({
    ...{ ...of, views: ["driver_stats", "rider_stats"], fromMs: END, toMs: END + 2 * HOUR, state: "queued" as const },
    ...{ createdMs: NOW, updatedMs: NOW, error: null, ...change },
  });
  function world(request: MaterializeRequest, fail?: (run: RunRequest) => void) {
    const states: MaterializeRequest[] = [request];
    const runs: RunRequest[] = [];
    const ports = {
      plan: ridePlan,
      runs: { get: async (view: string) => (view === "rider_stats" ? { toMs: END + HOUR } : null) as any },
      requests: {
        get: async () => states.at(-1)!,
        put: async (one: MaterializeRequest) => void states.push(one),
      },
      materialize: async (run: RunRequest) => {
        fail?.(run);
        runs.push(run);
        return {} as any;
      },
      clock: () => NOW,
    };
    return { states, runs, run: (deadlineMs = NOW + 1) => runMaterializeRequest(ports, of, deadlineMs) };
  }

  it("runs each view period by period, for the tenant alone", async () => {
    const { runs, states, run } = world(asked());
    expect((await run())?.state).toBe("done");
    expect(runs).toEqual(
      ["driver_stats", "rider_stats"].flatMap((view) =>
        [0, 1].map((hour) => ({ view, tenant: "team-a", fromMs: END + hour * HOUR, toMs: END + (hour + 1) * HOUR })),
      ),
    );
    expect(states.map(({ state }) => state)).toEqual(["queued", "running", "done"]);
  });

  it("incremental begins where the schedule has come to, or one period before", async () => {
    const { runs, run } = world(asked({ fromMs: null }));
    await run();
    expect(runs.map(({ view, fromMs, toMs }) => [view, fromMs, toMs])).toEqual([
      ["driver_stats", END + HOUR, END + 2 * HOUR],
      ["rider_stats", END + HOUR, END + 2 * HOUR],
    ]);
  });

  it("a failure is the request's state; what is told twice is done twice, and what is over is left", async () => {
    const { states, run } = world(asked(), () => {
      throw new FreshetError("view_query_failed", "the query failed");
    });
    await expect(run()).rejects.toThrow("the query failed");
    expect(states.at(-1)).toMatchObject({ state: "failed", error: { code: "view_query_failed" } });
    expect(await run()).toBeNull();
    const cutOff = world(asked({ state: "running" }));
    expect((await cutOff.run())?.state).toBe("done");
  });

  it("no run is begun when the time is over; errors that are ours are not told", async () => {
    const late = world(asked());
    await expect(late.run(NOW - 1)).rejects.toThrow("materialized up to");
    expect(late.states.at(-1)?.error?.code).toBe("materialization_unfinished");
    const broken = world(asked(), () => {
      throw new TypeError("secret");
    });
    await expect(broken.run()).rejects.toThrow("secret");
    expect(broken.states.at(-1)?.error).toEqual({ code: "internal", detail: "an error on our side" });
  });
});
