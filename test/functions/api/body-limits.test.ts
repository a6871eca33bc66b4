/** Every route that takes a body refuses a large one by its declared length, before a byte of it is read. */
import { expect, it } from "vitest";
import { createApp } from "../../../functions/api/app.ts";
import { createKey } from "../../../functions/api/keys/keys.ts";
import { MAX_BODY_BYTES } from "../../../functions/api/limits.ts";
import { createOpenApiDocument } from "../../../functions/api/openapi/openapi.ts";
import { plan, testDependencies } from "./doubles.ts";

const document = createOpenApiDocument(plan, "0.0.0") as { paths: Record<string, Record<string, any>> };
const routes = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).flatMap(([method, { requestBody }]) => (requestBody ? [{ method, path }] : [])),
);
const names: Record<string, string> = { name: plan.services[0].name, alias: "challenger", id: "a".repeat(12) };

const { dependencies, keys } = testDependencies();
// Ports that no request gets as far as.
const none: any = { serving: { state: () => ({ refused: [] }) }, registry: { load() {} }, logger: {} };
const app = createApp({ ...dependencies, scoring: none, historical: none, pushed: none });
const { key } = await createKey(keys, { tenant: "team-a", scopes: ["read", "write", "score", "admin"], nowMs: 0 });

it("there are such routes", () => {
  expect(routes.length).toBeGreaterThan(15);
});

it.each(routes)("$method $path", async ({ method, path }) => {
  let pulls = 0;
  const body = new ReadableStream({ pull: () => void pulls++ }, { highWaterMark: 0 });
  const reply = await app.request(
    path.replace(/\{(\w+)\}/g, (_, name) => names[name]),
    {
      method: method.toUpperCase(),
      headers: { "x-api-key": key, "content-type": "application/json", "content-length": String(MAX_BODY_BYTES + 1) },
      body,
      duplex: "half",
    } as RequestInit,
  );
  expect([reply.status, await reply.text()]).toEqual([413, expect.stringContaining("body_too_large")]);
  expect(pulls).toBe(0);
});
