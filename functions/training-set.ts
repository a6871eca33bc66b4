/** Builds the training set of an execution of the training state machine. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import type { Context } from "aws-lambda";
import { DURABLE_CLIENT } from "../adapters/aws/durable-call.ts";
import { FeatureRegistry } from "../adapters/pushed/feature-registry.ts";
import { s3Client } from "../adapters/s3/client.ts";
import { definitions } from "../features/index.ts";
import { plan } from "../features/plan.ts";
import { requireEnvironment } from "./shared/environment.ts";
import { namedFailure } from "./shared/named-failure.ts";
import { describeError, logger } from "./shared/observability.ts";
import { engineOfEnvironment } from "./shared/training/query-engine.ts";
import type { TrainingInput } from "./shared/training/training-pipeline.ts";
import { type BuildInput, buildForTraining } from "./shared/training/training-set-build.ts";

const s3 = s3Client(DURABLE_CLIENT);
const registry = new FeatureRegistry({
  table: requireEnvironment("featuresTable"),
  dynamodb: new DynamoDBClient(DURABLE_CLIENT),
});
const registered = async (tenant: string) => (await registry.load(tenant, null))?.features ?? [];
const archiveBucket = requireEnvironment("archiveBucket");
const trainingBucket = requireEnvironment("trainingBucket");
/** The rest is for Node: columns of a million rows, and objects on their way. */
const DUCKDB_SHARE = 0.5;
const engine = engineOfEnvironment();
/** Of a call's 15 minutes, for what it has begun: a chunk, or a part. */
const MARGIN_MS = 240_000;

export async function handler(
  { input, execution }: { readonly input: BuildInput; readonly execution: string },
  context: Pick<Context, "memoryLimitInMB" | "getRemainingTimeInMillis">,
): Promise<TrainingInput | BuildInput> {
  const folder = mkdtempSync(join(tmpdir(), "freshet-set-"));
  const memoryMb = Math.floor(Number(context.memoryLimitInMB) * DUCKDB_SHARE);
  const outOfTime = () => context.getRemainingTimeInMillis() < MARGIN_MS;
  const services = definitions.services;
  const own = { folder, memoryMb, engine, outOfTime };
  const ports = { plan, services, registered, s3, archiveBucket, trainingBucket, ...own };
  try {
    const built = await buildForTraining(ports, input, execution);
    logger.info("call for a training set ended", {
      service: input.service,
      set: (built as TrainingInput).training_set ?? null,
    });
    return built;
  } catch (error) {
    logger.error("training set failed", describeError(error));
    throw namedFailure(error);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
