/** `freshet train`: one job of the training program on this machine, from a training set to an artefact ready to be registered. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { FreshetError } from "../../core/errors.ts";
import { homeFolder } from "../home.ts";
import { forgetProcess, recordProcess } from "../processes.ts";
import { createJobFolder, readFailure } from "./layout.ts";
import { pack } from "./pack.ts";
import { runProgram } from "./program.ts";

export interface TrainingRun {
  readonly jobName: string;
  /** Folder with Parquet files and manifest.json. */
  readonly trainingSet: string;
  /** Files of the model that stands, which is then scored on the same rows. */
  readonly champion?: Readonly<Record<string, Uint8Array>> | null;
  readonly hyperparameters: Readonly<Record<string, string>>;
  readonly onLine: (line: string) => void;
  readonly signal?: AbortSignal;
}

export interface TrainedModel {
  readonly jobName: string;
  /** The artefact: model.onnx, manifest.json and the rest. */
  readonly folder: string;
  /** The same as SageMaker packs it. */
  readonly archive: string;
  readonly report: string;
  readonly metrics: Readonly<Record<string, number | null>>;
}

/** Where this home keeps its jobs. */
const trainingFolder = (home: string): string => homeFolder(home, "training");

/**
 * Runs the program to its end. An abort is passed on as SIGTERM; the program then ends with the trees it has, which stay in the
 * job's folder and are returned to nobody.
 * @throws FreshetError `training_failed` with the program's own reason; the abort's reason when aborted
 */
export async function train(home: string, run: TrainingRun): Promise<TrainedModel> {
  const folder = createJobFolder(trainingFolder(home), {
    name: run.jobName,
    hyperparameters: run.hyperparameters,
    channels: { train: run.trainingSet, ...(run.champion ? { champion: null } : {}) },
  });
  for (const [name, bytes] of Object.entries(run.champion ?? {}))
    writeFileSync(join(folder.channel("champion"), name), bytes);
  const record = `training-${run.jobName}`;
  let code: number | null;
  try {
    code = await runProgram(folder, {
      jobName: run.jobName,
      onLine: run.onLine,
      signal: run.signal,
      onStart: (pid) => recordProcess(home, record, pid),
    });
  } finally {
    forgetProcess(home, record);
  }
  run.signal?.throwIfAborted();
  if (code !== 0) {
    const reason = readFailure(folder) ?? `the program ended with exit code ${code} and gave no reason`;
    throw new FreshetError("training_failed", `training ${run.jobName} failed: ${reason}`, {
      repair: "no model was made and none is changed; repair what it says and train again",
    });
  }
  const archive = join(folder.root, "model.tar.gz");
  await pack(folder.model, archive);
  const manifest = JSON.parse(readFileSync(join(folder.model, "manifest.json"), "utf8"));
  return {
    jobName: run.jobName,
    folder: folder.model,
    archive,
    report: join(folder.model, "report.html"),
    metrics: manifest.metrics,
  };
}
