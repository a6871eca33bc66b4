/** One training job of the stand-in: S3 down, the program as a process, S3 up, and what DescribeTrainingJob says of it. */
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { S3Client } from "@aws-sdk/client-s3";
import type { MetricDefinition } from "../../core/scoring/training.ts";
import { createJobFolder, type JobFolder, readFailure } from "./layout.ts";
import { metricReader } from "./metrics.ts";
import { download, upload, uploadFolder } from "./objects.ts";
import { pack } from "./pack.ts";
import { runProgram } from "./program.ts";

/** CreateTrainingJob, as far as it is read here; the rest is given back as it came. */
export interface TrainingJobRequest {
  readonly TrainingJobName: string;
  readonly HyperParameters?: Readonly<Record<string, string>>;
  readonly AlgorithmSpecification?: { readonly MetricDefinitions?: readonly MetricDefinition[] };
  readonly InputDataConfig?: readonly {
    readonly ChannelName: string;
    readonly DataSource: { readonly S3DataSource?: { readonly S3DataType: string; readonly S3Uri: string } };
  }[];
  readonly OutputDataConfig: { readonly S3OutputPath: string };
  readonly CheckpointConfig?: { readonly S3Uri: string };
  readonly StoppingCondition?: { readonly MaxRuntimeInSeconds?: number };
  readonly Environment?: Readonly<Record<string, string>>;
}

type Status = "InProgress" | "Completed" | "Failed" | "Stopping" | "Stopped";

export class TrainingJob {
  readonly arn: string;
  readonly createdMs = Date.now();
  readonly ended: Promise<void>;
  status: Status = "InProgress";
  readonly #request: TrainingJobRequest;
  readonly #stop = new AbortController();
  readonly #metrics: ReturnType<typeof metricReader>;
  readonly #transitions: { Status: string; StartTime: number; EndTime?: number }[] = [];
  #failure: string | undefined;
  #model: string | undefined;
  #trainingMs: [start?: number, end?: number] = [];
  #overtime = false;

  constructor(request: TrainingJobRequest, options: { arn: string; folder: string; s3: S3Client }) {
    this.arn = options.arn;
    this.#request = request;
    this.#metrics = metricReader(request.AlgorithmSpecification?.MetricDefinitions ?? []);
    this.#enter("Starting");
    this.ended = this.#run(options.folder, options.s3);
  }

  stop(): void {
    if (this.status !== "InProgress") return;
    this.status = "Stopping";
    this.#enter("Stopping");
    this.#stop.abort();
  }

  /** DescribeTrainingJob. Times are epoch seconds, as the wire has them. */
  describe(): Record<string, unknown> {
    const [started, finished] = this.#trainingMs;
    return {
      ...this.#request,
      TrainingJobArn: this.arn,
      TrainingJobStatus: this.status,
      SecondaryStatus: this.#transitions.at(-1)!.Status,
      SecondaryStatusTransitions: this.#transitions,
      CreationTime: this.createdMs / 1_000,
      LastModifiedTime: this.#transitions.at(-1)!.StartTime,
      ...(started === undefined ? {} : { TrainingStartTime: started / 1_000 }),
      ...(finished === undefined || started === undefined
        ? {}
        : { TrainingEndTime: finished / 1_000, TrainingTimeInSeconds: Math.ceil((finished - started) / 1_000) }),
      ...(this.#failure === undefined ? {} : { FailureReason: this.#failure }),
      ...(this.#model === undefined ? {} : { ModelArtifacts: { S3ModelArtifacts: this.#model } }),
      FinalMetricDataList: [...this.#metrics.values].map(([MetricName, Value]) => ({
        MetricName,
        Value,
        Timestamp: (finished ?? this.createdMs) / 1_000,
      })),
    };
  }

  #enter(status: string): void {
    const now = Date.now() / 1_000;
    const last = this.#transitions.at(-1);
    if (last !== undefined) last.EndTime = now;
    this.#transitions.push({ Status: status, StartTime: now });
  }

  #end(status: "Completed" | "Failed" | "Stopped", secondary: string = status): void {
    this.#enter(secondary);
    this.status = status;
  }

  async #run(parent: string, s3: S3Client): Promise<void> {
    const request = this.#request;
    let folder: JobFolder | undefined;
    try {
      folder = createJobFolder(parent, {
        name: request.TrainingJobName,
        hyperparameters: request.HyperParameters ?? {},
        channels: Object.fromEntries((request.InputDataConfig ?? []).map(({ ChannelName }) => [ChannelName, null])),
        checkpoints: request.CheckpointConfig !== undefined,
      });
      await this.#download(folder, s3);
      const code = await this.#train(folder);
      await this.#upload(folder, s3);
      if (this.#overtime) this.#end("Stopped", "MaxRuntimeExceeded");
      else if (this.#stop.signal.aborted) this.#end("Stopped");
      else if (code === 0) this.#end("Completed");
      else {
        this.#failure = `AlgorithmError: ${readFailure(folder) ?? "the program gave no reason"}, exit code: ${code ?? 137}`;
        this.#end("Failed");
      }
    } catch (error) {
      this.#failure = `ClientError: ${error instanceof Error ? error.message : String(error)}`;
      this.#end("Failed");
    } finally {
      if (folder !== undefined) rmSync(folder.root, { recursive: true, force: true });
    }
  }

  async #download(folder: JobFolder, s3: S3Client): Promise<void> {
    if (this.status === "InProgress") this.#enter("Downloading");
    for (const { ChannelName, DataSource } of this.#request.InputDataConfig ?? []) {
      const uri = DataSource.S3DataSource!.S3Uri;
      if ((await download(s3, uri, folder.channel(ChannelName))) === 0) {
        throw new Error(`Data download failed: no S3 objects found under ${uri}`);
      }
    }
    if (this.#request.CheckpointConfig !== undefined) {
      await download(s3, this.#request.CheckpointConfig.S3Uri, folder.checkpoints);
    }
  }

  async #train(folder: JobFolder): Promise<number | null> {
    if (this.status === "InProgress") this.#enter("Training");
    const seconds = this.#request.StoppingCondition?.MaxRuntimeInSeconds ?? 86_400;
    const limit = setTimeout(() => {
      this.#overtime = true;
      this.stop();
    }, seconds * 1_000);
    this.#trainingMs = [Date.now()];
    try {
      return await runProgram(folder, {
        jobName: this.#request.TrainingJobName,
        environment: { TRAINING_JOB_ARN: this.arn, ...this.#request.Environment },
        signal: this.#stop.signal,
        onLine: (line) => this.#metrics.see(line),
      });
    } finally {
      clearTimeout(limit);
      this.#trainingMs = [this.#trainingMs[0], Date.now()];
    }
  }

  /** What lies in the model folder goes up whether the program failed or not, as SageMaker does. */
  async #upload(folder: JobFolder, s3: S3Client): Promise<void> {
    if (this.status === "InProgress") this.#enter("Uploading");
    const base = `${this.#request.OutputDataConfig.S3OutputPath.replace(/\/$/, "")}/${this.#request.TrainingJobName}/output`;
    for (const [source, name] of [
      [folder.model, "model.tar.gz"],
      [folder.outputData, "output.tar.gz"],
    ] as const) {
      if (readdirSync(source).length === 0) continue;
      const file = join(folder.root, name);
      await pack(source, file);
      await upload(s3, file, `${base}/${name}`);
      if (name === "model.tar.gz") this.#model = `${base}/${name}`;
    }
    if (this.#request.CheckpointConfig !== undefined) {
      await uploadFolder(s3, folder.checkpoints, this.#request.CheckpointConfig.S3Uri);
    }
  }
}
