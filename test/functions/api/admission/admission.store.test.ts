/** Limits over HTTP, on a real Valkey, with two hosts that share it. */
import { Redis } from "iovalkey";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { createReader, readingConnection } from "../../../../adapters/valkey/reader.ts";
import { createTokenBuckets, limitKey } from "../../../../adapters/valkey/token-buckets.ts";
import type { LimitPorts } from "../../../../functions/api/admission/admission.ts";
import type { TenantRecord } from "../../../../functions/api/admission/tenants.ts";
import { createKey } from "../../../../functions/api/keys/keys.ts";
import { listen, type RunningServer } from "../../../../functions/api/server.ts";
import { openStore } from "../../../support/store.ts";
import { startValkey, type TestValkey } from "../../../support/valkey.ts";
import { type CallOptions, caller, scorable, transaction } from "../contract/contract-calls.ts";
import { plan, testDependencies } from "../doubles.ts";

const online = { entities: { card_id: "c1" }, features: ["card_activity:tx_count_1h"] };
const rows = (count: number) => ({
  entities: Array.from({ length: count }, (_, i) => ({ card_id: `c${i}` })),
  features: online.features,
});

/** A busy machine is no outage here. */
const PATIENCE_MS = 10_000;

let valkey: TestValkey;
let admin: Redis;
const servers: RunningServer[] = [];
const sent: unknown[] = [];
const logged: { requestId: string }[] = [];
const records = new Map<string, TenantRecord>();
const tenants: LimitPorts["tenants"] & { broken: boolean } = {
  broken: false,
  async get(name) {
    if (this.broken) throw new Error("the table does not answer");
    return records.get(name) ?? null;
  },
};
let made = 0;

/** A tenant that nobody has met, with these limits. */
async function newTenant(limits: TenantRecord["limits"]): Promise<string> {
  const name = `team-${made++}`;
  records.set(name, { name, limits });
  return name;
}
let keysOf: (tenant: string) => Promise<string>;
const on = (host: number, key: string) => {
  const target = { baseUrl: () => servers[host].url, keys: () => ({ first: key }) as any, plan, exactBytes: true };
  return (path: string, options: CallOptions = {}) => caller(target)(path, options);
};

beforeAll(async () => {
  valkey = await startValkey({ appendonly: true });
  admin = new Redis({ host: valkey.host, port: valkey.port, retryStrategy: () => 50 });
  admin.on("error", () => {});
  const store = await openStore(plan, valkey, Math.floor(Date.now() / 60_000) * 60_000 - 15 * 60_000);
  await store.connection.close();
  const { dependencies, keys, broker } = testDependencies();
  keysOf = async (tenant) =>
    (await createKey(keys, { tenant, scopes: ["read", "score", "write", "admin"], nowMs: 0 })).key;
  const logger = {
    record: ({ requestId }: { requestId: string }) => void logged.push({ requestId }),
    settle: async () => {},
    close: async () => {},
  };
  const serving = {
    served: () => ({ champion: null, challenger: null, shadow: null, share: null, fault: null }),
    refresh: async () => {},
    state: () => ({ polledMs: 0, loaded: 0, refused: [] }),
  };
  for (let host = 0; host < 2; host++) {
    const connection = readingConnection({ ...valkey, timeoutMs: PATIENCE_MS });
    const publish = async (_: string, events: readonly unknown[]) => {
      sent.push(...events);
      return events.map(() => "queued" as const);
    };
    servers.push(
      await listen({
        port: 0,
        dependencies: {
          ...dependencies,
          ingest: { ...dependencies.ingest!, publisher: { ...broker, publish } },
          reader: createReader(plan, connection),
          scoring: { logger, serving, explainer: null, registry: null, close: async () => {} } as any,
          limits: {
            defaults: { score: { perSecond: 1_000, burst: 1_000, perDay: null } },
            tenants,
            store: createTokenBuckets(connection),
            patienceMs: PATIENCE_MS,
          },
        },
      }),
    );
  }
});
beforeEach(() => {
  sent.length = 0;
  logged.length = 0;
});
afterAll(async () => {
  for (const server of servers) await server.close();
  admin?.disconnect();
  await valkey?.stop();
});

const slow = (burst: number) => ({ perSecond: 0.01, burst, perDay: null });

it("answers say what is left; beyond it 429 says how long to wait, and what is refused is not told", async () => {
  const key = await keysOf(await newTenant({ score: slow(2) }));
  const score = () => on(0, key)("/v1/score/fraud", { body: scorable });
  const first = await score();
  expect(first.status).toBe(200);
  expect(first.headers.get("ratelimit-policy")).toBe('"score";q=2;w=200');
  expect(first.headers.get("ratelimit")).toBe('"score";r=1;t=100');
  expect((await score()).headers.get("ratelimit")).toBe('"score";r=0;t=200');
  const { status, headers, body } = await score();
  expect([status, headers.get("retry-after"), body.code]).toEqual([429, "100", "rate_limited"]);
  expect(headers.get("ratelimit")).toBe('"score";r=0;t=200');
  expect(body.detail).toBe("the tenant may use 0.01 tokens a second for score, 2 at once; a row or event is one");
  expect(body.repair).toContain("send it again after 100 s");
  expect(logged).toHaveLength(2);
});

it("two hosts share a tenant's tokens", async () => {
  const key = await keysOf(await newTenant({ read: slow(10) }));
  const statuses: number[] = [];
  for (let i = 0; i < 16; i++) statuses.push((await on(i % 2, key)("/v1/features/online", { body: online })).status);
  expect(statuses.filter((status) => status === 200).length).toBeGreaterThanOrEqual(10);
  // What a host admits before it hears of the other's: half of the bucket at most.
  expect(statuses.filter((status) => status === 200).length).toBeLessThanOrEqual(15);
  expect(statuses.at(-1)).toBe(429);
});

it("a row costs one, a class has its own bucket, and a bad request is not free", async () => {
  const key = await keysOf(await newTenant({ read: slow(100), score: slow(5) }));
  const call = on(0, key);
  const left = async (path: string, options: CallOptions) =>
    (await call(path, options)).headers.get("ratelimit")?.match(/r=(\d+)/)?.[1];
  expect(await left("/v1/features/batch", { body: rows(60) })).toBe("40");
  expect(await left("/v1/features/batch", { body: rows(41) })).toBe("40");
  expect(await left("/v1/features/card/c1", {})).toBe("39");
  expect(await left("/v1/features/online", { body: "{" })).toBe("38");
  expect(await left("/v1/features/online", { body: { ...online, features: ["x:y"] } })).toBe("37");
  expect(await left("/v1/score/fraud", { body: scorable })).toBe("4");
  expect(await left("/v1/score/fraud/batch", { body: { rows: [scorable, scorable, scorable] } })).toBe("1");
  expect((await call("/v1/features/batch", { body: rows(38) })).body.code).toBe("rate_limited");
});

it("near the limit the question goes out with the read, in one write that the server reads at once", async () => {
  const key = await keysOf(await newTenant({ read: slow(4) }));
  const read = async () => (await on(0, key)("/v1/features/online", { body: online })).headers.get("ratelimit");
  const server = async (name: string) =>
    Number(new RegExp(`${name}:(?:calls=)?(\\d+)`).exec(await admin.info("all"))?.[1] ?? 0);
  // Two of four are decided on the host; told a moment later.
  const untold = await server("cmdstat_evalsha");
  await read();
  await read();
  let last = untold;
  const isTold = async () => {
    const now = await server("cmdstat_evalsha");
    const isQuiet = now > untold && now === last;
    last = now;
    return isQuiet;
  };
  await expect.poll(isTold, { interval: 300 }).toBe(true);
  const [reads, scripts] = [await server("total_reads_processed"), await server("cmdstat_evalsha")];
  expect(await read()).toMatch(/r=1;/);
  expect((await server("cmdstat_evalsha")) - scripts).toBe(1);
  // The request's one, and those of the two questions since.
  expect((await server("total_reads_processed")) - reads).toBe(1 + 3);
});

it("refused events are not queued", async () => {
  const key = await keysOf(await newTenant({ write: slow(3) }));
  const events = (count: number) =>
    on(0, key)("/v1/events/transactions", { body: Array.from({ length: count }, () => transaction()) });
  expect((await events(3)).status).toBe(202);
  expect((await events(1)).status).toBe(429);
  expect(sent).toHaveLength(3);
});

it("a request above the burst is admitted by a full bucket and keeps it empty for the longer", async () => {
  const key = await keysOf(await newTenant({ read: { perSecond: 1, burst: 10, perDay: null } }));
  const batch = () => on(0, key)("/v1/features/batch", { body: rows(40) });
  expect((await batch()).status).toBe(200);
  const { status, headers } = await batch();
  expect(status).toBe(429);
  expect(Number(headers.get("retry-after"))).toBeGreaterThan(25);
});

it("a day's quota ends at midnight UTC", async () => {
  const key = await keysOf(await newTenant({ score: { perSecond: 1_000, burst: 1_000, perDay: 2 } }));
  const score = () => on(0, key)("/v1/score/fraud", { body: scorable });
  const first = await score();
  expect(first.headers.get("ratelimit-policy")).toBe('"score";q=1000;w=1, "score-day";q=2;w=86400');
  expect(first.headers.get("ratelimit")).toMatch(/^"score";r=\d+;t=[01], "score-day";r=1;t=\d+$/);
  await score();
  const { status, headers, body } = await score();
  expect([status, body.code]).toEqual([429, "quota_exceeded"]);
  expect(body.repair).toContain("midnight UTC");
  const untilMidnight = 86_400 - (Math.floor(Date.now() / 1_000) % 86_400);
  expect(Math.abs(Number(headers.get("retry-after")) - untilMidnight)).toBeLessThanOrEqual(5);
});

it("a tenant that floods takes nothing of another's: no token, no call fails, no key", async () => {
  const [a, b] = [await newTenant({ score: slow(20), read: slow(20) }), await newTenant({ score: slow(500) })];
  const [keyA, keyB] = [await keysOf(a), await keysOf(b)];
  let stop = false;
  const flood = Array.from({ length: 8 }, async (_, i) => {
    const statuses = { ok: 0, refused: 0 };
    while (!stop) {
      const { status } = await on(i % 2, keyA)("/v1/score/fraud", { body: scorable });
      statuses[status === 200 ? "ok" : "refused"]++;
    }
    return statuses;
  });
  try {
    await expect.poll(() => admin.exists(limitKey(a, "score"))).toBe(1);
    expect(await admin.exists(limitKey(b, "score"))).toBe(0);
    for (let i = 0; i < 100; i++) {
      const { status } = await on(0, keyB)("/v1/score/fraud", { body: scorable });
      expect(status).toBe(200);
    }
    const last = await on(0, keyB)("/v1/score/fraud", { body: scorable });
    // 101 of 500, whatever the other has sent meanwhile.
    expect(last.headers.get("ratelimit")).toMatch(/^"score";r=399;/);
  } finally {
    stop = true;
  }
  const outcomes = await Promise.all(flood);
  expect(outcomes.reduce((sum, { refused }) => sum + refused, 0)).toBeGreaterThan(20);
  expect(outcomes.reduce((sum, { ok }) => sum + ok, 0)).toBeLessThanOrEqual(40);
});

it("a tenant without limits of its own has the stage's; a class without any has none", async () => {
  const key = await keysOf("team-plain");
  const score = await on(0, key)("/v1/score/fraud", { body: scorable });
  expect(score.headers.get("ratelimit-policy")).toBe('"score";q=1000;w=1');
  const read = await on(0, key)("/v1/features/online", { body: online });
  expect([read.status, read.headers.get("ratelimit-policy")]).toEqual([200, null]);
});

it("the stage's limits hold while the table of tenants cannot be read", async () => {
  tenants.broken = true;
  const key = await keysOf(await newTenant({ score: slow(1) }));
  const score = await on(0, key)("/v1/score/fraud", { body: scorable });
  tenants.broken = false;
  expect([score.status, score.headers.get("ratelimit-policy")]).toEqual([200, '"score";q=1000;w=1']);
});

it("limits hold on each host alone while Valkey is gone, and the metrics say so until it is back", async () => {
  const key = await keysOf(await newTenant({ score: slow(4) }));
  const score = async () => (await on(0, key)("/v1/score/fraud", { body: scorable })).status;
  const metrics = async () => (await on(0, key)("/metrics")).body as string;
  expect(await score()).toBe(200);
  expect(await metrics()).toContain("freshet_limiter_fallback 0");
  await valkey.kill("SIGKILL");
  const during = [await score(), await score(), await score(), await score()];
  expect(during).toEqual([200, 200, 200, 429]);
  const text = await metrics();
  expect(text).toContain("freshet_limiter_fallback 1");
  expect(text).toMatch(/freshet_rate_limited_total\{class="score",of="rate"\} \d+/);
  await valkey.restart();
  await expect.poll(metrics, { timeout: 20_000 }).toContain("freshet_limiter_fallback 0");
  expect(await score()).toBe(429);
});
