/**
 * `make localstack`: LocalStack and Valkey as docker-compose.localstack.yml has them, the app deployed to them by cdklocal, and one
 * event, one feature and one score through it. What is deployed stays; `docker compose … down` ends it.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { FreshetError } from "../../core/errors.ts";
import { freshetHome, homeFolder, ROOT } from "../home.ts";
import { interruptible } from "../interrupt.ts";
import { up } from "../laptop.ts";
import { describe } from "../status.ts";
import { Steps } from "../steps.ts";
import { smoke } from "./smoke.ts";

const COMPOSE = ["compose", "--file", join(ROOT, "docker-compose.localstack.yml")];

/** @throws FreshetError `docker_missing` */
function requireDocker(): void {
  const { status } = spawnSync("docker", ["info"], { stdio: "ignore", timeout: 30_000 });
  if (status === 0) return;
  throw new FreshetError("docker_missing", "no Docker engine answers here", {
    repair: "start Docker, or run `make test-localstack`, which needs none",
  });
}

try {
  requireDocker();
  const { status } = spawnSync("docker", [...COMPOSE, "up", "--wait"], { stdio: "inherit" });
  if (status !== 0) process.exit(1);
  // A home of its own: the laptop's may be up beside it.
  const home = process.env["FRESHET_HOME"] ? freshetHome() : homeFolder(freshetHome(), "localstack-docker");
  const steps = new Steps();
  await interruptible((signal) => up(home, { emulator: "localstack-docker", redeploy: true, steps, signal }));
  const { api } = describe(home) as { api: { url: string; key: string } };
  await steps.step("smoke: event, feature, score", () => smoke(api));
  process.stdout.write(`\n  API   ${api.url}\n  key   ${api.key}\n\n`);
  process.stdout.write(`  FRESHET_HOME=${home} npm run -s freshet -- status\n  docker ${COMPOSE.join(" ")} down\n`);
} catch (error) {
  if (!(error instanceof FreshetError)) throw error;
  process.stderr.write(`\nfreshet: ${error.message}\n  repair: ${error.repair ?? "-"}\n`);
  process.exitCode = 1;
}
