/**
 * Models and the inference log, made from the environment. Apart from the other ports: only hosts that score carry the model
 * runtime in their bundle.
 */
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { createInferenceLog } from "../../../adapters/inference-log/inference-log.ts";
import { createArtefactStore } from "../../../adapters/model/artefact-store.ts";
import { createExactExplainer, type ExactExplainer } from "../../../adapters/model/exact-explainer.ts";
import { ModelRegistry } from "../../../adapters/model/model-registry.ts";
import { createModelServing, type ModelServing } from "../../../adapters/model/serving.ts";
import { s3Client } from "../../../adapters/s3/client.ts";
import type { Plan } from "../../../core/plan.ts";
import { requireEnvironment } from "../../shared/environment.ts";
import type { Log } from "../app.ts";
import { sparing } from "../observability/sparing.ts";
import { createScoreLogger, type ScoreLogger } from "./score-log.ts";

export interface ScoringPorts {
  readonly registry: ModelRegistry;
  readonly serving: ModelServing;
  readonly explainer: ExactExplainer;
  readonly logger: ScoreLogger;
  close(): Promise<void>;
}

/** A look at the aliases and a put of the log are made again by themselves, so one that hangs is given up. */
const CLIENT = {
  maxAttempts: 3,
  requestHandler: { connectionTimeout: 500, requestTimeout: 3_000, throwOnRequestTimeout: true },
} as const;

/**
 * @param options.timers false where the host polls and flushes by itself: a Lambda has no time between its invocations
 * @throws FreshetError `environment_missing`
 */
export function createScoringPorts(options: { plan: Plan; timers: boolean; log: Log }): ScoringPorts {
  const { plan, timers, log } = options;
  const spare = sparing(log, Date.now);
  const dynamodb = new DynamoDBClient(CLIENT);
  const s3 = s3Client(CLIENT);
  const artefacts = createArtefactStore({ bucket: requireEnvironment("modelsBucket"), s3 });
  const registry = new ModelRegistry({ table: requireEnvironment("modelsTable"), dynamodb, artefacts });
  const serving = createModelServing({
    registry,
    plan,
    clock: Date.now,
    pollMs: timers ? undefined : null,
    onEvent: ({ kind, error, ...details }) => log(`models: ${kind}`, details, error),
  });
  const logger = createScoreLogger({
    log: createInferenceLog({
      bucket: requireEnvironment("archiveBucket"),
      s3,
      maxDelayMs: timers ? undefined : null,
      onFault: ({ error, dropped }) => log("inference log not written", { dropped }, error),
    }),
    plan,
    onFault: ({ error, ...details }) => spare(`${details.service} ${details.code}`, "score not logged", details, error),
  });
  const explainer = createExactExplainer();
  return {
    registry,
    serving,
    explainer,
    logger,
    async close() {
      // A look at the models that hangs takes no time from the log.
      await Promise.all([logger.close(), serving.close(), explainer.close()]);
    },
  };
}
