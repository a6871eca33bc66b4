import { execFile, execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { S3Client } from "@aws-sdk/client-s3";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { TRAINING_METRICS } from "../../../core/scoring/training.ts";
import { venvPython } from "../../../local/home.ts";
import { type SageMakerStandIn, startSageMaker } from "../../../local/sagemaker/control-plane.ts";
import { startEmulator, type TestEmulator } from "../../harness/emulator.ts";

const SYNTHETIC = join(import.meta.dirname, "..", "..", "training", "synthetic.py");
const CLIENT = join(import.meta.dirname, "boto3_client.py");

describe("SageMaker's stand-in, driven by boto3 and its waiter", () => {
  const folder = mkdtempSync(join(tmpdir(), "freshet-sagemaker-"));
  const jobs = join(folder, "jobs");
  let emulator: TestEmulator;
  let sagemaker: SageMakerStandIn;
  let seen: any;

  beforeAll(async () => {
    emulator = await startEmulator();
    const s3 = new S3Client({
      endpoint: emulator.url,
      region: "us-east-1",
      forcePathStyle: true,
      credentials: { accessKeyId: "test", secretAccessKey: "test" },
    });
    sagemaker = await startSageMaker({ s3, folder: jobs });
    const set = join(folder, "set");
    execFileSync(venvPython(), [SYNTHETIC, set, "2500"]);
    const { stdout } = await promisify(execFile)(venvPython(), [
      CLIENT,
      sagemaker.url,
      emulator.url,
      set,
      JSON.stringify(TRAINING_METRICS),
    ]);
    seen = JSON.parse(stdout);
  });
  afterAll(async () => {
    await sagemaker?.close();
    await emulator?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  it("completes a job and puts its model where the client asked", () => {
    expect(seen.arn).toBe("arn:aws:sagemaker:us-east-1:000000000000:training-job/job-done");
    expect(seen.done).toMatchObject({ content: true, status: "Completed" });
    expect(seen.done.transitions).toEqual(["Starting", "Downloading", "Training", "Uploading", "Completed"]);
    expect(seen.done.hyperparameters).toEqual({ num_trees: "5", num_threads: "1" });
    expect(seen.done.files).toEqual([
      "golden.json",
      "manifest.json",
      "metrics.json",
      "model.onnx",
      "report.html",
      "trees.json",
    ]);
  });

  it("finds every defined metric in the program's output, as the manifest has it", () => {
    expect(Object.keys(seen.done.metrics).sort()).toEqual(TRAINING_METRICS.map(({ Name }) => Name).sort());
    expect(seen.done.metrics["test:pr_auc"]).toBeCloseTo(seen.done.manifest_metrics.pr_auc, 6);
  });

  it("says why a job failed, in the program's words", () => {
    expect(seen.failed).toMatchObject({ content: false, status: "Failed", model: false });
    expect(seen.failed.reason).toMatch(
      /^AlgorithmError: hyperparameter_unknown: no hyperparameter num_tree; .*, exit code: 1$/s,
    );
    expect(seen.empty).toEqual({
      status: "Failed",
      reason: "ClientError: Data download failed: no S3 objects found under s3://sagemaker-test/nothing/",
    });
  });

  it("stops a job with what it has, model and checkpoint", () => {
    expect(seen.stopping).toBe("Stopping");
    expect(seen.stopped).toMatchObject({ content: true, status: "Stopped", secondary: "Stopped", checkpoint: 1 });
    expect(seen.stopped.trees).toBeGreaterThan(0);
    expect(seen.stopped.trees).toBeLessThan(5_000);
  });

  it("refuses what the service refuses, by its names", () => {
    expect(seen.refused).toEqual({
      // The client itself finds this one.
      int: "ParamValidationError",
      twice: "ResourceInUse",
      unknown: "ValidationException",
      uri: "ValidationException",
    });
    expect(seen.repeated_stop).toBe("ValidationException");
    expect(seen.listed).toEqual(["job-empty", "job-refused"]);
  });

  it("leaves no job's folder behind", () => {
    expect(readdirSync(jobs)).toEqual([]);
  });
});
