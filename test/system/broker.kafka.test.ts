/** The contract of brokers on Kafka, whose records the laptop's own mapping delivers. */
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { ROOT } from "../../local/home.ts";
import { serveEnvironment, serveUrl } from "../../local/parts.ts";
import { anyFreePort } from "../../local/ports.ts";
import { readState } from "../../local/state.ts";
import { deployed, killDeployedPart, startDeployedPart } from "../support/deployed.ts";
import { deployment, until } from "./app.ts";
import { type BrokerFault, brokerContract } from "./broker-contract.ts";

interface Health {
  readonly status: string;
  readonly partitions: readonly unknown[];
}

/** Partitions that a mapping has; 0 while it is no member. */
async function share(port: number): Promise<number> {
  const answer = await fetch(`${serveUrl(port)}/health`, { signal: AbortSignal.timeout(5_000) });
  const { status, partitions } = (await answer.json()) as Health;
  return status === "ok" ? partitions.length : 0;
}

/** Another member of the group, in a process of its own, as in a second container. */
async function secondMember(): Promise<{ child: ChildProcess; port: number }> {
  const port = await anyFreePort();
  const { emulator } = readState(deployed().home).ports as { emulator: number };
  const child = spawn(process.execPath, [join(ROOT, "cli", "freshet.ts"), "mapping", "--port", String(port)], {
    env: {
      ...serveEnvironment(emulator, deployment()),
      PATH: process.env["PATH"] ?? "",
      FRESHET_HOME: deployed().home,
    },
    stdio: "ignore",
  });
  return { child, port };
}

const own = (): number => readState(deployed().home).ports.mapping!;

const killedConsumers: BrokerFault = {
  name: "the consumers are killed in turn while their group divides the partitions anew",
  async strike(goesOn) {
    const { child, port } = await secondMember();
    try {
      await until("both to have partitions", async () => (await share(port)) > 0 && (await share(own())) > 0, 120_000);
      const all = (await share(port)) + (await share(own()));
      await goesOn();
      killDeployedPart("mapping");
      await until("the other to have all", async () => (await share(port)) === all, 120_000);
      await startDeployedPart("mapping");
      await until("both to have partitions again", async () => (await share(own())) > 0, 120_000);
      await goesOn();
      child.kill("SIGKILL");
      killDeployedPart("mapping");
      await startDeployedPart("mapping");
      await until("one to have all", async () => (await share(own())) === all, 120_000);
    } finally {
      child.kill("SIGKILL");
    }
  },
};

const killedBroker: BrokerFault = {
  name: "the broker is killed twice and comes back",
  async strike(goesOn) {
    for (let kills = 0; kills < 2; kills++) {
      killDeployedPart("kafka");
      await startDeployedPart("kafka");
      await goesOn();
    }
  },
};

const killedBoth: BrokerFault = {
  name: "the broker and the consumer are killed at the same time",
  async strike(goesOn) {
    killDeployedPart("kafka");
    killDeployedPart("mapping");
    await startDeployedPart("kafka");
    await startDeployedPart("mapping");
    await goesOn();
  },
};

brokerContract("Kafka", [killedConsumers, killedBroker, killedBoth]);
