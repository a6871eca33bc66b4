import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { emulatorClientEnvironment, emulatorProcess } from "../../local/emulator.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

afterEach(() => {
  vi.unstubAllEnvs();
});

describe("the emulator's process", () => {
  it("gets nothing of the user's environment but the path, since functions see all of it", () => {
    vi.stubEnv("AWS_PROFILE", "production");
    vi.stubEnv("AWS_ENDPOINT_URL", "https://example.com");
    vi.stubEnv("SECRET_OF_THE_USER", "s3cret");
    const { env } = emulatorProcess(temporaryFolder(), { emulator: 1, valkey: 2 });
    expect(JSON.stringify(env)).not.toContain("s3cret");
    expect(env).not.toHaveProperty("AWS_PROFILE");
    expect(env).not.toHaveProperty("AWS_ENDPOINT_URL");
  });

  it("listens on loopback alone, opens no other port, and keeps everything in the home", () => {
    const home = temporaryFolder();
    const { env, cwd } = emulatorProcess(home, { emulator: 20_001, valkey: 20_002 });
    expect(env).toMatchObject({
      BIND_HOST: "127.0.0.1",
      GATEWAY_PORT: "20001",
      REDIS_HOST: "127.0.0.1",
      REDIS_PORT: "20002",
      IOT_MTLS_ENABLED: "0",
      SFTP_ENABLED: "0",
      PERSIST_STATE: "1",
      S3_PERSIST: "1",
    });
    for (const folder of [cwd, env["HOME"], env["TMPDIR"], env["STATE_DIR"], env["S3_DATA_DIR"]]) {
      expect(folder.startsWith(home)).toBe(true);
    }
  });

  it("runs functions on the checkout's Node, and its own scripts as CommonJS", () => {
    const home = temporaryFolder();
    const { env } = emulatorProcess(home, { emulator: 1, valkey: 2 });
    expect(env["PATH"].split(":")[0]).toMatch(/node_modules\/\.bin$/);
    expect(JSON.parse(readFileSync(join(env["TMPDIR"], "package.json"), "utf8"))).toEqual({ type: "commonjs" });
  });

  it("is the only thing its clients can reach", () => {
    vi.stubEnv("AWS_PROFILE", "production");
    expect(emulatorClientEnvironment(20_001)).toMatchObject({
      AWS_ENDPOINT_URL: "http://127.0.0.1:20001",
      AWS_ENDPOINT_URL_S3: "http://127.0.0.1:20001",
      AWS_CONFIG_FILE: "/dev/null",
      AWS_SHARED_CREDENTIALS_FILE: "/dev/null",
      AWS_EC2_METADATA_DISABLED: "true",
    });
    expect(emulatorClientEnvironment(20_001)).not.toHaveProperty("AWS_PROFILE");
  });
});
