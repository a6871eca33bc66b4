/** The folder of one training job, as SageMaker mounts it at /opt/ml. Fresh for each job: a used one would pack an old model. */
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { FreshetError } from "../../core/errors.ts";

export interface JobFolder {
  readonly root: string;
  readonly model: string;
  readonly outputData: string;
  readonly failure: string;
  readonly checkpoints: string;
  /** Where a channel's files lie. */
  readonly channel: (name: string) => string;
}

export interface JobLayout {
  readonly name: string;
  /** All values are strings, as SageMaker's API takes them. */
  readonly hyperparameters: Readonly<Record<string, string>>;
  /** Channel name to a folder to show under it, or null for an empty folder to be filled. */
  readonly channels: Readonly<Record<string, string | null>>;
  /** Whether the job keeps checkpoints. @default false */
  readonly checkpoints?: boolean;
}

const JOB_NAME = /^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$/;

/** @throws FreshetError `job_name`, `job_exists` */
export function createJobFolder(parent: string, layout: JobLayout): JobFolder {
  if (!JOB_NAME.test(layout.name)) {
    throw new FreshetError("job_name", `a training job's name is letters, digits and hyphens (given: ${layout.name})`, {
      repair: "choose another name, at most 63 characters",
    });
  }
  const root = join(parent, layout.name);
  if (existsSync(root)) {
    throw new FreshetError("job_exists", `there is a training job ${layout.name}`, { repair: "choose another name" });
  }
  const folder: JobFolder = {
    root,
    model: join(root, "model"),
    outputData: join(root, "output", "data"),
    failure: join(root, "output", "failure"),
    checkpoints: join(root, "checkpoints"),
    channel: (name) => join(root, "input", "data", name),
  };
  const config = join(root, "input", "config");
  for (const path of [config, join(root, "input", "data"), folder.model, folder.outputData]) {
    mkdirSync(path, { recursive: true });
  }
  if (layout.checkpoints) mkdirSync(folder.checkpoints);
  for (const [name, source] of Object.entries(layout.channels)) {
    if (source === null) mkdirSync(folder.channel(name));
    else symlinkSync(resolve(source), folder.channel(name), "dir");
  }
  const write = (name: string, value: unknown) => writeFileSync(join(config, name), JSON.stringify(value));
  write("hyperparameters.json", layout.hyperparameters);
  write(
    "inputdataconfig.json",
    Object.fromEntries(
      Object.keys(layout.channels).map((name) => [
        name,
        { TrainingInputMode: "File", S3DistributionType: "FullyReplicated", RecordWrapperType: "None" },
      ]),
    ),
  );
  write("resourceconfig.json", { current_host: "algo-1", hosts: ["algo-1"], network_interface_name: "lo" });
  return folder;
}

/** What the program said about its failure, as SageMaker shows it: the first 1,024 characters. */
export function readFailure(folder: JobFolder): string | null {
  return existsSync(folder.failure) ? readFileSync(folder.failure, "utf8").slice(0, 1_024) : null;
}
