/** The app as the CDK CLI runs it: `node bin/freshet.ts`, context and output folder in the environment. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";

const ROOT = join(import.meta.dirname, "..", "..");
const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

function run(context: Record<string, string>, environment: Record<string, string> = {}) {
  const outdir = mkdtempSync(join(tmpdir(), "freshet-synth-"));
  folders.push(outdir);
  const { context: flags } = JSON.parse(readFileSync(join(ROOT, "cdk.json"), "utf8"));
  const { status, stderr } = spawnSync(process.execPath, ["bin/freshet.ts"], {
    cwd: ROOT,
    encoding: "utf8",
    env: {
      PATH: process.env["PATH"],
      CDK_OUTDIR: outdir,
      CDK_CONTEXT_JSON: JSON.stringify({ ...flags, ...context }),
      ...environment,
    },
  });
  const stacks = readdirSync(outdir).flatMap((file) => /^(.*)\.template\.json$/.exec(file)?.[1] ?? []);
  return { status, stderr, stacks: stacks.sort() };
}

const stacksOf = (stage: string) =>
  ["aggregation", "ingest", "monitoring", "offline", "online-store", "serving", "storage", "streams"].map(
    (name) => `freshet-${stage}-${name}`,
  );

// Each bundles every function, in a process of its own.
describe("the app", { timeout: 300_000 }, () => {
  test("synthesizes for AWS, stage dev, when nothing is said", () => {
    const { status, stderr, stacks } = run({});
    expect([status, stderr]).toEqual([0, ""]);
    expect(stacks).toEqual([...stacksOf("dev"), "freshet-dev-training"].sort());
  });

  test("synthesizes for this machine when the endpoint is on it", () => {
    const { status, stderr, stacks } = run({ target: "local" }, { AWS_ENDPOINT_URL: "http://127.0.0.1:4566" });
    expect([status, stderr]).toEqual([0, ""]);
    expect(stacks).toEqual(stacksOf("local"));
  });

  test("synthesizes the training machine for this machine when there is a stand-in for SageMaker", () => {
    const context = { target: "local", sagemakerEndpoint: "http://127.0.0.1:4570" };
    const { status, stderr, stacks } = run(context, { AWS_ENDPOINT_URL: "http://127.0.0.1:4566" });
    expect([status, stderr]).toEqual([0, ""]);
    expect(stacks).toEqual([...stacksOf("local"), "freshet-local-training"].sort());
  });

  test("synthesizes for this machine with a Valkey and a Kafka that are already there", () => {
    const kafka = { broker: "msk", bootstrapServers: "127.0.0.1:9092" };
    const context = { target: "local", valkeyHost: "valkey", valkeyPort: "6379", ...kafka };
    const { status, stderr, stacks } = run(context, { AWS_ENDPOINT_URL: "http://localhost:4566" });
    expect([status, stderr]).toEqual([0, ""]);
    expect(stacks).toEqual(stacksOf("local"));
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
  ])("refuses %s for this machine", (_, context, message) => {
    const given = { target: "local", ...context };
    const { status, stderr } = run(given, { AWS_ENDPOINT_URL: "http://127.0.0.1:4566" });
    expect(status).toBe(1);
    expect(stderr).toContain(`context_invalid: ${message}`);
  });

  test.each([
    [
      "target local without an endpoint",
      { target: "local" },
      "endpoint_missing: target local needs AWS_ENDPOINT_URL: without it a deployment goes to AWS",
    ],
    ["an unknown target", { target: "azure" }, "target_unknown: no target azure; use aws, local"],
    ["an unknown stage", { stage: "test" }, "stage_unknown: no stage test; use local, dev, prod"],
    [
      "the laptop's stage on AWS",
      { stage: "local" },
      "stage_unknown: stage local is the laptop's; on AWS use dev or prod",
    ],
    [
      "a store by context on AWS",
      { valkeyHost: "cache.example.com" },
      "context_invalid: valkeyHost is for target local; on AWS the app makes its own store",
    ],
    [
      "a Kafka by context on AWS",
      { broker: "msk", bootstrapServers: "kafka.example.com:9092" },
      "context_invalid: bootstrapServers is for target local; on AWS the app makes its own cluster",
    ],
    ["an unknown broker", { broker: "rabbit" }, "broker_unknown: no broker rabbit; use kinesis, msk"],
    [
      "an unknown kind of cluster",
      { broker: "msk", mskCluster: "express" },
      "context_invalid: no cluster of MSK is express; use serverless or provisioned",
    ],
  ])("refuses %s with a message and no stack trace", (_, context, message) => {
    const { status, stderr, stacks } = run(context);
    expect([status, stacks]).toEqual([1, []]);
    expect(stderr).toContain(message);
    expect(stderr).not.toMatch(/^\s+at /m);
  });

  test("refuses target local for an endpoint elsewhere", () => {
    const { status, stderr } = run({ target: "local" }, { AWS_ENDPOINT_URL: "https://example.com" });
    expect(status).toBe(1);
    expect(stderr).toContain("endpoint_not_loopback: target local deploys to this machine only");
  });
});

test("context is read in bin/freshet.ts and nowhere else", () => {
  const sources = readdirSync(join(ROOT, "lib"), { recursive: true, encoding: "utf8" }).filter((file) =>
    file.endsWith(".ts"),
  );
  const reading = sources.filter((file) =>
    /tryGetContext|getContext\(/.test(readFileSync(join(ROOT, "lib", file), "utf8")),
  );
  expect(reading).toEqual([]);
});
