/** The mapping as a program: the function in threads beside it, its state over HTTP, an orderly end. */
import { join } from "node:path";
import { FreshetError } from "../../core/errors.ts";
import { brokerFromEnvironment } from "../shared/broker.ts";
import { ENVIRONMENT, requireEnvironment } from "../shared/environment.ts";
import { FunctionMetrics } from "./function-metrics.ts";
import { serveHealth } from "./health.ts";
import { Mapping } from "./mapping.ts";
import { Workers } from "./workers.ts";

export interface RunOptions {
  readonly group: string;
  readonly instance?: string;
  readonly batchSize: number;
  readonly batchWindowMs: number;
  /** Of an invocation. The seal counts on it: `FRESHET_AGGREGATE_TIMEOUT_MS` of the control function is the same. */
  readonly timeoutMs: number;
  /** Invocations at once, over all partitions. */
  readonly concurrency: number;
  readonly sessionTimeoutMs: number;
  readonly host: string;
  readonly port: number;
  /** File with the export `handler`. @default the aggregate function of this checkout */
  readonly handler?: string;
}

/**
 * Runs until the signal, and then until what is in flight is committed.
 * @throws FreshetError `broker_unknown`, `kafka_settings`, `environment_missing`, `topic_unsuitable`, `worker_ended`
 */
export async function runMapping(options: RunOptions, signal: AbortSignal): Promise<void> {
  const settings = brokerFromEnvironment({});
  if (settings.kind !== "kafka") {
    throw new FreshetError("broker_unknown", "the mapping is of Kafka, and the broker is Kinesis", {
      field: ENVIRONMENT.broker,
      repair: `set ${ENVIRONMENT.broker}=kafka and ${ENVIRONMENT.bootstrapServers}; Kinesis has Lambda's own mapping`,
    });
  }
  // What the function answers of a part of a batch is honoured here.
  process.env[ENVIRONMENT.partialResponses] = "1";
  const { handler = join(import.meta.dirname, "..", "aggregate.ts"), timeoutMs, concurrency } = options;
  const metrics = new FunctionMetrics();
  const workers = new Workers({
    ...{ handler, timeoutMs, size: concurrency },
    onLine(line) {
      if (!metrics.take(line)) process.stdout.write(`${line}\n`);
    },
  });
  await workers.warm();
  const mapping = new Mapping({
    ...options,
    settings,
    topics: Object.values(JSON.parse(requireEnvironment("streams")) as Record<string, string>),
    invoke: (event) => workers.invoke(event),
    hasRoom: () => workers.hasRoom,
    log,
  });
  const health = await serveHealth(options, () => mapping.state, metrics);
  const stop = (): void => mapping.stop();
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  try {
    log("mapping", { group: options.group, health: `http://${options.host}:${options.port}/health` });
    await mapping.run();
    log("ended in order", {});
  } finally {
    signal.removeEventListener("abort", stop);
    health.close();
    health.closeAllConnections();
    await workers.close();
  }
}

/** A line of JSON, as the function's own are. */
function log(message: string, details: Readonly<Record<string, unknown>>): void {
  process.stdout.write(`${JSON.stringify({ at: new Date().toISOString(), message, ...details })}\n`);
}
