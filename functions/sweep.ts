/** Hourly: folds and sweeps entities that have fallen silent (DESIGN §6). */
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import type { Context } from "aws-lambda";
import { DURABLE_CLIENT } from "../adapters/aws/durable-call.ts";
import { ControlTable } from "../adapters/control-table/control-table.ts";
import { StoreApplier } from "../adapters/valkey/applier.ts";
import { ValkeyConnection } from "../adapters/valkey/connection.ts";
import { valkeyOptionsFromEnvironment } from "../adapters/valkey/options.ts";
import { type SweepReport, sweep } from "../adapters/valkey/sweeper.ts";
import { lock, plan } from "../features/plan.ts";
import { currentEpoch } from "./shared/current-store.ts";
import { requireEnvironment } from "./shared/environment.ts";
import { describeError, logger } from "./shared/observability.ts";

const connection = new ValkeyConnection(valkeyOptionsFromEnvironment());
const table = new ControlTable({
  table: requireEnvironment("controlTable"),
  dynamodb: new DynamoDBClient(DURABLE_CLIENT),
});
/** Left for the answer and the log. */
const RESERVE_MS = 5_000;

export async function handler(
  _event: unknown,
  context: Pick<Context, "getRemainingTimeInMillis">,
): Promise<SweepReport | null> {
  try {
    const epoch = await currentEpoch(table, lock);
    if (epoch === null) {
      logger.info("no store to sweep yet");
      return null;
    }
    const applier = new StoreApplier(connection, plan, epoch);
    const report = await sweep(connection, applier, plan, Date.now() + context.getRemainingTimeInMillis() - RESERVE_MS);
    logger.info("swept", { ...report });
    return report;
  } catch (error) {
    logger.error("sweep failed", describeError(error));
    throw error;
  }
}
