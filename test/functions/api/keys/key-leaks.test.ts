/**
 * Whatever is sent and whatever fails: nothing that a host writes down, and no error that it answers, holds a part of a secret.
 * A key is put into every place of a request at random, on the plain server's app and on the Lambda handler, with faults.
 */
import fc from "fast-check";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { createApp } from "../../../../functions/api/app.ts";
import { createKey, SCOPES } from "../../../../functions/api/keys/keys.ts";
import { createLambdaHandler } from "../../../../functions/api/lambda.ts";
import { logToStderr } from "../../../../functions/api/observability/server-log.ts";
import { holdsKey, urlHoldsKey, withoutKeys } from "../../../../functions/shared/hidden-keys.ts";
import { testDependencies } from "../doubles.ts";

let written: string;

beforeEach(() => {
  written = "";
  const keep = (...chunks: unknown[]) => {
    written += chunks.join(" ");
    return true;
  };
  for (const stream of [process.stdout, process.stderr]) {
    vi.spyOn(stream, "write").mockImplementation((chunk: unknown) => keep(chunk));
  }
  for (const method of ["log", "info", "warn", "error", "debug"] as const) {
    vi.spyOn(console, method).mockImplementation(keep);
  }
});
afterEach(() => {
  vi.restoreAllMocks();
});

const PATHS = [
  "/v1/features/card/c1",
  "/v1/keys",
  "/v1/audit",
  "/v1/features/online",
  "/v1/score/fraud",
  "/health",
  "/v2",
];
const HEADERS = ["x-request-id", "user-agent", "content-type", "authorization", "cookie", "accept", "x-trace"];
const BODIES: ((key: string) => unknown)[] = [
  (key) => ({ name: key, scopes: ["read"] }),
  (key) => ({ scopes: [key] }),
  (key) => ({ [key]: 1 }),
  (key) => ({ entities: { [key]: "c" }, service: "fraud" }),
  (key) => ({ entities: { card_id: "c" }, features: [key] }),
  (key) => ({ entities: { card_id: key }, service: "fraud" }),
  (key) => ({ card_id: key, amount: key, country: key }),
  (key) => key,
];
const hex = (text: string) => [...text].map((letter) => `%${letter.charCodeAt(0).toString(16)}`).join("");
const request = fc.record({
  method: fc.constantFrom("GET", "POST", "PUT", "DELETE"),
  path: fc.constantFrom(...PATHS),
  /** Where in the URL the key is, if it is. */
  url: fc.constantFrom<"no" | "path" | "query" | "encoded" | "cut">("no", "no", "path", "query", "encoded", "cut"),
  header: fc.option(fc.constantFrom(...HEADERS)),
  body: fc.option(fc.nat(BODIES.length - 1)),
  /** Sent as it should be, or with its last letters missing. */
  auth: fc.constantFrom("whole", "cut", "none"),
  fault: fc.constantFrom("none", "none", "reader", "audit", "keys"),
});

it("no secret is in any log line, audit record or error, whatever is sent and whatever fails", async () => {
  const ports = testDependencies();
  const { key } = await createKey(ports.keys, { tenant: "team-a", scopes: SCOPES, nowMs: 0 });
  const secret = key.split("_")[2].slice(0, 8);
  const app = createApp({ ...ports.dependencies, log: logToStderr });
  const handler = createLambdaHandler("api", (host) => ({ ...ports.dependencies, ...host }));
  const seen = { refused: 0, errors: 0 };

  await fc.assert(
    fc.asyncProperty(request, async ({ method, path, url, header, body, auth, fault }) => {
      const within = {
        no: path,
        path: `${path}/${key}`,
        query: `${path}?key=${key}`,
        cut: `${path}/${key.slice(0, 30)}`,
      };
      const target = url === "encoded" ? `${path}/${hex(key)}` : within[url];
      const headers: Record<string, string> = { "content-type": "application/json" };
      if (header !== null) headers[header] = header === "authorization" ? `Bearer ${key}` : key;
      if (auth !== "none") headers["x-api-key"] = auth === "whole" ? key : key.slice(0, -3);
      const text = body === null || method === "GET" ? undefined : JSON.stringify(BODIES[body](key));
      // A fault whose own words quote the key, as a driver's might.
      ports.reader.fault = fault === "reader" ? new TypeError(`cannot read ${key}`) : null;
      ports.audit.broken = fault === "audit";
      ports.keys.broken = fault === "keys";
      written = "";

      const reply = await app.request(target, { method, headers, body: text });
      const plain = await reply.text();
      const [pathOnly, query] = target.split("?");
      const fromLambda: any = await handler(
        {
          resource: "/{proxy+}",
          path: pathOnly,
          httpMethod: method,
          headers: { host: "api.test", ...headers },
          multiValueHeaders: {},
          queryStringParameters: query === undefined ? null : { key },
          multiValueQueryStringParameters: query === undefined ? null : { key: [key] },
          pathParameters: null,
          requestContext: { requestId: "gateway-1", domainName: "api.test", stage: "local" },
          body: text ?? null,
          isBase64Encoded: false,
        },
        {},
      );

      const told = [written, JSON.stringify(ports.audit.writes), JSON.stringify([...reply.headers])];
      if (reply.status >= 400) told.push(plain);
      if (fromLambda.statusCode >= 400) told.push(fromLambda.body);
      expect(told.filter((one) => one.includes(secret))).toEqual([]);
      if (url !== "no") expect([reply.status, fromLambda.statusCode]).toEqual([400, 400]);
      if (url !== "no") seen.refused++;
      if (reply.status >= 400) seen.errors++;
    }),
    { numRuns: 400 },
  );
  // The run has met what it is about: keys in URLs, errors, and logs that would have held one.
  expect(Math.min(seen.refused, seen.errors)).toBeGreaterThan(50);
  Object.assign(ports.audit, { broken: false });
  Object.assign(ports.keys, { broken: false });
  ports.reader.fault = new TypeError(`cannot read ${key}`);
  written = "";
  expect((await app.request("/v1/features/card/c1", { headers: { "x-api-key": key } })).status).toBe(500);
  expect(written).toContain(`cannot read fk_${key.split("_")[1]}_(secret)`);
});

it("a key is found whole, cut off, and encoded in part, twice or eight times; a text that is none is left alone", () => {
  const key = `fk_abcdefghijkl_${"S".repeat(43)}`;
  expect(withoutKeys(`a ${key} b ${key.slice(0, 20)} c`)).toBe(
    "a fk_abcdefghijkl_(secret) b fk_abcdefghijkl_(secret) c",
  );
  for (const none of ["fk_", "fk_short_x", "fk_abcdefghijkl", "FK_ABCDEFGHIJKL_x", "/v1/score/fraud?x=%20%zz%f"]) {
    expect([none, holdsKey(none), urlHoldsKey(none), withoutKeys(none)]).toEqual([none, false, false, none]);
  }
  let encoded = hex(key);
  for (let times = 1; times <= 8; times++) {
    expect([times, urlHoldsKey(`/v1/x?q=${encoded}`)]).toEqual([times, true]);
    encoded = encoded.replaceAll("%", "%25");
  }
  // What docs/api.md says is not found: it looks like any other text.
  for (const bare of [key.slice(3), key.split("_")[2]]) expect(urlHoldsKey(`/v1/x?q=${bare}`)).toBe(false);
  fc.assert(
    fc.property(fc.array(fc.nat(2), { minLength: key.length, maxLength: key.length }), (times) => {
      const once = (text: string) => hex(text);
      const url = [...key]
        .map((letter, i) => [letter, once(letter), once(letter).replace("%", "%25")][times[i]])
        .join("");
      expect(urlHoldsKey(`/v1/x/${url}?a=%ff`)).toBe(true);
    }),
  );
});
