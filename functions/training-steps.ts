/** The training state machine's own steps. A failure carries its code as the error's name, which is what executions show. */
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { DURABLE_CLIENT } from "../adapters/aws/durable-call.ts";
import { createArtefactStore } from "../adapters/model/artefact-store.ts";
import { ModelRegistry } from "../adapters/model/model-registry.ts";
import { s3Client } from "../adapters/s3/client.ts";
import { DEFAULT_GATE } from "../core/scoring/gate.ts";
import { definitions } from "../features/index.ts";
import { plan } from "../features/plan.ts";
import { requireEnvironment } from "./shared/environment.ts";
import { namedFailure } from "./shared/named-failure.ts";
import { describeError, logger } from "./shared/observability.ts";
import {
  gate,
  makeChampion,
  prepare,
  register,
  type Trained,
  type TrainingInput,
} from "./shared/training/training-pipeline.ts";

const s3 = s3Client(DURABLE_CLIENT);
const registry = new ModelRegistry({
  table: requireEnvironment("modelsTable"),
  dynamodb: new DynamoDBClient(DURABLE_CLIENT),
  artefacts: createArtefactStore({ bucket: requireEnvironment("modelsBucket"), s3 }),
});
const gateOf = (service: string) => definitions.services.find(({ name }) => name === service)?.gate ?? DEFAULT_GATE;
const ports = { plan, gateOf, registry, s3 };

type Event =
  | { readonly step: "prepare"; readonly execution: string; readonly input: TrainingInput }
  | { readonly step: "gate" | "register"; readonly input: Trained }
  | { readonly step: "promote"; readonly input: Trained & { readonly registered: { readonly version: number } } };

export async function handler(event: Event): Promise<unknown> {
  try {
    const done = await take(event);
    logger.info("training step", { step: event.step, service: event.input.service });
    return done;
  } catch (error) {
    logger.error("training step failed", { step: event.step, ...describeError(error) });
    throw namedFailure(error);
  }
}

function take(event: Event): Promise<unknown> {
  const nowMs = Date.now();
  switch (event.step) {
    case "prepare":
      return prepare(ports, event.input, event.execution);
    case "gate":
      return gate(ports, event.input);
    case "register":
      return register(ports, event.input, nowMs);
    case "promote":
      return makeChampion(ports, event.input, event.input.registered.version, nowMs);
  }
}
