import { describe, expect, it } from "vitest";
import { FunctionMetrics } from "../../../functions/mapping/function-metrics.ts";
import { healthOf, metricsText, serveHealth } from "../../../functions/mapping/health.ts";
import type { MappingState } from "../../../functions/mapping/mapping.ts";

const lane = (topic: string, partition: number, lag: number | null, blockedSinceMs: number | null = null) => ({
  ...{ topic, partition, lag, blockedSinceMs },
  attempts: blockedSinceMs === null ? 0 : 4,
  position: 7n,
});
const state: MappingState = {
  ...{ isMember: true, heardMs: 100_000, invocations: 9, failures: 4, records: 1_200 },
  lanes: [lane("payments", 1, 12, 70_000), lane("payments", 0, 0), lane("clicks", 0, null)],
};

describe("health", () => {
  it("tells each partition in order, and one that waits is no reason to restart", () => {
    expect(healthOf(state, 100_000)).toEqual({
      status: "ok",
      partitions: [
        { topic: "clicks", partition: 0, lag: null, attempts: 0, blocked_ms: 0 },
        { topic: "payments", partition: 0, lag: 0, attempts: 0, blocked_ms: 0 },
        { topic: "payments", partition: 1, lag: 12, attempts: 4, blocked_ms: 30_000 },
      ],
    });
  });

  it.each([
    ["joining", { isMember: false }, 100_000],
    ["silent", {}, 130_001],
    ["ok", {}, 130_000],
  ])("is %s for %j at %d", (status, change, nowMs) => {
    expect(healthOf({ ...state, ...change }, nowMs).status).toBe(status);
  });

  it("over HTTP: 200 or 503, and metrics beside it", async () => {
    let current = { ...state, heardMs: Date.now() };
    const server = await serveHealth({ host: "127.0.0.1", port: 0 }, () => current, new FunctionMetrics());
    const { port } = server.address() as { port: number };
    const get = (path: string, method = "GET") => fetch(`http://127.0.0.1:${port}${path}`, { method });
    try {
      expect((await get("/health")).status).toBe(200);
      expect(await (await get("/metrics")).text()).toContain(
        'freshet_mapping_lag_records{topic="payments",partition="1"} 12\n',
      );
      expect([(await get("/other")).status, (await get("/health", "POST")).status]).toEqual([404, 405]);
      current = { ...current, isMember: false };
      const answer = await get("/health");
      expect([answer.status, await answer.json()]).toMatchObject([503, { status: "joining" }]);
    } finally {
      server.close();
      server.closeAllConnections();
    }
  });
});

describe("metrics", () => {
  it("are Prometheus' text, the function's own among them", () => {
    const counted = new FunctionMetrics();
    const document = (applied: number, freshnessMs: number) =>
      JSON.stringify({
        _aws: {
          Timestamp: 1,
          CloudWatchMetrics: [
            {
              Namespace: "Freshet",
              Dimensions: [["service", "stream"]],
              Metrics: [
                { Name: "Applied", Unit: "Count" },
                { Name: "FreshnessMs", Unit: "Milliseconds" },
              ],
            },
          ],
        },
        ...{ service: "aggregate", stream: "payments", Applied: [applied], FreshnessMs: [freshnessMs] },
      });
    expect([document(3, 20), document(4, 30)].map((line) => counted.take(line))).toEqual([true, true]);
    const text = metricsText(state, counted, 100_000);
    expect(text).toContain("# TYPE freshet_mapping_up gauge\nfreshet_mapping_up 1\n");
    expect(text).toContain("freshet_mapping_records_total 1200\n");
    expect(text).toContain('freshet_mapping_blocked_seconds{topic="payments",partition="1"} 30\n');
    expect(text).toContain('freshet_applied_total{service="aggregate",stream="payments"} 7\n');
    expect(text).toContain('freshet_freshness_ms{service="aggregate",stream="payments"} 30\n');
  });

  it.each(["a plain line", '{"message":"no metrics"}', '{"_aws": broken', '{"_aws":{}}'])(
    "take nothing from what is none: %s",
    (line) => {
      const counted = new FunctionMetrics();
      counted.take(line);
      expect(counted.text()).toBe("");
    },
  );
});
