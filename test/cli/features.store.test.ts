/** `freshet features` as a process against a server on a real Valkey, registry and archive, by address and key as for a stage. */
import { spawn } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { FeatureRegistry } from "../../adapters/pushed/feature-registry.ts";
import { ValuesArchive } from "../../adapters/pushed/values-archive.ts";
import { isEpochChange } from "../../adapters/valkey/applier.ts";
import { createReader } from "../../adapters/valkey/reader.ts";
import { createKey } from "../../functions/api/keys/keys.ts";
import { createPushStore } from "../../functions/api/registered/pusher.ts";
import { listen, type RunningServer } from "../../functions/api/server.ts";
import { ROOT } from "../../local/home.ts";
import { plan, testDependencies } from "../functions/api/doubles.ts";
import { createBucket, createTable, startEmulator, type TestEmulator, testClients } from "../harness/emulator.ts";
import { openStore, type TestStore } from "../support/store.ts";
import { startValkey, type TestValkey } from "../support/valkey.ts";

const CLI = join(ROOT, "cli", "freshet.ts");
let valkey: TestValkey;
let store: TestStore;
let emulator: TestEmulator;
let server: RunningServer;
let key: string;

beforeAll(async () => {
  [valkey, emulator] = await Promise.all([startValkey(), startEmulator()]);
  await Promise.all([createBucket(emulator.url, "archive"), createTable(emulator.url, "features")]);
  store = await openStore(plan, valkey, Math.floor(Date.now() / 60_000) * 60_000 - 15 * 60_000);
  const { dependencies, keys } = testDependencies();
  key = (await createKey(keys, { tenant: "team-a", scopes: ["admin", "read", "write"], nowMs: 0 })).key;
  const { s3, dynamodb } = testClients(emulator.url);
  const pushed = {
    registry: new FeatureRegistry({ table: "features", dynamodb }),
    store: createPushStore(async () => store.applier, isEpochChange),
    archive: new ValuesArchive({ s3, bucket: "archive" }),
    close: async () => {},
  };
  server = await listen({
    port: 0,
    dependencies: { ...dependencies, reader: createReader(plan, { ...valkey, timeoutMs: 20_000 }), pushed },
  });
});
afterAll(async () => {
  await server?.close();
  await store?.connection.close();
  await Promise.all([valkey?.stop(), emulator?.stop()]);
});

function freshet(args: readonly string[], environment: Record<string, string> = { FRESHET_API_KEY: key }) {
  return new Promise<{ code: number | null; out: string; err: string }>((resolve) => {
    // No laptop runs there: whatever works, works by address and key.
    const env = { PATH: process.env["PATH"], FRESHET_HOME: join(tmpdir(), "freshet-none"), ...environment };
    const child = spawn(process.execPath, [CLI, "features", ...args], { env });
    let [out, err] = ["", ""];
    child.stdout.on("data", (chunk) => {
      out += chunk;
    });
    child.stderr.on("data", (chunk) => {
      err += chunk;
    });
    child.on("close", (code) => resolve({ code, out, err }));
  });
}
const at = () => ["--url", `${server.url}/`];

it("registers a feature, pushes a value of it, and finds it in the catalogue", async () => {
  const registered = await freshet([
    ...["register", "profile:age", "--entity", "card", "--dtype", "double", "--unit", "years", "--owner", "risk"],
    ...["--description", "Age of the holder", "--ttl", "30d", ...at()],
  ]);
  expect(registered).toEqual({ code: 0, out: "profile:age@1 created\n", err: "" });
  const pushed = await freshet(["push", "c1", "profile:age=41.5", ...at()]);
  expect(pushed).toEqual({ code: 0, out: "1 pushed\n", err: "" });
  const read = await fetch(`${server.url}/v1/features/online`, {
    method: "POST",
    headers: { "x-api-key": key, "content-type": "application/json" },
    body: JSON.stringify({ entities: { card_id: "c1" }, features: ["profile:age"] }),
  });
  expect(JSON.stringify(await read.json())).toContain("41.5");
  const listed = await freshet(["list", "holder", "--kind", "pushed", ...at()]);
  expect([listed.code, listed.out]).toEqual([0, expect.stringMatching(/profile:age +card +pushed +double \(years\)/)]);
  const shown = await freshet(["show", "profile:age", ...at()]);
  expect(JSON.parse(shown.out)).toMatchObject({ name: "profile:age", owner: "risk", ttl_ms: 30 * 86_400_000 });
}, 120_000);

it("tells what the API refuses, and what it needs for a stage", async () => {
  const unknown = await freshet(["push", "c1", "profile:agee=1", ...at()]);
  expect([unknown.code, unknown.err]).toEqual([1, expect.stringContaining('no feature "profile:agee" is registered')]);
  const keyless = await freshet(["list", "--stage", "prod"], {});
  expect([keyless.code, keyless.err]).toEqual([
    1,
    expect.stringMatching(/FRESHET_API_KEY is not set.*\n {2}repair: make one with freshet keys create/),
  ]);
  const nobody = await freshet(["list", "--url", "http://127.0.0.1:9"]);
  expect([nobody.code, nobody.err]).toEqual([1, expect.stringContaining("no answer from http://127.0.0.1:9/v1")]);
}, 120_000);
