/** Keeps the online store's control hashes: creates them, gives slots their births, moves the seal (DESIGN §5, §6). */
import { MetricUnit } from "@aws-lambda-powertools/metrics";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { DURABLE_CLIENT } from "../adapters/aws/durable-call.ts";
import { BatchRuns } from "../adapters/control-table/batch-runs.ts";
import { BuildProgress } from "../adapters/control-table/build-progress.ts";
import { ControlTable } from "../adapters/control-table/control-table.ts";
import { StoreApplier } from "../adapters/valkey/applier.ts";
import { ValkeyConnection } from "../adapters/valkey/connection.ts";
import { ControlHashes } from "../adapters/valkey/control.ts";
import { dropOldLibraries } from "../adapters/valkey/libraries.ts";
import { valkeyOptionsFromEnvironment } from "../adapters/valkey/options.ts";
import { Watermark } from "../adapters/valkey/watermark.ts";
import { lock, plan } from "../features/plan.ts";
import { accept, beginRestore, type ControlReport, controlStep, type StreamShards } from "./shared/control-loop.ts";
import { requireEnvironment } from "./shared/environment.ts";
import { repeatAfterFailover } from "./shared/materialization/restore-pushed.ts";
import { codedFailure } from "./shared/named-failure.ts";
import { describeError, logger, metrics } from "./shared/observability.ts";

const connection = new ValkeyConnection(valkeyOptionsFromEnvironment());
const target = { table: requireEnvironment("controlTable"), dynamodb: new DynamoDBClient(DURABLE_CLIENT) };
const table = new ControlTable(target);
const progress = new BuildProgress(target);
const ports = {
  plan,
  lock,
  controls: new ControlHashes(connection, plan),
  watermark: new Watermark(connection),
  table,
  imports: (stream: string) => progress.imports(stream),
  timeoutMs: Number(requireEnvironment("aggregateTimeoutMs")),
  loadFunction: async () => {
    const applier = new StoreApplier(connection, plan, 0);
    await applier.loadFunction();
    await dropOldLibraries(connection, applier.library);
  },
};

const runs = new BatchRuns(target);

export interface ControlEvent {
  /**
   * `tick`: from the heartbeat, with the shards of each stream; without them (after a deployment) no seal moves.
   * `restore`: begins the next epoch, open for replays only. `accept`: what had to be replayed has been; opens the store.
   * @default "tick"
   */
  readonly kind?: "tick" | "restore" | "accept";
  readonly streams?: Readonly<Record<string, StreamShards>>;
  /** With `restore`: by stream, the event time from which on the replay will bring all. @default all that ever was */
  readonly fromMs?: Readonly<Record<string, number>>;
  /** With `accept`: as reported when the replay began. @default whatever answers now is taken for whole */
  readonly runs?: string;
  /** With `accept`: repairs that became visible from then on are lacking. @default the newest ones may be */
  readonly repairsSinceMs?: number;
  /** From `freshet up`: the store was ended in order, its file whole, and this is its first start since. */
  readonly cleanRestart?: boolean;
}

export interface ControlAnswer extends ControlReport {
  /** By stream, when it was seen first, which no broker tells of one that was lost and made again. Left out for a heartbeat. */
  readonly beganMs?: Readonly<Record<string, number>>;
}

export async function handler(event: ControlEvent): Promise<ControlAnswer> {
  const nowMs = Date.now();
  try {
    if (event.kind === "restore") await beginRestore(ports, nowMs, event.fromMs);
    if (event.kind === "accept") {
      await repeatAfterFailover(ports.controls, runs);
      await accept(ports, event.runs, nowMs, event.repairsSinceMs);
    }
    const report = await controlStep(ports, event.streams ?? {}, nowMs, { cleanRestart: event.cleanRestart });
    metrics.addDimension("service", "control");
    metrics.addMetric("BucketsNotOk", MetricUnit.Count, report.bucketsNotOk);
    metrics.publishStoredMetrics();
    for (const [stream, sealMs] of Object.entries(report.seals)) {
      metrics.addDimension("stream", stream);
      metrics.addMetric("SealLagMs", MetricUnit.Milliseconds, nowMs - sealMs);
      metrics.publishStoredMetrics();
    }
    if (report.state !== "ok") logger.error("the online store's control state is not ok", { ...report });
    else logger.info("control", { ...report });
    return event.streams === undefined ? { ...report, beganMs: await beginnings() } : report;
  } catch (error) {
    logger.error("control step failed", describeError(error));
    throw codedFailure(error);
  }
}

async function beginnings(): Promise<Record<string, number>> {
  const records = await Promise.all(plan.streams.map(async ({ name }) => [name, await table.getStream(name)] as const));
  return Object.fromEntries(records.flatMap(([name, record]) => (record === null ? [] : [[name, record.createdAtMs]])));
}
