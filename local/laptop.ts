/** The laptop runtime as a whole: what `freshet up` and `freshet down` do. */
import { join } from "node:path";
import { FreshetError } from "../core/errors.ts";
import { initControl } from "./control.ts";
import {
  bootstrap,
  deploy,
  describeDeployment,
  endLeftTools,
  type LaptopPorts,
  sourceHash,
  stackNames,
} from "./deploy.ts";
import { ensureDevelopmentKey } from "./development-key.ts";
import { emulatorClientEnvironment, emulatorProcess, emulatorUrl, pingEmulator, toolPath } from "./emulator.ts";
import { homeFolder, ROOT } from "./home.ts";
import { choosePort, LOOPBACK } from "./ports.ts";
import {
  isRunning,
  type ProcessSpec,
  readRecord,
  recordedNames,
  type StopResult,
  startProcess,
  stopProcess,
  waitUntilReady,
} from "./processes.ts";
import { type Deployment, type LaptopState, readState, updateState } from "./state.ts";
import type { Steps } from "./steps.ts";
import { pingValkey, valkeyProcess } from "./valkey.ts";

const START_TIMEOUT_MS = 60_000;
/** The emulator saves its state while it ends, and takes 4 to 5 s even when idle. */
const GRACE_MS: Readonly<Record<PartName, number>> = { serve: 5_000, emulator: 20_000, valkey: 15_000 };
/** Those that use others end before them. */
export const PARTS = ["serve", "emulator", "valkey"] as const;
export type PartName = (typeof PARTS)[number];

export interface UpOptions {
  readonly steps: Steps;
  readonly signal: AbortSignal;
  /** Ports that the user asked for. */
  readonly wanted?: Partial<LaptopPorts>;
  /** Deploys even when the sources are what was deployed last. */
  readonly redeploy?: boolean;
}

/** Starts what does not run, deploys what has changed. What it started is ended again when it fails. */
export async function up(home: string, options: UpOptions): Promise<LaptopState> {
  const started: string[] = [];
  try {
    return await bringUp(home, options, started);
  } catch (error) {
    // The state in the emulator may be half a deployment: the next `up` looks instead of trusting the record.
    for (const name of PARTS.filter((each) => started.includes(each))) {
      await stopPart(home, name);
    }
    throw error;
  }
}

async function bringUp(home: string, options: UpOptions, started: string[]): Promise<LaptopState> {
  const { steps, signal } = options;
  const before = readState(home);
  const ports = await choosePorts(home, before, options.wanted ?? {});
  updateState(home, { ports });

  const start = (name: PartName, deployment?: Deployment): Promise<void> =>
    steps.step(name, async (note) => {
      if (isRunning(readRecord(home, name))) return note("already running");
      started.push(name);
      await startPart(home, name, ports, { deployment, signal });
    });

  await allOrFirstError([start("valkey"), start("emulator")]);

  // After a crash the emulator has an older state, or none, whatever the record says.
  const trusted = before.cleanShutdown || !started.includes("emulator");
  const deployment = await ensureDeployed(home, ports, trusted ? before.deployment : undefined, options);
  await steps.step("control", () =>
    initControl(ports.emulator, deployment, readState(home).storeWhole && started.includes("valkey")),
  );
  updateState(home, { storeWhole: false });
  const apiKey = await steps.step("development key", () =>
    ensureDevelopmentKey(ports.emulator, deployment.environment, before.apiKey),
  );
  updateState(home, { apiKey });
  await start("serve", deployment);
  const ready = await askReady(home);
  if (!storeIsOk(ready)) {
    steps.say(`  ! ${ready?.reason ?? ready?.detail ?? "the API does not say whether it is ready"}`);
    if (ready?.repair) steps.say(`    ${ready.repair}`);
  }
  return readState(home);
}

/** Lets every start come to its end before an error goes on, so that clean-up finds all that was started. */
async function allOrFirstError(works: readonly Promise<void>[]): Promise<void> {
  const results = await Promise.allSettled(works);
  const failed = results.find((result) => result.status === "rejected");
  if (failed !== undefined) throw failed.reason;
}

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

async function choosePorts(home: string, state: LaptopState, wanted: Partial<LaptopPorts>): Promise<LaptopPorts> {
  const taken = new Set<number>();
  const chosen: Record<string, number> = {};
  for (const service of ["valkey", "emulator", "serve"] as const) {
    const recorded = state.ports[service];
    const runs = isRunning(readRecord(home, service));
    // The deployed functions hold Valkey's address.
    const fixed = runs || (service === "valkey" && state.deployment !== undefined);
    if (fixed && recorded !== undefined && (wanted[service] ?? recorded) !== recorded) {
      throw new FreshetError("port_fixed", `${service} has port ${recorded} already, asked for ${wanted[service]}`, {
        field: `${service} port`,
        repair: runs ? "run `make down` first" : "run `make clean` first",
      });
    }
    const port =
      runs && recorded !== undefined
        ? recorded
        : await choosePort(home, service, {
            wanted: wanted[service] ?? (fixed ? recorded : undefined),
            recorded,
            taken,
          });
    taken.add(port);
    chosen[service] = port;
  }
  return chosen as unknown as LaptopPorts;
}

async function ensureDeployed(
  home: string,
  ports: LaptopPorts,
  known: Deployment | undefined,
  options: UpOptions,
): Promise<Deployment> {
  const { steps, signal } = options;
  await endLeftTools(home);
  const hash = sourceHash();
  const present = await stackNames(ports.emulator);
  const whole = known?.stacks.every((stack) => present.includes(stack)) ?? false;
  if (known !== undefined && whole && known.sourceHash === hash && !options.redeploy) {
    return steps.step("deploy", async (note) => {
      note("unchanged");
      return known;
    });
  }
  if (!present.includes("CDKToolkit")) {
    await steps.step("bootstrap", () => bootstrap(home, ports, signal));
  }
  return steps.step("deploy", async () => {
    await deploy(home, ports, signal);
    // It would go on with the code and the names of the last deployment.
    await stopPart(home, "serve");
    const deployment = { ...(await describeDeployment(ports.emulator)), sourceHash: hash };
    updateState(home, { deployment });
    return deployment;
  });
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

function serveProcess(home: string, ports: LaptopPorts, deployment: Deployment): ProcessSpec {
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

/**
 * Ends every process of the home and keeps its state.
 * @returns how each ended; empty when nothing ran
 * @throws FreshetError `process_left`
 */
export async function down(home: string, steps: Steps): Promise<ReadonlyMap<string, StopResult>> {
  const recorded = recordedNames(home);
  const parts: readonly string[] = PARTS;
  const names = [
    ...recorded.filter((name) => !parts.includes(name)),
    ...parts.filter((name) => recorded.includes(name)),
  ];
  const results = new Map<string, StopResult>();
  // A failover that is not made good must not look like a clean restart next time.
  const missedNothing = storeIsOk(await askReady(home));
  for (const name of names) {
    await steps.step(`stop ${name}`, async (note) => {
      const result = await stopProcess(home, name, GRACE_MS[name as PartName] ?? 5_000);
      results.set(name, result);
      if (result !== "clean") note(result === "killed" ? "did not end by itself: killed" : "was not running");
    });
  }
  const valkeyClean = results.get("valkey") === "clean";
  // Before the first control run of this start nothing has changed about what was known then.
  if (results.has("valkey"))
    updateState(home, { storeWhole: valkeyClean && (missedNothing || readState(home).storeWhole) });
  if (valkeyClean && results.get("emulator") === "clean") updateState(home, { cleanShutdown: true });
  return results;
}

/** What `/ready` of the plain server says; null when it does not answer. */
async function askReady(home: string): Promise<Readiness | null> {
  const { serve } = readState(home).ports;
  if (serve === undefined || !isRunning(readRecord(home, "serve"))) return null;
  try {
    const answer = await fetch(`${serveUrl(serve)}/ready`, { signal: AbortSignal.timeout(5_000) });
    return (await answer.json()) as Readiness;
  } catch {
    return null;
  }
}

interface Readiness {
  /** Of a 503 there is a `detail`, of a degraded 200 a `reason`. */
  readonly detail?: string;
  readonly reason?: string;
  readonly repair?: string;
  readonly checks?: { readonly online_store?: { readonly control?: string } };
}

const storeIsOk = (ready: Readiness | null): boolean => ready?.checks?.online_store?.control === "ok";

/** Parts that do not run. */
export function missingParts(home: string): PartName[] {
  return PARTS.filter((name) => !isRunning(readRecord(home, name)));
}

export function isUp(home: string): boolean {
  return missingParts(home).length === 0;
}

/** What `freshet status --json` prints: all that a script needs to connect. */
export function describe(home: string): Record<string, unknown> {
  const state = readState(home);
  const { ports, deployment } = state;
  const url = (port: number | undefined, of: (port: number) => string): string | null =>
    port === undefined ? null : of(port);
  const shown = (name: PartName, at: string | null): Record<string, unknown> => {
    const record = readRecord(home, name);
    const running = isRunning(record);
    return { url: at, running, pid: running ? record?.pid : null };
  };
  return {
    running: isUp(home),
    home,
    api: { url: deployment?.apiUrl ?? null, key: state.apiKey ?? null },
    serve: shown("serve", url(ports.serve, serveUrl)),
    emulator: shown("emulator", url(ports.emulator, emulatorUrl)),
    valkey: shown("valkey", url(ports.valkey, valkeyUrl)),
    streams: deployment?.streams ?? {},
    environment: deployment?.environment ?? {},
    deployed_at_ms: deployment?.deployedAtMs ?? null,
  };
}
