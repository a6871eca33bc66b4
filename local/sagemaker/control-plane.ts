/**
 * SageMaker's training jobs on this machine: its JSON 1.1 protocol over HTTP, answered by running the container's program as a
 * process. AWS clients work against it unmodified (`AWS_ENDPOINT_URL_SAGEMAKER`). Nothing is kept when it stops.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";
import type { S3Client } from "@aws-sdk/client-s3";
import { parseS3Uri } from "../../adapters/s3/uri.ts";
import { LOOPBACK } from "../ports.ts";
import { TrainingJob, type TrainingJobRequest } from "./job.ts";

export interface SageMakerStandIn {
  readonly url: string;
  /** Ends every job and the server. */
  close(): Promise<void>;
}

/** An answer other than 200, in the service's own words. */
class Refused extends Error {
  readonly type: string;
  constructor(type: string, message: string) {
    super(message);
    this.type = type;
  }
}
const invalid = (message: string) => new Refused("ValidationException", message);

const PREFIX = "SageMaker.";
const ACCOUNT = "000000000000";

/** @param options.folder job folders are made in it; @param options.port 0 for any free one */
export async function startSageMaker(options: {
  s3: S3Client;
  folder: string;
  port?: number;
  region?: string;
}): Promise<SageMakerStandIn> {
  const jobs = new Map<string, TrainingJob>();
  const region = options.region ?? "us-east-1";
  const named = (name: unknown): TrainingJob => {
    const job = jobs.get(String(name));
    if (job === undefined) throw invalid("Requested resource not found.");
    return job;
  };
  const actions: Readonly<Record<string, (given: any) => unknown>> = {
    CreateTrainingJob(given: TrainingJobRequest) {
      checkRequest(given);
      if (jobs.has(given.TrainingJobName)) {
        throw new Refused("ResourceInUse", "Job name must be unique within an AWS account and region.");
      }
      const arn = `arn:aws:sagemaker:${region}:${ACCOUNT}:training-job/${given.TrainingJobName.toLowerCase()}`;
      jobs.set(given.TrainingJobName, new TrainingJob(given, { arn, folder: options.folder, s3: options.s3 }));
      return { TrainingJobArn: arn };
    },
    DescribeTrainingJob: ({ TrainingJobName }) => named(TrainingJobName).describe(),
    StopTrainingJob({ TrainingJobName }) {
      const job = named(TrainingJobName);
      if (job.status !== "InProgress") {
        throw invalid(`The request was rejected because the training job is in status ${job.status}.`);
      }
      job.stop();
      return {};
    },
    ListTrainingJobs: ({ NameContains, StatusEquals, MaxResults = 10 }) => ({
      TrainingJobSummaries: [...jobs]
        .filter(([name, { status }]) => name.includes(NameContains ?? "") && status === (StatusEquals ?? status))
        .sort(([, a], [, b]) => b.createdMs - a.createdMs)
        .slice(0, MaxResults)
        .map(([TrainingJobName, job]) => ({
          TrainingJobName,
          TrainingJobArn: job.arn,
          CreationTime: job.createdMs / 1_000,
          TrainingJobStatus: job.status,
        })),
    }),
  };
  const server = createServer((request, response) => void answer(actions, request, response));
  await new Promise<void>((settle, fail) => {
    server.once("error", fail);
    server.listen(options.port ?? 0, LOOPBACK, settle);
  });
  return {
    url: `http://${LOOPBACK}:${(server.address() as AddressInfo).port}`,
    async close() {
      for (const job of jobs.values()) job.stop();
      await Promise.all([...jobs.values()].map(({ ended }) => ended));
      await closed(server);
    },
  };
}

async function answer(
  actions: Readonly<Record<string, (given: any) => unknown>>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const reply = (status: number, body: unknown) => {
    response.writeHead(status, { "content-type": "application/x-amz-json-1.1" }).end(JSON.stringify(body));
  };
  try {
    const target = String(request.headers["x-amz-target"] ?? "");
    const action = target.startsWith(PREFIX) ? actions[target.slice(PREFIX.length)] : undefined;
    if (action === undefined) throw new Refused("UnknownOperationException", `no operation ${target || "named"}`);
    reply(200, action(await json(request)));
  } catch (error) {
    if (error instanceof Refused) reply(400, { __type: error.type, message: error.message });
    else if (error instanceof SyntaxError) reply(400, { __type: "SerializationException", message: error.message });
    else reply(500, { __type: "InternalFailure", message: String(error) });
  }
}

/** What the service refuses and clients do not. */
function checkRequest(given: TrainingJobRequest): void {
  if (!/^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$/.test(given.TrainingJobName ?? ""))
    throw invalid("TrainingJobName is invalid");
  const parameters = Object.entries(given.HyperParameters ?? {});
  if (parameters.length > 100) throw invalid("at most 100 hyperparameters");
  for (const [name, value] of parameters) {
    if (typeof value !== "string") throw invalid(`hyperparameter ${name} is no string`);
    if (name.length > 256 || value.length > 2_500) throw invalid(`hyperparameter ${name} is too long`);
  }
  for (const { ChannelName, DataSource } of given.InputDataConfig ?? []) {
    const source = DataSource?.S3DataSource;
    if (source?.S3DataType !== "S3Prefix") throw invalid(`channel ${ChannelName}: only S3Prefix is answered here`);
    addressed(source.S3Uri);
  }
  addressed(given.OutputDataConfig?.S3OutputPath);
}

function addressed(uri: string): void {
  try {
    parseS3Uri(uri);
  } catch {
    throw invalid(`${uri} is no S3 address`);
  }
}

function closed(server: Server): Promise<void> {
  server.closeAllConnections();
  return new Promise((settle) => server.close(() => settle()));
}
