/** What the mapping tells of itself over HTTP: `/health` for whoever restarts it, `/metrics` for whoever watches it. */
import { createServer, type Server } from "node:http";
import type { FunctionMetrics } from "./function-metrics.ts";
import type { MappingState } from "./mapping.ts";

/** Nothing of Kafka for this long is no pause between two fetches any more. */
const SILENCE_MS = 30_000;

export interface Health {
  readonly status: "ok" | "joining" | "silent";
  readonly partitions: readonly {
    readonly topic: string;
    readonly partition: number;
    /** Records that are not done, as far as is known. */
    readonly lag: number | null;
    /** Failures of the batch that the partition waits for; 0 while it goes on. */
    readonly attempts: number;
    readonly blocked_ms: number;
  }[];
}

/** A partition that waits is told, and is no reason to restart: another process would wait for the same. */
export function healthOf(state: MappingState, nowMs: number): Health {
  const isSilent = nowMs - state.heardMs > SILENCE_MS;
  return {
    status: !state.isMember ? "joining" : isSilent ? "silent" : "ok",
    partitions: [...state.lanes]
      .sort((a, b) => (a.topic === b.topic ? a.partition - b.partition : a.topic < b.topic ? -1 : 1))
      .map(({ topic, partition, lag, attempts, blockedSinceMs }) => ({
        ...{ topic, partition, lag, attempts },
        blocked_ms: blockedSinceMs === null ? 0 : nowMs - blockedSinceMs,
      })),
  };
}

/** Prometheus' text format. */
export function metricsText(state: MappingState, counted: FunctionMetrics, nowMs: number): string {
  const { status, partitions } = healthOf(state, nowMs);
  const each = (value: (partition: Health["partitions"][number]) => number) =>
    partitions.map((one) => [`{topic="${one.topic}",partition="${one.partition}"}`, value(one)] as const);
  const families: [string, string, "gauge" | "counter", (readonly [string, number])[]][] = [
    ["up", "1 while it is a member of its group and hears of Kafka", "gauge", [["", status === "ok" ? 1 : 0]]],
    ["lag_records", "Records of the partition that are not done", "gauge", each(({ lag }) => lag ?? 0)],
    ["blocked_seconds", "How long the partition waits for one batch", "gauge", each((one) => one.blocked_ms / 1_000)],
    ["invocations_total", "Invocations of the function", "counter", [["", state.invocations]]],
    ["failures_total", "Invocations that left records to be delivered again", "counter", [["", state.failures]]],
    ["records_total", "Records that are done", "counter", [["", state.records]]],
  ];
  const text = families.map(([name, help, type, values]) => {
    const lines = values.map(([labels, value]) => `freshet_mapping_${name}${labels} ${value}\n`).join("");
    return `# HELP freshet_mapping_${name} ${help}.\n# TYPE freshet_mapping_${name} ${type}\n${lines}`;
  });
  return text.join("") + counted.text();
}

/** Listens until it is closed. @throws what listening throws */
export function serveHealth(
  at: { readonly host: string; readonly port: number },
  state: () => MappingState,
  counted: FunctionMetrics,
): Promise<Server> {
  const server = createServer(({ url, method }, response) => {
    const answer = (code: number, type: string, text: string): void => {
      response.writeHead(code, { "content-type": type }).end(text);
    };
    if (method !== "GET") return answer(405, "text/plain", "GET /health or /metrics\n");
    if (url === "/metrics") return answer(200, "text/plain; version=0.0.4", metricsText(state(), counted, Date.now()));
    if (url !== "/health") return answer(404, "text/plain", "GET /health or /metrics\n");
    const health = healthOf(state(), Date.now());
    answer(health.status === "ok" ? 200 : 503, "application/json", `${JSON.stringify(health)}\n`);
  });
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(at, () => resolve(server));
  });
}
