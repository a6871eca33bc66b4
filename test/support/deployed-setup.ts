/** Global set-up of the system tests: one deployed emulator in a home of its own for the whole run. */
import { mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { TestProject } from "vitest/node";
import { endWithThisProcess } from "../../local/end-with-process.ts";
import { down, type UpOptions, up } from "../../local/laptop.ts";
import { describe } from "../../local/status.ts";
import { Steps } from "../../local/steps.ts";
import type { DeployedStatus } from "./deployed.ts";

declare module "vitest" {
  interface ProvidedContext {
    deployed: DeployedStatus;
  }
}

/** @returns what ends it again */
export async function deployForTests(
  project: TestProject,
  options: Omit<UpOptions, "steps" | "signal"> = {},
): Promise<() => Promise<void>> {
  // Beside the run's own folder, which goes with this process: whoever ends the runtime then finds it by its records.
  const home = realpathSync(mkdtempSync(join(dirname(tmpdir()), "freshet-system-")));
  const steps = new Steps();
  const controller = new AbortController();
  const guard = endWithThisProcess(home);
  const teardown = async (): Promise<void> => {
    guard.kill("SIGKILL");
    await down(home, steps);
    rmSync(home, { recursive: true, force: true });
  };
  try {
    await up(home, { ...options, steps, signal: controller.signal });
  } catch (error) {
    await teardown();
    throw error;
  }
  project.provide("deployed", describe(home) as unknown as DeployedStatus);
  return teardown;
}

export const setup = (project: TestProject): Promise<() => Promise<void>> => deployForTests(project);
