/** How routes run, whatever they do: methods, and records of administrators' calls. What single routes answer is the contract suite's. */
import { Hono } from "hono";
import { describe, expect, it } from "vitest";
import { createAuthenticator, createKey } from "../../../functions/api/keys/keys.ts";
import { Problem } from "../../../functions/api/problems.ts";
import { createRouter, type Handle, type Method, type RouteOptions } from "../../../functions/api/router.ts";
import { memoryAuditLog, memoryKeyStore } from "./doubles.ts";

const reads = { answered() {}, lost() {}, breaker() {} };
const telemetry = {
  request() {},
  read() {},
  score() {},
  events() {},
  enrichment() {},
  limited() {},
  limiterFallback() {},
  reads,
};

function router() {
  const app = new Hono();
  const authenticate = createAuthenticator(memoryKeyStore(), () => 0);
  return { app, register: createRouter(app, { authenticate, telemetry, onError: () => {}, audit: null }) };
}

describe("methods", () => {
  it.each<Method>(["GET", "POST", "PUT", "DELETE"])("%s is served, and no other is taken for it", async (method) => {
    const { app, register } = router();
    register(method, "/things/:id", null, ({ c }) => ({ status: 200, body: `"${c.req.method}"` }));
    const reply = await app.request("/things/1", { method });
    expect([reply.status, await reply.text()]).toEqual([200, `"${method}"`]);
    const other = method === "DELETE" ? "PUT" : "DELETE";
    const refused = await app.request("/things/1", { method: other });
    expect([refused.status, refused.headers.get("allow")]).toEqual([405, method]);
  });

  it("one path may take several; a refusal lists them all", async () => {
    const { app, register } = router();
    register("GET", "/things", null, () => ({ status: 200, body: "{}" }));
    register("DELETE", "/things", null, () => ({ status: 200, body: "{}" }));
    const reply = await app.request("/things", { method: "PUT" });
    expect([reply.status, reply.headers.get("allow")]).toEqual([405, "GET, DELETE"]);
  });

  it("a path of its own is no other's parameter: a refusal lists its methods alone", async () => {
    const { app, register } = router();
    register("POST", "/things/sort", null, () => ({ status: 200, body: "{}" }));
    register("GET", "/things/:id", null, () => ({ status: 200, body: "{}" }));
    const allowed = async (path: string) => (await app.request(path, { method: "PUT" })).headers.get("allow");
    expect([await allowed("/things/sort"), await allowed("/things/1")]).toEqual(["POST", "GET"]);
  });
});

describe("audited routes", () => {
  async function audited(method: Method, options: RouteOptions, handle: Handle, scopes = ["admin"]) {
    const app = new Hono();
    const [keys, log] = [memoryKeyStore(), memoryAuditLog()];
    const unrecorded: unknown[] = [];
    const register = createRouter(app, {
      authenticate: createAuthenticator(keys, () => 5_000),
      telemetry,
      onError: () => {},
      audit: { log, clock: () => 5_000, onUnrecorded: (record, error) => unrecorded.push([record, String(error)]) },
    });
    register(method, "/things/:id", "admin", handle, { parameters: ["x"], ...options });
    const { key, record } = await createKey(keys, { tenant: "team-a", scopes, nowMs: 0 });
    const call = () =>
      app.request("/things/7?x=1", { method, headers: { "x-api-key": key, "x-request-id": "request-1" } });
    return { log, unrecorded, call, who: `key ${record.id}` };
  }
  const fine: Handle = () => ({ status: 200, body: "{}" });

  it("a change is begun in the log before it is made, and done there before it is answered", async () => {
    const seen: string[] = [];
    const { log, call, who } = await audited("DELETE", { audit: "things.delete" }, () => {
      seen.push(...log.writes.map(({ outcome }) => outcome));
      return { status: 200, body: "{}", target: "thing 7" };
    });
    expect((await call()).status).toBe(200);
    expect(seen).toEqual(["begun"]);
    const [record] = log.records;
    const entry = { tenant: "team-a", who, action: "things.delete", atMs: 5_000, requestId: "request-1" };
    expect(log.records).toEqual([{ ...entry, id: record.id, target: "thing 7", outcome: "done" }]);
    expect(record.id).toMatch(/^0000000005000-[0-9a-f]{12}$/);
    expect(log.writes.map(({ target }) => target)).toEqual(["/things/7", "thing 7"]);
  });

  it("a read is one record, after it was made", async () => {
    const { log, call } = await audited("GET", { audit: "things.read" }, fine);
    expect((await call()).status).toBe(200);
    expect(log.writes.map(({ outcome, target }) => [outcome, target])).toEqual([["done", "/things/7"]]);
  });

  it.each([
    ["job_unknown", () => new Problem("job_unknown", "no job")],
    ["internal", () => new TypeError("cells of undefined")],
  ])("a call that fails is recorded with %s", async (code, error) => {
    const { log, call } = await audited("POST", { audit: "things.make" }, () => {
      throw error();
    });
    expect(((await (await call()).json()) as { code: string }).code).toBe(code);
    expect(log.records.map(({ outcome }) => outcome)).toEqual([code]);
  });

  it("an attempt without the scope is recorded, and nothing is done", async () => {
    let calls = 0;
    const count: Handle = () => ({ status: 200, body: String(calls++) });
    const { log, call } = await audited("POST", { audit: "things.make" }, count, ["read", "write"]);
    expect((await call()).status).toBe(403);
    expect([calls, log.writes.map(({ outcome }) => outcome)]).toEqual([0, ["scope_missing"]]);
  });

  it("without the table a change is refused and not made", async () => {
    let calls = 0;
    const count: Handle = () => ({ status: 200, body: String(calls++) });
    const { log, call } = await audited("POST", { audit: "things.make" }, count);
    log.broken = true;
    const reply = await call();
    expect([reply.status, ((await reply.json()) as { code: string }).code, calls]).toEqual([
      503,
      "audit_unavailable",
      0,
    ]);
  });

  it.each<[string, Method, RouteOptions, string[]]>([
    ["a read is answered", "GET", { audit: "things.read" }, ["done"]],
    ["an urgent change is made", "DELETE", { audit: "things.end", auditKind: "urgent" }, ["begun", "done"]],
  ])("without the table %s, and its records go to the log of the process", async (_, method, options, outcomes) => {
    const { log, unrecorded, call } = await audited(method, options, fine);
    log.broken = true;
    expect((await call()).status).toBe(200);
    expect(unrecorded.map(([record]: any) => record.outcome)).toEqual(outcomes);
    expect(unrecorded[0]).toEqual([
      expect.objectContaining({ action: options.audit, target: "/things/7", tenant: "team-a" }),
      expect.stringContaining("audit"),
    ]);
  });

  it("what was changed is recorded at a bounded length and without keys", async () => {
    const key = `fk_abcdefghijkl_${"A".repeat(43)}`;
    const target = `things ${key} ${"x".repeat(1_000)}`;
    const { log, call } = await audited("POST", { audit: "things.make" }, () => ({ status: 201, body: "{}", target }));
    await call();
    expect(log.records[0].target).toBe(`things fk_abcdefghijkl_(secret) ${"x".repeat(1_000)}`.slice(0, 512));
  });

  it("a table that fails once the change is made leaves `begun`, and the answer stands", async () => {
    const { log, unrecorded, call } = await audited("POST", { audit: "things.make" }, () => {
      log.broken = true;
      return { status: 201, body: "{}" };
    });
    expect((await call()).status).toBe(201);
    expect(log.records.map(({ outcome }) => outcome)).toEqual(["begun"]);
    expect(unrecorded.map(([record]: any) => record.outcome)).toEqual(["done"]);
  });

  it("a route of administrators has to be one", () => {
    const { register } = router();
    expect(() => register("GET", "/things", "admin", fine)).toThrow(
      "/things is for administrators and names no action of the audit log",
    );
  });

  it("a host without an audit log cannot have one", () => {
    const { register } = router();
    expect(() => register("POST", "/things", "admin", fine, { audit: "things.make" })).toThrow(
      "/things is audited and this host has no audit log",
    );
  });
});
