/**
 * Target local only: `createTrainingJob.sync` for an emulator whose Step Functions have no SageMaker. Asks a control plane of this
 * machine (`local/sagemaker/`) for the job and waits for its end. Errors are named as Step Functions names them.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { requireEnvironment } from "./shared/environment.ts";
import { logger } from "./shared/observability.ts";

const POLL_MS = 250;
const endpoint = requireEnvironment("sagemakerEndpoint");

interface Job {
  readonly TrainingJobStatus: string;
  readonly FailureReason?: string;
}

export async function handler(request: { readonly TrainingJobName: string }): Promise<Job> {
  const { TrainingJobName } = request;
  await call("CreateTrainingJob", request);
  for (;;) {
    const job = (await call("DescribeTrainingJob", { TrainingJobName })) as Job;
    if (job.TrainingJobStatus === "Completed") {
      logger.info("training job", { job: TrainingJobName });
      return job;
    }
    if (job.TrainingJobStatus === "Failed" || job.TrainingJobStatus === "Stopped") {
      throw named(
        "States.TaskFailed",
        `${TrainingJobName} ${job.TrainingJobStatus}: ${job.FailureReason ?? "stopped"}`,
      );
    }
    await sleep(POLL_MS);
  }
}

async function call(action: string, body: unknown): Promise<unknown> {
  const response = await fetch(endpoint, {
    method: "POST",
    headers: { "content-type": "application/x-amz-json-1.1", "x-amz-target": `SageMaker.${action}` },
    body: JSON.stringify(body),
  });
  const answer = (await response.json()) as { __type?: string; message?: string };
  if (!response.ok) throw named(`SageMaker.${answer.__type}`, answer.message ?? "no reason given");
  return answer;
}

const named = (name: string, message: string): Error => Object.assign(new Error(message), { name });
