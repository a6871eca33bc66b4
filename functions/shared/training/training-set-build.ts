/** The first step of the training state machine: a set from the archive, laid where the job and the step after look for it. */
import { createReadStream } from "node:fs";
import { PutObjectCommand, type S3Client } from "@aws-sdk/client-s3";
import { loggedScores } from "../../../adapters/offline/logged-spine.ts";
import type { FeatureServiceDefinition } from "../../../core/definition.ts";
import { parseDuration } from "../../../core/duration.ts";
import { FreshetError } from "../../../core/errors.ts";
import { checkTenant } from "../../../core/event.ts";
import { parseIsoOrDay } from "../../../core/iso-time.ts";
import type { Plan } from "../../../core/plan.ts";
import type { PushedFeature } from "../../../core/pushed-feature.ts";
import { inputsOf } from "../../../core/registered-feature.ts";
import { FUNCTION_BYTES } from "../archive-room.ts";
import { buildSet, type SetPorts } from "./set-builder.ts";
import type { TrainingInput } from "./training-pipeline.ts";

export interface BuildPorts extends Pick<SetPorts, "memoryMb" | "engine" | "outOfTime"> {
  readonly plan: Plan;
  readonly services: readonly FeatureServiceDefinition[];
  /** What a tenant has registered. */
  readonly registered: (tenant: string) => Promise<readonly PushedFeature[]>;
  readonly s3: S3Client;
  readonly archiveBucket: string;
  readonly trainingBucket: string;
  /** A folder of this build alone. */
  readonly folder: string;
}

/** An execution's input without a set: from which event times to build one. */
export interface BuildInput extends Omit<TrainingInput, "training_set"> {
  /** `2026-11-01` or `2026-11-01T06:00:00Z`; all when left out. */
  readonly from?: string;
  readonly to?: string;
  /** Rows are what was scored, at its instant, instead of all labelled events. @default false */
  readonly from_log?: boolean;
}

/**
 * @returns the input with the address of the set; the input as it is when the time was up, and another call of the execution is to go on
 * @throws FreshetError `tenant_invalid`, `service_unknown`, `labels_missing`, `time_invalid`, and those of `buildTrainingSet`
 */
export async function buildForTraining(
  ports: BuildPorts,
  input: BuildInput,
  execution: string,
): Promise<TrainingInput | BuildInput> {
  const { plan, s3, folder } = ports;
  const { tenant = "default" } = input;
  checkTenant(tenant);
  const service = plan.services.find(({ name }) => name === input.service);
  const definition = ports.services.find(({ name }) => name === input.service);
  if (service === undefined || definition === undefined) {
    throw new FreshetError("service_unknown", `there is no feature service ${input.service}`, {
      repair: `use one of ${plan.services.map(({ name }) => name).join(", ")}`,
    });
  }
  if (definition.labels === null) {
    throw new FreshetError("labels_missing", `service ${input.service} declares no labels`, {
      repair: "declare them, or give training_set",
    });
  }
  if (typeof (input.from_log ?? false) !== "boolean") {
    throw new FreshetError("from_log_invalid", `from_log is true or false (given: ${input.from_log})`, {
      field: "from_log",
      repair: "give it without quotes, or leave it out",
    });
  }
  const stream = definition.labels.stream.name;
  const [fromMs, toMs] = [instant("from", input.from), instant("to", input.to)];
  const key = `training-sets/${execution}`;
  const built = await buildSet(
    { ...ports, bucket: ports.archiveBucket, maxBytes: FUNCTION_BYTES },
    {
      ...{ plan, service, definition, tenant, folder, job: execution, fromMs, toMs },
      spine: input.from_log
        ? loggedScores(s3, ports.archiveBucket, { tenant, service: service.name, stream })
        : { kind: "labels", stream, asOf: "event_time" },
      labelDelayMs: parseDuration(definition.labels.delay),
      inputs: service.registered === undefined ? undefined : inputsOf(service, await ports.registered(tenant)),
      put: async (name, path) => {
        const Body = createReadStream(path);
        await s3.send(new PutObjectCommand({ Bucket: ports.trainingBucket, Key: `${key}/${name}`, Body }));
      },
    },
  );
  return built === null ? input : { ...input, training_set: `s3://${ports.trainingBucket}/${key}/` };
}

function instant(name: string, text: string | undefined): number | null {
  if (text === undefined) return null;
  const ms = parseIsoOrDay(text);
  if (!Number.isNaN(ms)) return ms;
  throw new FreshetError("time_invalid", `${name} is a day or a time with its zone (given: ${text})`, {
    field: name,
    repair: "give it as 2026-11-01 or 2026-11-01T06:00:00Z",
  });
}
