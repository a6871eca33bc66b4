/** Global set-up of the tests on Kafka: one node for the whole run. Tests keep apart by topic, and by consumer group. */
import { mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Admin } from "@platformatic/kafka";
import type { TestProject } from "vitest/node";
import { endWithThisProcess } from "../../local/end-with-process.ts";
import { bootstrapOf, kafkaProcess } from "../../local/kafka/broker.ts";
import { anyFreePort } from "../../local/ports.ts";
import { startProcess, stopProcess, waitUntilReady } from "../../local/processes.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** `host:port` of the node. */
    kafka: string;
  }
}

export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const home = realpathSync(mkdtempSync(join(tmpdir(), "freshet-kafka-")));
  const guard = endWithThisProcess(home);
  const teardown = async (): Promise<void> => {
    guard.kill("SIGKILL");
    await stopProcess(home, "kafka", 20_000);
    rmSync(home, { recursive: true, force: true });
  };
  try {
    const ports = { kafka: await anyFreePort(), kafkaController: await anyFreePort() };
    const record = await startProcess(home, await kafkaProcess(home, ports));
    const bootstrap = bootstrapOf(ports.kafka);
    await waitUntilReady(home, record, () => answers(bootstrap), { timeoutMs: 120_000 });
    project.provide("kafka", bootstrap);
  } catch (error) {
    await teardown();
    throw error;
  }
  return teardown;
}

async function answers(bootstrap: string): Promise<boolean> {
  const admin = new Admin({ clientId: "test", bootstrapBrokers: [bootstrap], retries: 0 });
  try {
    return (await admin.metadata({ topics: [] })).brokers.size > 0;
  } finally {
    await admin.close();
  }
}
