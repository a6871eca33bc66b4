/** The router as a Lambda function: API Gateway's events in, its answers and one log line of metrics out. */
import { deflateSync, gzipSync } from "node:zlib";
import { afterEach, beforeAll, beforeEach, expect, it, vi } from "vitest";
import { createKey } from "../../../functions/api/keys/keys.ts";
import { createLambdaHandler } from "../../../functions/api/lambda.ts";
import { encoded } from "./contract/bad-events.ts";
import { scorable, transaction } from "./contract/contract-calls.ts";
import { testDependencies } from "./doubles.ts";

const ports = testDependencies();
const handler = createLambdaHandler("api", (host) => ({ ...ports.dependencies, ...host }));
let key: string;
let lines: any[];

/** As API Gateway (REST, proxy integration) sends it. */
const event = (path: string, body: string | Buffer | null, headers: Record<string, string> = {}) => ({
  resource: "/{proxy+}",
  path,
  httpMethod: body === null ? "GET" : "POST",
  headers: { host: "api.test", "x-api-key": key, ...headers },
  multiValueHeaders: {},
  queryStringParameters: null,
  multiValueQueryStringParameters: null,
  pathParameters: { proxy: path.slice(1) },
  requestContext: { requestId: "gateway-request-1", domainName: "api.test", stage: "local" },
  body: body instanceof Buffer ? body.toString("base64") : body,
  isBase64Encoded: body instanceof Buffer,
});
const invoke = async (...given: Parameters<typeof event>) => {
  const answer: any = await handler(event(...given), {});
  return { ...answer, json: JSON.parse(answer.body) };
};
const metricLines = () => lines.filter((line) => line._aws !== undefined);

beforeAll(async () => {
  key = (await createKey(ports.keys, { tenant: "team-a", scopes: ["read", "write", "score"], nowMs: 0 })).key;
});
beforeEach(() => {
  lines = [];
  const keep = (text: unknown) => {
    lines.push(JSON.parse(String(text)));
    return true;
  };
  // Powertools writes metrics by console.log and errors by console.error of a console of its own, both to these streams.
  for (const stream of [process.stdout, process.stderr]) {
    vi.spyOn(stream, "write").mockImplementation((chunk: any) => keep(chunk));
  }
  for (const method of ["log", "info", "error"] as const) vi.spyOn(console, method).mockImplementation(keep);
});
afterEach(() => {
  vi.restoreAllMocks();
});

it("a score: API Gateway's request id, and metrics of the function and of the service", async () => {
  const { statusCode, json } = await invoke("/v1/score/fraud", JSON.stringify(scorable));
  expect([statusCode, json.request_id]).toEqual([200, "gateway-request-1"]);
  const byService = Object.fromEntries(metricLines().map((line) => [line.service, line]));
  expect(Object.keys(byService).sort()).toEqual(["api", "fraud"]);
  expect(byService["api"]).toMatchObject({
    RequestCount: 1,
    ServerErrors: 0,
    ClientErrors: 0,
    route: "/v1/score/:service",
  });
  expect(byService["fraud"]).toMatchObject({ Degraded: 0, FeaturesMissing: json.features_missing.length });
  expect(byService["fraud"].ScoreLatencyMs).toBeGreaterThan(0);
  expect(byService["fraud"]._aws.CloudWatchMetrics[0]).toMatchObject({
    Namespace: "Freshet",
    Dimensions: [["service"]],
  });
});

it("metrics of one invocation do not leak into the next", async () => {
  await invoke("/v1/score/fraud", JSON.stringify(scorable));
  lines.length = 0;
  await invoke("/health", null);
  expect(metricLines()).toHaveLength(1);
  expect(metricLines()[0]).toMatchObject({ service: "api", RequestCount: 1, route: "/health" });
});

it("/metrics says that it is one instance's, and where all are", async () => {
  const { body } = (await handler(event("/metrics", null), {})) as any;
  expect(body).toMatch(/^# One instance of the function, .*CloudWatch, namespace Freshet\.\n# HELP /);
});

it("a compressed body is read, and one that the gateway has decoded already", async () => {
  const text = JSON.stringify(scorable);
  for (const [coding, body] of [
    ["gzip", gzipSync(text)],
    ["deflate", deflateSync(text)],
    ["gzip", text],
    ["gzip", Buffer.from(text)],
  ] as const) {
    const { statusCode } = await invoke("/v1/score/fraud", body, { "Content-Encoding": coding });
    expect([coding, statusCode]).toEqual([coding, 200]);
  }
  const { statusCode, json } = await invoke("/v1/score/fraud", gzipSync(text).subarray(0, -6), {
    "content-encoding": "gzip",
  });
  expect([statusCode, json.code]).toEqual([400, "body_coding"]);
});

it("Avro arrives as the bytes that were sent", async () => {
  const { statusCode, json } = await invoke("/v1/events/transactions", encoded(), {
    "content-type": "application/vnd.freshet.avro",
  });
  expect([statusCode, json.queued]).toEqual([202, 1]);
  expect(metricLines()[0]).toMatchObject({ EventsQueued: 1, EventsInvalid: 0, EventsThrottled: 0 });
});

it("JSON events arrive with every character", async () => {
  const card = "kårt-\u{1f4b3}";
  await invoke("/v1/events/transactions", JSON.stringify(transaction({ card_id: card })), {
    "content-type": "application/json",
  });
  expect(ports.broker.sent.at(-1)?.record.partitionKey).toBe(card);
});

it("an error of ours is one log line with code and cause, and a server error in the metrics", async () => {
  ports.reader.down = true;
  const { statusCode, json } = await invoke("/v1/features/card/secret-card", null);
  ports.reader.down = false;
  expect([statusCode, json.code]).toEqual([503, "store_unavailable"]);
  expect(metricLines()[0]).toMatchObject({ ServerErrors: 1 });
  const [error] = lines.filter((line) => line.level === "ERROR");
  expect(error).toMatchObject({ requestId: "gateway-request-1", code: "store_unavailable", service: "api" });
  expect(JSON.stringify(lines)).not.toContain("secret-card");
});

it("limits: what they refuse is counted, and while the store does not answer each line says so", async () => {
  const limit = { perSecond: 0.001, burst: 1, perDay: null };
  let isUp = false;
  const store = {
    async charge() {
      if (!isUp) throw new Error("connection refused");
      return {
        admitted: false,
        bucket: { fullAtUs: Date.now() * 1_000 + 1e9, day: 0, usedToday: 0 },
        nowUs: Date.now() * 1_000,
      };
    },
  };
  const limits = { defaults: { score: limit }, tenants: { get: async () => null }, store };
  const limited = createLambdaHandler("api", (host) => ({ ...ports.dependencies, limits, ...host }));
  const score = async () => {
    lines.length = 0;
    const answer: any = await limited(event("/v1/score/fraud", JSON.stringify(scorable)), {});
    return [answer.statusCode, metricLines().find(({ service }) => service === "api")];
  };
  const [first, line] = await score();
  expect([first, line.LimiterFallback, line.RateLimited]).toEqual([200, 1, undefined]);
  const [second, next] = await score();
  expect([second, next.LimiterFallback, next.RateLimited, next.ClientErrors]).toEqual([429, 1, 1, 1]);
  isUp = true;
  // What was admitted alone is told a second later, and with it the store is known to answer.
  await expect.poll(async () => (await score())[1].LimiterFallback).toBeUndefined();
});

it("models and a log that hang hold up three calls for a moment, and the next ones not at all", async () => {
  vi.useFakeTimers();
  try {
    const hangs = () => new Promise<never>(() => {});
    const asked = { models: 0, log: 0 };
    const scoring: any = {
      serving: {
        served: () => ({ champion: null, challenger: null, shadow: null, share: null, fault: null }),
        state: () => ({ polledMs: null, loaded: 0, refused: [] }),
        refresh: async () => {},
        refreshIfOlder() {
          asked.models++;
          return hangs();
        },
      },
      logger: {
        record() {},
        settle() {
          asked.log++;
          return hangs();
        },
      },
    };
    const other = createLambdaHandler("api", (host) => ({ ...ports.dependencies, scoring, ...host }));
    const score = async (withinMs: number) => {
      let answer: any = null;
      void other(event("/v1/score/fraud", JSON.stringify(scorable)), {}).then((found: any) => {
        answer = found;
      });
      for (let ms = 0; ms < withinMs && answer === null; ms += 10) await vi.advanceTimersByTimeAsync(10);
      return answer?.statusCode;
    };
    for (let i = 0; i < 3; i++) expect(await score(360)).toBe(200);
    for (let i = 0; i < 5; i++) expect(await score(10)).toBe(200);
    // Each call lets the work go on all the same.
    expect(asked).toEqual({ models: 16, log: 8 });
    await vi.advanceTimersByTimeAsync(5_000);
    expect(await score(90)).toBeUndefined();
  } finally {
    vi.useRealTimers();
  }
});

it("a read that the store does not answer is counted, with how long it took and what had no snapshot", async () => {
  const none = {
    keeps: () => true,
    warm: async () => {},
    read: async (requests: readonly unknown[]) => requests.map(() => CORRUPT),
  };
  const fallback = { snapshots: none, budget: { totalMs: 250, storeMs: 100 } };
  const other = createLambdaHandler("api", (host) => ({ ...ports.dependencies, fallback, ...host }));
  ports.reader.down = true;
  try {
    for (let i = 0; i < 5; i++) await other(event("/v1/score/fraud", JSON.stringify(scorable)), {});
  } finally {
    ports.reader.down = false;
  }
  const own = metricLines().filter(({ service }) => service === "api");
  expect(own).toHaveLength(5);
  expect(own[0]).toMatchObject({ ReadsWithoutStore: 1, ReadsUnanswered: 1, FallbackMs: expect.any(Number) });
  expect([own[0].SnapshotLosses].flat()).toEqual([1, 1]);
  // The fifth failure opens the breaker of the store, and that of the snapshots sees none: what is corrupt is an answer.
  expect(own.map(({ BreakersOpened }) => BreakersOpened)).toEqual([undefined, undefined, undefined, undefined, 1]);
});
const CORRUPT = { lost: "corrupt" } as const;
