/** Writes a bulk snapshot back into the store, call by call, for `freshet recover` and `freshet restore`. */
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import type { Context } from "aws-lambda";
import { DURABLE_CLIENT } from "../adapters/aws/durable-call.ts";
import { BatchRuns } from "../adapters/control-table/batch-runs.ts";
import { BuildProgress } from "../adapters/control-table/build-progress.ts";
import { ControlTable } from "../adapters/control-table/control-table.ts";
import { s3Client } from "../adapters/s3/client.ts";
import { BulkStore } from "../adapters/snapshot/bulk-store.ts";
import { StoreApplier } from "../adapters/valkey/applier.ts";
import { ValkeyConnection } from "../adapters/valkey/connection.ts";
import { ControlHashes } from "../adapters/valkey/control.ts";
import { valkeyOptionsFromEnvironment } from "../adapters/valkey/options.ts";
import { lock, plan } from "../features/plan.ts";
import { requireEnvironment } from "./shared/environment.ts";
import { repeatPushed } from "./shared/materialization/restore-pushed.ts";
import { codedFailure } from "./shared/named-failure.ts";
import { describeError, logger } from "./shared/observability.ts";
import {
  finishRestore,
  type RestoreReport,
  type RestoreRequest,
  restoreSnapshot,
} from "./shared/snapshot/restore-snapshot.ts";
import { describeRounds, type RoundSummary } from "./shared/snapshot/rounds.ts";

const connection = new ValkeyConnection({ ...valkeyOptionsFromEnvironment(), timeoutMs: 15_000 });
const s3 = s3Client(DURABLE_CLIENT);
const target = { table: requireEnvironment("controlTable"), dynamodb: new DynamoDBClient(DURABLE_CLIENT) };
const progress = new BuildProgress(target);
const runs = new BatchRuns(target);
const ports = {
  ...{ plan, lock, connection, progress, clock: Date.now },
  controls: new ControlHashes(connection, plan),
  table: new ControlTable(target),
  snapshots: new BulkStore({ bucket: requireEnvironment("snapshotsBucket"), s3 }),
  loadFunction: () => new StoreApplier(connection, plan, 0).loadFunction(),
  repeatPushed: () => repeatPushed(runs),
};
/** Left for buckets that are under way. */
const RESERVE_MS = 60_000;

export type RestoreEvent =
  | { readonly kind: "rounds"; readonly newest: number }
  /** What a restore lacked has been done again. */
  | { readonly kind: "finish" }
  | ({ readonly kind: "restore"; readonly budgetMs: number } & RestoreRequest);

export async function handler(
  event: RestoreEvent,
  context: Pick<Context, "getRemainingTimeInMillis">,
): Promise<RestoreReport | readonly RoundSummary[] | null> {
  try {
    if (event.kind === "rounds") {
      return await describeRounds(ports.snapshots, event.newest, await ports.table.getAbandoned());
    }
    if (event.kind === "finish") return await finishRestore(ports);
    const { kind: _, budgetMs, ...request } = event;
    const leftMs = Math.max(0, context.getRemainingTimeInMillis() - RESERVE_MS);
    const report = await restoreSnapshot(ports, request, Date.now() + Math.min(budgetMs, leftMs));
    logger.info("restore", { ...report });
    return report;
  } catch (error) {
    logger.error("restore failed", describeError(error));
    throw codedFailure(error);
  }
}
