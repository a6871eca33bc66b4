import { readlinkSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { up } from "../../../local/laptop.ts";
import { PARTS_FOLDER } from "../../../local/localstack/install.ts";
import { localStackProcess } from "../../../local/localstack/process.ts";
import { anyFreePort } from "../../../local/ports.ts";
import { updateState } from "../../../local/state.ts";
import { Steps } from "../../../local/steps.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";

afterEach(() => {
  vi.unstubAllEnvs();
});
const options = () => ({ steps: new Steps(), signal: new AbortController().signal });

describe("LocalStack's process", () => {
  it("listens on loopback, asks no network, and keeps everything in the home but what is installed", () => {
    const home = temporaryFolder();
    const { env, cwd } = localStackProcess(home, { emulator: 20_001 });
    expect(env).toMatchObject({
      GATEWAY_LISTEN: "127.0.0.1:20001",
      DISABLE_EVENTS: "1",
      SKIP_SSL_CERT_DOWNLOAD: "1",
      DNS_ADDRESS: "0",
      DDB_LOCAL_TELEMETRY: "0",
    });
    for (const folder of [cwd, env["HOME"], env["TMPDIR"], env["FILESYSTEM_ROOT"]]) {
      expect(folder.startsWith(home)).toBe(true);
    }
    expect(readlinkSync(join(env["FILESYSTEM_ROOT"], "var", "lib", "localstack", "lib"))).toBe(PARTS_FOLDER);
  });

  it("gets nothing of the user's environment but the path", () => {
    vi.stubEnv("AWS_PROFILE", "production");
    vi.stubEnv("SECRET_OF_THE_USER", "s3cret");
    const { env } = localStackProcess(temporaryFolder(), { emulator: 1 });
    expect(JSON.stringify(env)).not.toContain("s3cret");
    expect(env).not.toHaveProperty("AWS_PROFILE");
  });
});

describe("a home", () => {
  it("that is deployed to one emulator takes no other", async () => {
    const home = temporaryFolder();
    const deployment = { sourceHash: "", deployedAtMs: 0, stacks: [], apiUrl: "", environment: {}, streams: {} };
    updateState(home, { deployment: { ...deployment, controlFunction: "" } });
    await expect(up(home, { ...options(), emulator: "localstack" })).rejects.toMatchObject({
      code: "emulator_fixed",
      message: "this home is deployed to ministack already, asked for localstack",
    });
  });

  it("whose emulator is in Docker says how that is started", async () => {
    const port = await anyFreePort();
    const wanted = { valkey: port, emulator: port };
    await expect(up(temporaryFolder(), { ...options(), emulator: "localstack-docker", wanted })).rejects.toMatchObject({
      code: "not_ready",
      message: `valkey does not answer on port ${port}`,
      repair: expect.stringContaining("docker compose -f docker-compose.localstack.yml up --wait"),
    });
  });
});
