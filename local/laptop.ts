/** The laptop runtime as a whole: what `freshet up` and `freshet down` do. */
import { existsSync, readdirSync, renameSync } from "node:fs";
import { join } from "node:path";
import { FreshetError } from "../core/errors.ts";
import { initControl } from "./control.ts";
import { checkDefinitions } from "./definitions.ts";
import { bootstrap, deploy, describeDeployment, endLeftTools, sourceHash, stackNames } from "./deploy.ts";
import { ensureDevelopmentKey } from "./development-key.ts";
import { emulatorUrl } from "./emulator.ts";
import { chooseEmulator, type EmulatorWish } from "./emulator-choice.ts";
import { emulatorOf } from "./emulator-kinds.ts";
import { ensureTopics } from "./kafka/topics.ts";
import { isExternal, PARTS, type PartName, requireAnswer, startPart, stopPart } from "./parts.ts";
import { choosePort } from "./ports.ts";
import { isRunning, readRecord, recordedNames, type StopResult, stopProcess } from "./processes.ts";
import {
  type Deployment,
  type LaptopBroker,
  type LaptopPorts,
  type LaptopState,
  readState,
  updateState,
} from "./state.ts";
import { askReady, storeIsOk } from "./status.ts";
import type { Steps } from "./steps.ts";

export interface UpOptions extends EmulatorWish {
  /** Ports that the user asked for. */
  readonly wanted?: Partial<LaptopPorts>;
  /** @default the one that the home has had, else Kinesis */
  readonly broker?: LaptopBroker;
  /** Deploys even when the sources are what was deployed last. */
  readonly redeploy?: boolean;
  /** CDK context beside that of every deployment, as `sagemakerEndpoint=…`. */
  readonly context?: readonly string[];
}

/** What one `up` has done so far, for the case that it fails. */
interface Undertaking {
  readonly started: PartName[];
  /** The control function found the store whole. */
  storeIsWhole: boolean;
}

/** Starts what does not run, deploys what has changed. What it started is ended again when it fails. */
export async function up(home: string, options: UpOptions): Promise<LaptopState> {
  const undertaking: Undertaking = { started: [], storeIsWhole: false };
  try {
    return await bringUp(home, options, undertaking);
  } catch (error) {
    for (const name of PARTS.filter((each) => undertaking.started.includes(each))) {
      const result = await stopPart(home, name);
      if (name === "valkey" && result === "clean" && undertaking.storeIsWhole) updateState(home, { storeWhole: true });
    }
    // What the emulator holds may be half a deployment: `cleanShutdown` stays false, and the next `up` deploys.
    throw error;
  }
}

async function bringUp(home: string, options: UpOptions, undertaking: Undertaking): Promise<LaptopState> {
  const { steps, signal } = options;
  const { started } = undertaking;
  await chooseEmulator(home, options);
  const before = readState(home);
  if (options.redeploy || before.deployment?.sourceHash !== sourceHash()) {
    await steps.step("definitions", checkDefinitions);
  }
  const broker = chooseBroker(before, options.broker);
  const ports = await choosePorts(home, before, broker, options.wanted ?? {});
  updateState(home, { ports, broker });

  const start = (name: PartName, deployment?: Deployment): Promise<void> =>
    steps.step(name, async (note) => {
      if (isRunning(readRecord(home, name))) return note("already running");
      if (isExternal(home, name)) return requireAnswer(home, name, ports);
      started.push(name);
      await startPart(home, name, ports, { deployment, signal });
    });

  if (!before.cleanShutdown && !isRunning(readRecord(home, "emulator"))) setOrphansAside(home, steps);
  await allOrFirstError([start("valkey"), start("emulator"), ...(broker === "kafka" ? [start("kafka")] : [])]);

  // After a crash the emulator has an older state, or none, whatever the record says.
  const trusted = before.cleanShutdown || !started.includes("emulator");
  const deployment = await ensureDeployed(home, ports, trusted ? before.deployment : undefined, options);
  if (broker === "kafka") {
    await steps.step("topics", () => ensureTopics(ports.kafka!, Object.values(deployment.streams)));
  }
  const control = await steps.step("control", () =>
    initControl(ports.emulator, deployment, readState(home).storeWhole && started.includes("valkey")),
  );
  undertaking.storeIsWhole = control.state === "ok";
  updateState(home, { storeWhole: false });
  const apiKey = await steps.step("development key", () =>
    ensureDevelopmentKey(ports.emulator, deployment.environment, before.apiKey),
  );
  updateState(home, { apiKey });
  await allOrFirstError([start("serve", deployment), ...(broker === "kafka" ? [start("mapping", deployment)] : [])]);
  const ready = await askReady(home);
  if (!storeIsOk(ready)) {
    steps.say(`  ! ${ready?.reason ?? ready?.detail ?? "the API does not say whether it is ready"}`);
    if (ready?.repair) steps.say(`    ${ready.repair}`);
  }
  return readState(home);
}

/**
 * An emulator that was killed before it ever ended in order has kept its buckets, but neither stacks nor tables: deploying
 * would find buckets that no stack owns. They are moved, not removed, since they hold the archive.
 */
function setOrphansAside(home: string, steps: UpOptions["steps"]): void {
  const folder = join(home, "emulator");
  const state = join(folder, "state");
  const buckets = join(folder, "s3");
  if (!existsSync(buckets) || (existsSync(state) && readdirSync(state).length > 0)) return;
  const aside = join(folder, `s3-of-${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}`);
  renameSync(buckets, aside);
  steps.say(
    "  ! the emulator was killed and keeps its state only when it ends in order: streams, tables and keys are made anew",
  );
  steps.say(`    what was applied is still in Valkey; the objects of its buckets are in ${aside}`);
}

/** Lets every start come to its end before an error goes on, so that clean-up finds all that was started. */
async function allOrFirstError(works: readonly Promise<void>[]): Promise<void> {
  const results = await Promise.allSettled(works);
  const failed = results.find((result) => result.status === "rejected");
  if (failed !== undefined) throw failed.reason;
}

/**
 * What is deployed reads its events from one broker, whose shards the seal counts on.
 * @throws FreshetError `broker_fixed`
 */
function chooseBroker({ deployment, broker: recorded = "kinesis" }: LaptopState, wanted?: LaptopBroker): LaptopBroker {
  if (deployment === undefined) return wanted ?? recorded;
  if (wanted === undefined || wanted === recorded) return recorded;
  throw new FreshetError("broker_fixed", `what is deployed here has ${recorded} as its broker, asked for ${wanted}`, {
    field: "broker",
    repair: "run `make clean` first, or set FRESHET_HOME to another folder",
  });
}

const SERVICES = {
  kinesis: ["valkey", "emulator", "serve"],
  kafka: ["valkey", "emulator", "serve", "kafka", "kafkaController", "mapping"],
} as const;

async function choosePorts(
  home: string,
  state: LaptopState,
  broker: LaptopBroker,
  wanted: Partial<LaptopPorts>,
): Promise<LaptopPorts> {
  const taken = new Set<number>();
  const chosen: Record<string, number> = {};
  const { external = {} } = emulatorOf(home);
  for (const service of SERVICES[broker]) {
    const given = (external as Partial<LaptopPorts>)[service];
    if (given !== undefined) {
      chosen[service] = wanted[service] ?? given;
      continue;
    }
    const recorded = state.ports[service];
    const runs = isRunning(readRecord(home, service === "kafkaController" ? "kafka" : service));
    // The deployed functions hold the addresses of Valkey and Kafka.
    const fixed = runs || ((service === "valkey" || service === "kafka") && state.deployment !== undefined);
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
      // The emulator may have another port than last time.
      const apiUrl = `${emulatorUrl(ports.emulator)}${new URL(known.apiUrl).pathname}`;
      return updateState(home, { deployment: { ...known, apiUrl } }).deployment as Deployment;
    });
  }
  if (!present.includes("CDKToolkit")) {
    await steps.step("bootstrap", () => bootstrap(home, ports, signal));
  }
  return steps.step("deploy", async () => {
    await deploy(home, ports, { more: options.context, signal });
    // It would go on with the code and the names of the last deployment.
    for (const name of ["serve", "mapping"] as const) await stopPart(home, name);
    const deployment = { ...(await describeDeployment(ports.emulator)), sourceHash: hash };
    updateState(home, { deployment });
    return deployment;
  });
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
      const result = await (parts.includes(name) ? stopPart(home, name as PartName) : stopProcess(home, name, 5_000));
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
