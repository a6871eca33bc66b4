/** Global set-up of the system tests: one deployed emulator in a home of its own for the whole run. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, realpathSync, rmSync } from "node:fs";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { ROOT } from "../../local/home.ts";
import { down, up } from "../../local/laptop.ts";
import { describe } from "../../local/status.ts";
import { Steps } from "../../local/steps.ts";
import type { DeployedStatus } from "./deployed.ts";

const CLI = join(ROOT, "cli", "freshet.ts");

declare module "vitest" {
  interface ProvidedContext {
    deployed: DeployedStatus;
  }
}

export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const home = realpathSync(mkdtempSync(join(tmpdir(), "freshet-system-")));
  const steps = new Steps();
  const controller = new AbortController();
  const guard = endWithThisProcess(home);
  const teardown = async (): Promise<void> => {
    guard.kill("SIGKILL");
    await down(home, steps);
    rmSync(home, { recursive: true, force: true });
  };
  try {
    await up(home, { steps, signal: controller.signal });
  } catch (error) {
    await teardown();
    throw error;
  }
  project.provide("deployed", describe(home) as unknown as DeployedStatus);
  return teardown;
}

/** Ends the runtime when the test runner is gone without its teardown: the shell waits at a pipe that closes with us. */
function endWithThisProcess(home: string): ChildProcess {
  const guard = spawn("/bin/sh", ["-c", 'read _; "$0" "$1" down; rm -rf "$FRESHET_HOME"', process.execPath, CLI], {
    env: { ...process.env, FRESHET_HOME: home },
    stdio: ["pipe", "ignore", "ignore"],
    detached: true,
  });
  guard.unref();
  (guard.stdin as Socket).unref();
  return guard;
}
