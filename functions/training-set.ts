/** Builds the training set of an execution of the training state machine. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { S3Client } from "@aws-sdk/client-s3";
import type { Context } from "aws-lambda";
import { DURABLE_CLIENT } from "../adapters/durable-call.ts";
import { definitions } from "../features/index.ts";
import { plan } from "../features/plan.ts";
import { requireEnvironment } from "./shared/environment.ts";
import { namedFailure } from "./shared/named-failure.ts";
import { describeError, logger } from "./shared/observability.ts";
import type { TrainingInput } from "./shared/training-pipeline.ts";
import { type BuildInput, buildForTraining } from "./shared/training-set-build.ts";

const s3 = new S3Client(DURABLE_CLIENT);
const archiveBucket = requireEnvironment("archiveBucket");
const trainingBucket = requireEnvironment("trainingBucket");
/** The rest is for Node: columns of a million rows, and objects on their way. */
const DUCKDB_SHARE = 0.5;

export async function handler(
  { input, execution }: { readonly input: BuildInput; readonly execution: string },
  context: Pick<Context, "memoryLimitInMB">,
): Promise<TrainingInput> {
  const folder = mkdtempSync(join(tmpdir(), "freshet-set-"));
  const memoryMb = Math.floor(Number(context.memoryLimitInMB) * DUCKDB_SHARE);
  const ports = { plan, services: definitions.services, s3, archiveBucket, trainingBucket, folder, memoryMb };
  try {
    const built = await buildForTraining(ports, input, execution);
    logger.info("training set built", { service: input.service, set: built.training_set });
    return built;
  } catch (error) {
    logger.error("training set failed", describeError(error));
    throw namedFailure(error);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
