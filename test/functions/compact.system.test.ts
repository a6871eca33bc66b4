/** History into the archive by the command, and compaction by the deployed function, whose bundle holds DuckDB. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { InvokeCommand, LambdaClient } from "@aws-sdk/client-lambda";
import { ListObjectsV2Command } from "@aws-sdk/client-s3";
import { afterAll, beforeAll, expect, it } from "vitest";
import { s3Client } from "../../adapters/s3/client.ts";
import { ENVIRONMENT } from "../../functions/shared/environment.ts";
import { ROOT } from "../../local/home.ts";
import { deployed, deployedClientConfig } from "../support/deployed.ts";

const TENANT = "compact-system";
const STREAM = "feature_events";
const START_MS = Date.UTC(2026, 5, 1);
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "freshet-compact-system-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function keys(kind: string): Promise<string[]> {
  const s3 = s3Client(deployedClientConfig());
  const Bucket = deployed().environment[ENVIRONMENT.archiveBucket];
  const { Contents = [] } = await s3.send(new ListObjectsV2Command({ Bucket, Prefix: `${kind}/tenant=${TENANT}/` }));
  return Contents.map(({ Key }) => Key!);
}

it("imported history becomes one Parquet object for each hour of event time", async () => {
  const rows = Array.from({ length: 90 }, (_, minute) =>
    JSON.stringify({
      event_id: `e${minute}`,
      entity_id: "one",
      event_type: "measured",
      value: minute,
      timestamp: START_MS + minute * 60_000,
      metadata: {},
    }),
  );
  const file = join(folder, "events.ndjson");
  writeFileSync(file, rows.join("\n"));
  const imported = spawnSync(
    process.execPath,
    [join(ROOT, "cli", "freshet.ts"), "import", file, "--stream", STREAM, "--tenant", TENANT, "--json"],
    { encoding: "utf8", env: { ...process.env, FRESHET_HOME: deployed().home } },
  );
  expect([imported.status, imported.stderr]).toEqual([0, ""]);
  expect(JSON.parse(imported.stdout)).toMatchObject({ rows: 90, bad: 0, imported: 90, late: 0, objects: 2 });

  // By its schedule it takes all streams, of all that other tests have written.
  const Payload = JSON.stringify({ stream: STREAM });
  const lambda = new LambdaClient({ ...deployedClientConfig(), requestHandler: { requestTimeout: 240_000 } });
  const answer = await lambda.send(new InvokeCommand({ FunctionName: "freshet-local-compact", Payload }));
  const payload = JSON.parse(answer.Payload!.transformToString());
  expect([answer.FunctionError, payload]).toMatchObject([undefined, { [STREAM]: { corrupt: 0 } }]);
  expect((await keys("compacted")).map((key) => key.slice(0, key.lastIndexOf("/")))).toEqual(
    ["00", "01"].map((hour) => `compacted/tenant=${TENANT}/stream=${STREAM}/dt=2026-06-01/hh=${hour}`),
  );
});
