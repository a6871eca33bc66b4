/**
 * A laptop runtime of its own whose parts can be killed, stopped and cut off: Valkey behind a proxy for its connections, S3 and
 * DynamoDB behind one for requests, and two API servers, as a load balancer would have.
 */
import { mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { initControl } from "../control.ts";
import { emulatorProcess, emulatorUrl, pingEmulator } from "../emulator.ts";
import { type FaultProxy, startAwsFaultProxy } from "../faults/aws-proxy.ts";
import { startTcpFaultProxy, type TcpFaultProxy } from "../faults/tcp-proxy.ts";
import { functionWorkers } from "../function-workers.ts";
import { down, up } from "../laptop.ts";
import { GRACE_MS, pingHttp, serveProcess, serveUrl } from "../parts.ts";
import { anyFreePort, LOOPBACK } from "../ports.ts";
import { isRunning, type ProcessSpec, readRecord, startProcess, stopProcess, waitUntilReady } from "../processes.ts";
import { type Deployment, type LaptopPorts, readState } from "../state.ts";
import { Steps } from "../steps.ts";
import { pingValkey, valkeyProcess } from "../valkey.ts";

export type Part = "valkey" | "emulator" | "serve" | "serve-2";
export const SERVERS = ["serve", "serve-2"] as const satisfies readonly Part[];
const START_MS = 120_000;

export class ChaosRuntime {
  readonly home: string;
  readonly deployment: Deployment;
  readonly apiKey: string;
  readonly ports: LaptopPorts;
  /** Between everybody and Valkey. */
  readonly store: TcpFaultProxy;
  /** Between functions and API servers, and S3 and DynamoDB. */
  readonly aws: FaultProxy;
  /** Valkey's own, behind the proxy. */
  readonly storePort: number;
  readonly #secondPort: number;
  readonly #stopped = new Set<number>();

  private constructor(
    home: string,
    places: { ports: LaptopPorts; deployment: Deployment; apiKey: string; storePort: number; secondPort: number },
    proxies: { store: TcpFaultProxy; aws: FaultProxy },
  ) {
    this.home = home;
    this.ports = places.ports;
    this.deployment = places.deployment;
    this.apiKey = places.apiKey;
    this.storePort = places.storePort;
    this.#secondPort = places.secondPort;
    this.store = proxies.store;
    this.aws = proxies.aws;
  }

  /** Folder of a runtime that is about to be. */
  static newHome(): string {
    return realpathSync(mkdtempSync(join(tmpdir(), "freshet-chaos-")));
  }

  /** Ends what an `open` that failed has left. */
  static async remove(home: string): Promise<void> {
    await down(home, new Steps());
    rmSync(home, { recursive: true, force: true });
  }

  /** Deploys, then puts the proxies between. */
  static async open(home: string, signal: AbortSignal): Promise<ChaosRuntime> {
    const steps = new Steps();
    await up(home, { steps, signal });
    const { ports, deployment, apiKey } = readState(home) as {
      ports: LaptopPorts;
      deployment: Deployment;
      apiKey: string;
    };
    for (const part of ["serve", "emulator", "valkey"] as const) await stopProcess(home, part, GRACE_MS[part]);
    const [storePort, secondPort] = [await anyFreePort(), await anyFreePort()];
    const store = await startTcpFaultProxy({ host: LOOPBACK, port: storePort }, ports.valkey);
    const aws = await startAwsFaultProxy(emulatorUrl(ports.emulator));
    const places = { ports, deployment, apiKey, storePort, secondPort };
    const runtime = new ChaosRuntime(home, places, { store, aws });
    try {
      await steps.step("valkey behind a proxy", () => runtime.start("valkey", signal));
      await steps.step("emulator, with proxies for S3 and DynamoDB", () => runtime.start("emulator", signal));
      await steps.step("control", () => initControl(ports.emulator, deployment, true));
      await steps.step("two API servers", () => Promise.all(SERVERS.map((name) => runtime.start(name, signal))));
    } catch (error) {
      await runtime.close();
      throw error;
    }
    return runtime;
  }

  url(server: (typeof SERVERS)[number]): string {
    return serveUrl(server === "serve" ? this.ports.serve : this.#secondPort);
  }

  async start(part: Part, signal?: AbortSignal): Promise<void> {
    await stopProcess(this.home, part, 0);
    const { spec, probe } = this.#describe(part);
    const record = await startProcess(this.home, spec);
    await waitUntilReady(this.home, record, () => probe(record.pid), { timeoutMs: START_MS, signal });
  }

  isRunning(part: Part): boolean {
    return isRunning(readRecord(this.home, part));
  }

  /** Ends a part in order. */
  async stop(part: Part): Promise<void> {
    await stopProcess(this.home, part, GRACE_MS[part === "serve-2" ? "serve" : part]);
  }

  /** Kills a part's own process. */
  kill(part: Part): void {
    const record = readRecord(this.home, part);
    if (isRunning(record)) process.kill(record!.pid, "SIGKILL");
  }

  /** Stops a part with all that belongs to it. @returns what makes it go on */
  pause(part: Part): () => void {
    const record = readRecord(this.home, part);
    if (!isRunning(record)) return () => {};
    return this.#pause(-record!.pid);
  }

  workers(name: string): number[] {
    const record = readRecord(this.home, "emulator");
    return isRunning(record) ? functionWorkers(record!.pid, name) : [];
  }

  killWorkers(name: string): number {
    const pids = this.workers(name);
    for (const pid of pids) send(pid, "SIGKILL");
    return pids.length;
  }

  pauseWorkers(name: string): () => void {
    const goOn = this.workers(name).map((pid) => this.#pause(pid));
    return () => {
      for (const each of goOn) each();
    };
  }

  /** Ends every process, and removes the home unless it is kept. */
  async close(keep = false): Promise<void> {
    for (const pid of this.#stopped) send(pid, "SIGCONT");
    this.store.mute(false);
    this.store.refuse(false);
    try {
      await down(this.home, new Steps());
    } finally {
      await Promise.all([this.store.stop(), this.aws.stop()]);
      if (!keep) rmSync(this.home, { recursive: true, force: true });
    }
  }

  #pause(pid: number): () => void {
    send(pid, "SIGSTOP");
    this.#stopped.add(pid);
    return () => {
      this.#stopped.delete(pid);
      send(pid, "SIGCONT");
    };
  }

  /** The SDK takes a service's own variable before the general one. */
  #proxied(env: ProcessSpec["env"]): ProcessSpec["env"] {
    return { ...env, AWS_ENDPOINT_URL_S3: this.aws.url, AWS_ENDPOINT_URL_DYNAMODB: this.aws.url };
  }

  #describe(part: Part): { spec: ProcessSpec; probe: (pid: number) => Promise<boolean> } {
    const { home, ports, deployment } = this;
    if (part === "valkey") {
      const spec = valkeyProcess({ port: this.storePort, dir: join(home, "valkey") });
      return { spec, probe: (pid) => pingValkey(this.storePort, pid) };
    }
    if (part === "emulator") {
      const spec = emulatorProcess(home, ports);
      // The emulator hands its environment to the functions.
      return { spec: { ...spec, env: this.#proxied(spec.env) }, probe: () => pingEmulator(ports.emulator) };
    }
    const port = part === "serve" ? ports.serve : this.#secondPort;
    const spec = serveProcess(home, { ...ports, serve: port }, deployment);
    return {
      spec: { ...spec, name: part, env: this.#proxied(spec.env) },
      probe: () => pingHttp(`${serveUrl(port)}/health`),
    };
  }
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended by itself.
  }
}
