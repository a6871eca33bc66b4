/** The processes of the laptop runtime: how each is started, and when it is ready. */
import { join } from "node:path";
import { FreshetError } from "../core/errors.ts";
import { ENVIRONMENT } from "../functions/shared/environment.ts";
import { emulatorClientEnvironment, toolPath } from "./emulator.ts";
import { emulatorOf } from "./emulator-kinds.ts";
import { homeFolder, ROOT } from "./home.ts";
import { type KafkaPorts, kafkaProcess } from "./kafka/broker.ts";
import { pingKafka } from "./kafka/topics.ts";
import { LOOPBACK } from "./ports.ts";
import {
  type ProcessSpec,
  readRecord,
  type StopResult,
  startProcess,
  stopProcess,
  waitUntilReady,
} from "./processes.ts";
import { type Deployment, type LaptopPorts, type LaptopState, updateState } from "./state.ts";
import { pingValkey, valkeyProcess } from "./valkey.ts";

const START_TIMEOUT_MS = 60_000;
/** The emulator saves its state while it ends, which takes a second, and on a busy machine twenty times that. */
export const GRACE_MS: Readonly<Record<PartName, number>> = {
  serve: 5_000,
  // What is in flight is waited for.
  mapping: 20_000,
  emulator: 60_000,
  kafka: 20_000,
  valkey: 15_000,
};
/** Those that use others end before them. */
export const PARTS = ["serve", "mapping", "emulator", "kafka", "valkey"] as const;
export type PartName = (typeof PARTS)[number];
const OF_KAFKA: readonly PartName[] = ["kafka", "mapping"];

/** Those that a home has by the broker that it has. */
export const partsOf = ({ broker }: Pick<LaptopState, "broker">): PartName[] =>
  PARTS.filter((name) => broker === "kafka" || !OF_KAFKA.includes(name));

/** The consumer group that takes events to the aggregate function. */
export const MAPPING_GROUP = "freshet-aggregate";

/**
 * Starts one part that does not run and waits until it answers.
 * @param options.deployment needed by `serve` and `mapping`
 */
export async function startPart(
  home: string,
  name: PartName,
  ports: LaptopPorts,
  options: { deployment?: Deployment; signal?: AbortSignal } = {},
): Promise<void> {
  // A record that is still there is that of a crash: a store that crashed may lack its newest writes.
  if (name === "valkey" && readRecord(home, name) !== null) updateState(home, { storeWhole: false });
  // Workers of a crashed predecessor may still hold its port.
  await stopPart(home, name);
  updateState(home, { cleanShutdown: false });
  const { spec, probe } = await part(home, name, ports, options);
  const record = await startProcess(home, spec);
  await waitUntilReady(home, record, () => probe(record.pid), { timeoutMs: START_TIMEOUT_MS, signal: options.signal });
}

/** Whether a part is started and ended by somebody else. */
export const isExternal = (home: string, name: PartName): boolean =>
  (name === "valkey" || name === "emulator") && emulatorOf(home).external !== undefined;

/** @throws FreshetError `not_ready` when a part that somebody else was to start does not answer */
export async function requireAnswer(home: string, name: PartName, ports: LaptopPorts): Promise<void> {
  const ping = name === "valkey" ? pingValkey(ports.valkey) : emulatorOf(home).ping(ports.emulator);
  if (await ping.catch(() => false)) return;
  throw new FreshetError("not_ready", `${name} does not answer on port ${ports[name as "valkey" | "emulator"]}`, {
    repair: "run `docker compose -f docker-compose.localstack.yml up --wait`",
  });
}

/** Ends one part as `down` does. */
export async function stopPart(home: string, name: PartName): Promise<StopResult> {
  const result = await stopProcess(home, name, GRACE_MS[name]);
  if (name === "emulator") emulatorOf(home).endLeft?.(home);
  return result;
}

async function part(
  home: string,
  name: PartName,
  ports: LaptopPorts,
  { deployment, signal }: { deployment?: Deployment; signal?: AbortSignal },
): Promise<{ spec: ProcessSpec; probe: (pid: number) => Promise<boolean> }> {
  switch (name) {
    case "valkey": {
      const spec = valkeyProcess({ port: ports.valkey, dir: join(home, "valkey") });
      return { spec, probe: (pid) => pingValkey(ports.valkey, pid) };
    }
    case "emulator": {
      const emulator = emulatorOf(home);
      return { spec: emulator.process(home, ports), probe: () => emulator.ping(ports.emulator) };
    }
    case "kafka": {
      const spec = await kafkaProcess(home, ports as KafkaPorts, signal);
      return { spec, probe: () => pingKafka(ports.kafka!) };
    }
    case "mapping": {
      if (deployment === undefined) throw notDeployed(name);
      const spec = mappingProcess(home, ports, deployment);
      return { spec, probe: () => pingHttp(`${serveUrl(ports.mapping!)}/health`) };
    }
    case "serve": {
      if (deployment === undefined) throw notDeployed(name);
      return { spec: serveProcess(home, ports, deployment), probe: () => pingHttp(`${serveUrl(ports.serve)}/health`) };
    }
  }
}

const BUDGETS: readonly string[] = [ENVIRONMENT.readBudgetMs, ENVIRONMENT.storeBudgetMs];

const notDeployed = (name: PartName): FreshetError =>
  new FreshetError("not_deployed", `${name} needs a deployment`, { repair: "run `make up`" });

export function serveUrl(port: number): string {
  return `http://${LOOPBACK}:${port}`;
}

export function valkeyUrl(port: number): string {
  return `redis://${LOOPBACK}:${port}`;
}

/**
 * The environment of the API where it runs as a plain server beside the emulator. It keeps the budgets of a read that it has by itself, which
 * are those of production: the emulator's functions have longer ones, since every call of them waits for the emulator.
 */
export function serveEnvironment(emulatorPort: number, { environment }: Deployment): Record<string, string> {
  const kept = Object.entries(environment).filter(([name]) => !BUDGETS.includes(name));
  return { ...Object.fromEntries(kept), ...emulatorClientEnvironment(emulatorPort) };
}

export function serveProcess(home: string, ports: LaptopPorts, deployment: Deployment): ProcessSpec {
  return freshetProcess(home, "serve", ["--port", String(ports.serve), "--host", LOOPBACK], ports, deployment);
}

/** Under a name: after a crash it goes on at once, without being missed first. */
function mappingProcess(home: string, ports: LaptopPorts, deployment: Deployment): ProcessSpec {
  const args = ["--port", String(ports.mapping), "--host", LOOPBACK, "--instance", "laptop"];
  const spec = freshetProcess(home, "mapping", args, ports, deployment);
  // What it logs is the aggregate function's.
  return { ...spec, env: { ...spec.env, POWERTOOLS_SERVICE_NAME: "aggregate" } };
}

/** A command of ours that runs as long as the laptop does. */
function freshetProcess(
  home: string,
  name: "serve" | "mapping",
  args: readonly string[],
  ports: LaptopPorts,
  deployment: Deployment,
): ProcessSpec {
  return {
    name,
    command: join(ROOT, "node_modules", ".bin", "node"),
    args: [join(ROOT, "cli", "freshet.ts"), name, ...args],
    cwd: homeFolder(home),
    env: {
      PATH: toolPath(),
      LC_ALL: "C.UTF-8",
      FRESHET_HOME: home,
      ...serveEnvironment(ports.emulator, deployment),
    },
  };
}

export async function pingHttp(url: string, timeoutMs = 5_000): Promise<boolean> {
  const answer = await fetch(url, { signal: AbortSignal.timeout(timeoutMs) });
  await answer.body?.cancel();
  return answer.ok;
}
