/** The three processes of the laptop runtime: how each is started, and when it is ready. */
import { join } from "node:path";
import { FreshetError } from "../core/errors.ts";
import type { LaptopPorts } from "./deploy.ts";
import { emulatorClientEnvironment, emulatorProcess, pingEmulator, toolPath } from "./emulator.ts";
import { homeFolder, ROOT } from "./home.ts";
import { LOOPBACK } from "./ports.ts";
import {
  type ProcessSpec,
  readRecord,
  type StopResult,
  startProcess,
  stopProcess,
  waitUntilReady,
} from "./processes.ts";
import { type Deployment, updateState } from "./state.ts";
import { pingValkey, valkeyProcess } from "./valkey.ts";

const START_TIMEOUT_MS = 60_000;
/** The emulator saves its state while it ends, and takes 4 to 5 s even when idle. */
export const GRACE_MS: Readonly<Record<PartName, number>> = { serve: 5_000, emulator: 20_000, valkey: 15_000 };
/** Those that use others end before them. */
export const PARTS = ["serve", "emulator", "valkey"] as const;
export type PartName = (typeof PARTS)[number];

/**
 * Starts one part that does not run and waits until it answers.
 * @param options.deployment needed by `serve` alone
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
  const { spec, probe } = part(home, name, ports, options.deployment);
  const record = await startProcess(home, spec);
  await waitUntilReady(home, record, () => probe(record.pid), { timeoutMs: START_TIMEOUT_MS, signal: options.signal });
}

/** Ends one part as `down` does. */
export function stopPart(home: string, name: PartName): Promise<StopResult> {
  return stopProcess(home, name, GRACE_MS[name]);
}

function part(
  home: string,
  name: PartName,
  ports: LaptopPorts,
  deployment: Deployment | undefined,
): { spec: ProcessSpec; probe: (pid: number) => Promise<boolean> } {
  switch (name) {
    case "valkey": {
      const spec = valkeyProcess({ port: ports.valkey, dir: join(home, "valkey") });
      return { spec, probe: (pid) => pingValkey(ports.valkey, pid) };
    }
    case "emulator":
      return { spec: emulatorProcess(home, ports), probe: () => pingEmulator(ports.emulator) };
    case "serve": {
      if (deployment === undefined)
        throw new FreshetError("not_deployed", "serve needs a deployment", { repair: "run `make up`" });
      return { spec: serveProcess(home, ports, deployment), probe: () => pingHttp(`${serveUrl(ports.serve)}/health`) };
    }
  }
}

export function serveUrl(port: number): string {
  return `http://${LOOPBACK}:${port}`;
}

export function valkeyUrl(port: number): string {
  return `redis://${LOOPBACK}:${port}`;
}

/** The environment of the API where it runs as a plain server beside the emulator. */
export function serveEnvironment(emulatorPort: number, deployment: Deployment): Record<string, string> {
  return { ...deployment.environment, ...emulatorClientEnvironment(emulatorPort) };
}

export function serveProcess(home: string, ports: LaptopPorts, deployment: Deployment): ProcessSpec {
  return {
    name: "serve",
    command: join(ROOT, "node_modules", ".bin", "node"),
    args: [join(ROOT, "cli", "freshet.ts"), "serve", "--port", String(ports.serve), "--host", LOOPBACK],
    cwd: homeFolder(home),
    env: {
      PATH: toolPath(),
      LC_ALL: "C.UTF-8",
      FRESHET_HOME: home,
      ...serveEnvironment(ports.emulator, deployment),
    },
  };
}

export async function pingHttp(url: string): Promise<boolean> {
  const answer = await fetch(url, { signal: AbortSignal.timeout(5_000) });
  await answer.body?.cancel();
  return answer.ok;
}
