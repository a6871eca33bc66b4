/** How routes run, whatever they do: methods. What single routes answer is the contract suite's. */
import { Hono } from "hono";
import { describe, expect, it } from "vitest";
import { createAuthenticator } from "../../../functions/api/keys.ts";
import { createRouter, type Method } from "../../../functions/api/router.ts";
import { memoryKeyStore } from "./doubles.ts";

const telemetry = { request() {}, read() {}, score() {}, events() {} };

function router() {
  const app = new Hono();
  const authenticate = createAuthenticator(memoryKeyStore(), () => 0);
  return { app, register: createRouter(app, { authenticate, telemetry, onError: () => {} }) };
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
});
