import { rmSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { localCdkEnvironment } from "../lib/local-guard.ts";
import { homeFolder, ROOT, venvPython } from "./home.ts";
import { LOOPBACK } from "./ports.ts";
import type { ProcessSpec } from "./processes.ts";

export function emulatorUrl(port: number): string {
  return `http://${LOOPBACK}:${port}`;
}

/** Node 24 of the checkout before the machine's own: the emulator runs functions with the first `node` it finds. */
export function toolPath(): string {
  return [join(ROOT, "node_modules", ".bin"), process.env["PATH"] ?? ""].join(delimiter);
}

/** What a client needs to reach the emulator, and to reach nothing else. */
export function emulatorClientEnvironment(port: number): Record<string, string> {
  return localCdkEnvironment({}, emulatorUrl(port));
}

/**
 * MiniStack under the home. Its environment reaches every Lambda function, so it holds only what is named here. Its
 * temporary files lie in the home too and are made anew, since functions are unpacked there.
 */
export function emulatorProcess(home: string, ports: { emulator: number; valkey: number }): ProcessSpec {
  const folder = homeFolder(home, "emulator");
  rmSync(join(folder, "tmp"), { recursive: true, force: true });
  const temporary = homeFolder(folder, "tmp");
  // The emulator's worker script is CommonJS; without this the checkout's package.json would make it an ES module.
  writeFileSync(join(temporary, "package.json"), '{ "type": "commonjs" }\n');
  return {
    name: "emulator",
    command: venvPython(),
    args: [join(ROOT, "local", "emulator", "run.py")],
    cwd: folder,
    env: {
      PATH: toolPath(),
      HOME: temporary,
      TMPDIR: temporary,
      LC_ALL: "C.UTF-8",
      PYTHONUNBUFFERED: "1",
      GATEWAY_PORT: String(ports.emulator),
      BIND_HOST: LOOPBACK,
      STATE_DIR: homeFolder(folder, "state"),
      S3_DATA_DIR: homeFolder(folder, "s3"),
      PERSIST_STATE: "1",
      S3_PERSIST: "1",
      // Every cache cluster it creates answers with this address.
      REDIS_HOST: LOOPBACK,
      REDIS_PORT: String(ports.valkey),
      LAMBDA_EXECUTOR: "local",
      // Listeners on fixed ports that nothing here uses and that a second checkout could not have.
      IOT_MTLS_ENABLED: "0",
      SFTP_ENABLED: "0",
      // Dockerless, even where a daemon runs.
      DOCKER_HOST: `unix://${join(temporary, "no-docker")}`,
      LOG_LEVEL: "WARNING",
      AWS_ACCESS_KEY_ID: "test",
      AWS_SECRET_ACCESS_KEY: "test",
    },
  };
}

export async function pingEmulator(port: number, timeoutMs = 2_000): Promise<boolean> {
  const answer = await fetch(`${emulatorUrl(port)}/_ministack/ready`, { signal: AbortSignal.timeout(timeoutMs) });
  await answer.body?.cancel();
  return answer.ok;
}
