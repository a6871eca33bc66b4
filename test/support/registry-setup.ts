/** Global set-up of the tests on a real schema registry: one for the whole run, which tests may end and start again. */
import { mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { endWithThisProcess } from "../../local/end-with-process.ts";
import { anyFreePort } from "../../local/ports.ts";
import { startProcess, stopProcess, waitUntilReady } from "../../local/processes.ts";
import { registryAnswers, registryProcess } from "./apicurio.ts";

declare module "vitest" {
  interface ProvidedContext {
    schemaRegistry: { readonly home: string; readonly port: number };
  }
}

export async function startRegistry({ home, port }: { readonly home: string; readonly port: number }): Promise<void> {
  const record = await startProcess(home, await registryProcess(home, port));
  await waitUntilReady(home, record, () => registryAnswers(port), { timeoutMs: 120_000 });
}

export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const home = realpathSync(mkdtempSync(join(tmpdir(), "freshet-registry-")));
  const guard = endWithThisProcess(home);
  const teardown = async (): Promise<void> => {
    guard.kill("SIGKILL");
    await stopProcess(home, "schema-registry", 5_000);
    rmSync(home, { recursive: true, force: true });
  };
  try {
    const given = { home, port: await anyFreePort() };
    await startRegistry(given);
    project.provide("schemaRegistry", given);
  } catch (error) {
    await teardown();
    throw error;
  }
  return teardown;
}
