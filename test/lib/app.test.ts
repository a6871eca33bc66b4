/** The app by its context: most cases in this process and without bundles, a few as the CDK CLI runs it, `node bin/freshet.ts`. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { App } from "aws-cdk-lib";
import { afterEach, describe, expect, test, vi } from "vitest";
import { synthesize } from "../../bin/synthesize.ts";
import { placeholderCode } from "./placeholder-code.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const { context: flags } = JSON.parse(readFileSync(join(ROOT, "cdk.json"), "utf8"));
const folders: string[] = [];
afterEach(() => {
  vi.unstubAllEnvs();
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

function newFolder(): string {
  const outdir = mkdtempSync(join(tmpdir(), "freshet-synth-"));
  folders.push(outdir);
  return outdir;
}
const stacksIn = (outdir: string): string[] =>
  readdirSync(outdir)
    .flatMap((file) => /^(.*)\.template\.json$/.exec(file)?.[1] ?? [])
    .sort();

function asProcess(context: Record<string, string>) {
  const outdir = newFolder();
  const { status, stderr } = spawnSync(process.execPath, ["bin/freshet.ts"], {
    cwd: ROOT,
    encoding: "utf8",
    env: {
      PATH: process.env["PATH"],
      CDK_OUTDIR: outdir,
      CDK_CONTEXT_JSON: JSON.stringify({ ...flags, ...context }),
    },
  });
  return { status, stderr, outdir, stacks: stacksIn(outdir) };
}

/** @returns names of the stacks. @throws FreshetError */
function here(context: Record<string, string>, endpoint?: string): string[] {
  vi.stubEnv("AWS_ENDPOINT_URL", endpoint);
  vi.stubEnv("CDK_VALIDATION", "false");
  const outdir = newFolder();
  const app = new App({ outdir, context: { ...flags, ...context } });
  synthesize(app, () => placeholderCode);
  app.synth();
  return stacksIn(outdir);
}

const stacksOf = (stage: string) =>
  ["aggregation", "ingest", "monitoring", "offline", "online-store", "serving", "storage", "streams"].map(
    (name) => `freshet-${stage}-${name}`,
  );

describe("the app as a process", { tags: ["slow"] }, () => {
  test("synthesizes for AWS, stage dev, when nothing is said, with each function's code", () => {
    const { status, stderr, outdir, stacks } = asProcess({});
    expect([status, stderr]).toEqual([0, ""]);
    expect(stacks).toEqual([...stacksOf("dev"), "freshet-dev-training"].sort());
    const codes = readdirSync(outdir).filter((name) => existsSync(join(outdir, name, "index.mjs")));
    expect(codes.length).toBeGreaterThan(10);
  }, 300_000);

  test("ends with 1, a message and no stack trace where something is to be repaired", () => {
    const { status, stderr, stacks } = asProcess({ target: "azure" });
    expect([status, stacks]).toEqual([1, []]);
    expect(stderr).toBe("target_unknown: no target azure; use aws, local\n  pass -c target=local\n");
  });
});

describe("the app", () => {
  test("synthesizes for this machine when the endpoint is on it", () => {
    expect(here({ target: "local" }, "http://127.0.0.1:4566")).toEqual(stacksOf("local"));
  });

  test("synthesizes the training machine for this machine when there is a stand-in for SageMaker", () => {
    const context = { target: "local", sagemakerEndpoint: "http://127.0.0.1:4570" };
    expect(here(context, "http://127.0.0.1:4566")).toEqual([...stacksOf("local"), "freshet-local-training"].sort());
  });

  test("synthesizes for this machine with a Valkey and a Kafka that are already there", () => {
    const kafka = { broker: "msk", bootstrapServers: "127.0.0.1:9092" };
    const context = { target: "local", valkeyHost: "valkey", valkeyPort: "6379", ...kafka };
    expect(here(context, "http://localhost:4566")).toEqual(stacksOf("local"));
  });

  test.each([
    [
      "Kafka without an address",
      { broker: "msk" },
      "no emulator has MSK; target local needs a Kafka that is already there",
    ],
    [
      "an address of Kafka with Kinesis",
      { bootstrapServers: "127.0.0.1:9092" },
      "bootstrapServers are Kafka's, and the broker is Kinesis",
    ],
    ["an emulator that nobody knows", { emulator: "moto" }, "no emulator moto; use ministack, localstack"],
  ])("refuses %s for this machine", (_, context, message) => {
    expect(() => here({ target: "local", ...context } as Record<string, string>, "http://127.0.0.1:4566")).toThrow(
      expect.objectContaining({ code: "context_invalid", message }),
    );
  });

  test.each([
    [
      "target local without an endpoint",
      { target: "local" },
      "endpoint_missing",
      "target local needs AWS_ENDPOINT_URL: without it a deployment goes to AWS",
    ],
    ["an unknown target", { target: "azure" }, "target_unknown", "no target azure; use aws, local"],
    ["an unknown stage", { stage: "test" }, "stage_unknown", "no stage test; use local, dev, prod"],
    [
      "the laptop's stage on AWS",
      { stage: "local" },
      "stage_unknown",
      "stage local is the laptop's; on AWS use dev or prod",
    ],
    [
      "a store by context on AWS",
      { valkeyHost: "cache.example.com" },
      "context_invalid",
      "valkeyHost is for target local; on AWS the app makes its own store",
    ],
    [
      "a Kafka by context on AWS",
      { broker: "msk", bootstrapServers: "kafka.example.com:9092" },
      "context_invalid",
      "bootstrapServers is for target local; on AWS the app makes its own cluster",
    ],
    [
      "a schema registry that is neither https nor Glue",
      { schemaRegistry: "registry.example.com" },
      "schema_registry_invalid",
      "a schema registry is an http address, or glue:<name>",
    ],
    [
      "credentials for Glue, which asks for none",
      { schemaRegistry: "glue:freshet", schemaRegistrySecret: "arn:aws:secretsmanager:…" },
      "context_invalid",
      "schemaRegistrySecret is for a registry with an https address",
    ],
    ["an unknown broker", { broker: "rabbit" }, "broker_unknown", "no broker rabbit; use kinesis, msk"],
    [
      "an unknown kind of cluster",
      { broker: "msk", mskCluster: "express" },
      "context_invalid",
      "no cluster of MSK is express; use serverless or provisioned",
    ],
  ])("refuses %s", (_, context: Record<string, string>, code, message) => {
    expect(() => here(context)).toThrow(expect.objectContaining({ code, message }));
  });

  test("refuses target local for an endpoint elsewhere", () => {
    const message = expect.stringContaining("target local deploys to this machine only");
    expect(() => here({ target: "local" }, "https://example.com")).toThrow(
      expect.objectContaining({ code: "endpoint_not_loopback", message }),
    );
  });
});

test("context is read in bin/synthesize.ts and nowhere else", () => {
  const sources = readdirSync(join(ROOT, "lib"), { recursive: true, encoding: "utf8" }).filter((file) =>
    file.endsWith(".ts"),
  );
  const reading = sources.filter((file) =>
    /tryGetContext|getContext\(/.test(readFileSync(join(ROOT, "lib", file), "utf8")),
  );
  expect(reading).toEqual([]);
});
