/** Commands with `--stage`: as against AWS, by stack outputs and the SDK's own settings, here with the emulator for AWS. */
import { spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PutRecordCommand } from "@aws-sdk/client-kinesis";
import { expect, it } from "vitest";
import { createKinesisClient } from "../../adapters/kinesis/client.ts";
import { ROOT } from "../../local/home.ts";
import { deployed } from "../support/deployed.ts";

const CLI = join(ROOT, "cli", "freshet.ts");

function freshet(args: readonly string[], environment: Record<string, string> = {}) {
  const result = spawnSync(process.execPath, [CLI, ...args], {
    encoding: "utf8",
    env: {
      PATH: process.env["PATH"],
      // No laptop runs there: whatever works, works by the variables below.
      FRESHET_HOME: join(tmpdir(), "freshet-none"),
      AWS_ENDPOINT_URL: deployed().emulator.url,
      AWS_REGION: "us-east-1",
      AWS_ACCESS_KEY_ID: "test",
      AWS_SECRET_ACCESS_KEY: "test",
      AWS_CONFIG_FILE: "/dev/null",
      AWS_SHARED_CREDENTIALS_FILE: "/dev/null",
      AWS_EC2_METADATA_DISABLED: "true",
      ...environment,
    },
  });
  return { code: result.status, out: result.stdout, err: result.stderr };
}

it("keys are made, listed and deleted in the stage's own table", async () => {
  const created = freshet([
    "keys",
    "create",
    "--stage",
    "local",
    "--tenant",
    "stage-team",
    "--scopes",
    "score",
    "--json",
  ]);
  expect(created).toMatchObject({ code: 0 });
  const { key, id } = JSON.parse(created.out);
  const answer = await fetch(`${deployed().serve.url}/v1/features/card/c1`, { headers: { "x-api-key": key } });
  expect([answer.status, ((await answer.json()) as { code: string }).code]).toEqual([403, "scope_missing"]);
  expect(freshet(["keys", "list", "--stage", "local"]).out).toContain("stage-team");
  expect(freshet(["keys", "revoke", id, "--stage", "local"])).toMatchObject({ code: 0 });
  expect(freshet(["keys", "list", "--stage", "local"]).out).not.toContain("stage-team");
});

it("status tells place, streams and the store's state by the control function", () => {
  const { code, out } = freshet(["status", "--stage", "local", "--json"]);
  expect(JSON.parse(out)).toMatchObject({
    stage: "local",
    place: "us-east-1, account 000000000000",
    streams: deployed().streams,
    store: { state: "ok", sentence: null, repair: null, seals_ms: { transactions: expect.any(Number) } },
  });
  expect(code).toBe(0);
  expect(freshet(["status", "--stage", "local"]).out).toMatch(
    /transactions +freshet-local-transactions, sealed up to 20/,
  );
});

it("recover asks the control function, and finds nothing to recover", () => {
  const { code, out, err } = freshet(["recover", "--stage", "local"]);
  expect([code, out]).toEqual([0, "the store is ok: nothing to recover\n"]);
  expect(err).toContain("stage local in us-east-1, account 000000000000");
});

it("plan compares its ids with those that the store was filled under", () => {
  const { code, err } = freshet(["plan", "--stage", "local"]);
  expect([code, err]).toEqual([0, "\nStage local: every id means what is stored there.\n"]);
});

it("logs are those of the stage's functions", () => {
  const { code, out } = freshet(["logs", "control", "--stage", "local", "--since", "1h"]);
  expect([code, out]).toEqual([0, expect.stringMatching(/^\S+ control .*"state":"ok"/m)]);
});

it("a stage that is not there, and an AWS that does not answer, are told with the repair", () => {
  expect(freshet(["recover", "--stage", "prod"])).toMatchObject({
    code: 1,
    err: expect.stringMatching(
      /there is no stack freshet-prod-\w+ in this account and region\n {2}repair: check --stage/,
    ),
  });
  const nobody = freshet(["keys", "list", "--stage", "local"], { AWS_ENDPOINT_URL: "http://127.0.0.1:9" });
  expect(nobody).toMatchObject({
    code: 1,
    err: expect.stringMatching(/AWS did not describe the stack .*\n {2}repair: set credentials and region/),
  });
});

it("quarantine counts, shows and drops what was refused; replay delivers a range again", async () => {
  const { emulator, streams } = deployed();
  const credentials = { accessKeyId: "test", secretAccessKey: "test" };
  const kinesis = createKinesisClient({ endpoint: emulator.url, region: "us-east-1", credentials });
  const Data = Buffer.from(`rubbish ${randomUUID()}`);
  await kinesis.send(new PutRecordCommand({ StreamName: streams["transactions"], PartitionKey: "p", Data }));
  kinesis.destroy();
  const list = () => {
    const { out } = freshet(["quarantine", "list", "--records", "--unattributed", "--stage", "local", "--json"]);
    return JSON.parse(out) as { id: string; size: number; reason: string }[];
  };
  const deadline = Date.now() + 120_000;
  const ours = () => list().find(({ size }) => size === Data.length);
  while (ours() === undefined && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 500));
  const { id, reason } = ours()!;
  expect(reason).toBe("not_single_object");
  const shown = JSON.parse(freshet(["quarantine", "show", id, "--stage", "local", "--json"]).out);
  expect(shown).toMatchObject({ tenant: null, payload: Data.toString("base64"), event: null });
  const changed = (kind: string) =>
    JSON.parse(freshet(["quarantine", kind, "--unattributed", "--id", id, "--stage", "local", "--json"]).out);
  expect(changed("replay")).toMatchObject({ replayed: 0, still_refused: 1 });
  expect(changed("drop")).toMatchObject({ dropped: 1 });
  expect(ours()).toBeUndefined();
  expect(freshet(["quarantine", "drop", "--stage", "local"])).toMatchObject({ code: 2 });
  const replay = ["replay", "--stream", "transactions", "--from", "1h", "--stage", "local", "--json"];
  const dry = JSON.parse(freshet([...replay, "--dry-run"]).out);
  expect(dry).toMatchObject({ dry_run: true, applied: 0 });
  expect(JSON.parse(freshet(replay).out)).toMatchObject({ dry_run: false, applied: 0 });
  expect(freshet(["replay", "--stream", "nope", "--from", "1h", "--stage", "local"])).toMatchObject({ code: 2 });
});
