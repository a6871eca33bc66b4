/** Faults under load, then the comparison: what `freshet chaos` does. */
import { setTimeout as sleep } from "node:timers/promises";
import { FreshetError } from "../../core/errors.ts";
import { plan } from "../../features/plan.ts";
import { makeFault } from "../../local/chaos/faults.ts";
import { ChaosLoad, type JournalEntry, TENANT } from "../../local/chaos/load.ts";
import { ChaosPushes, type PushedDifference } from "../../local/chaos/pushes.ts";
import { ChaosRuntime, SERVERS } from "../../local/chaos/runtime.ts";
import { FAULTS, type PlannedFault, planFaults } from "../../local/chaos/schedule.ts";
import { type Availability, ScoreClients } from "../../local/chaos/watch.ts";
import { clientConfig } from "../../local/deploy.ts";
import { endWithThisProcess } from "../../local/end-with-process.ts";
import { homeFolder } from "../../local/home.ts";
import { readLateBacklog } from "../../local/late.ts";
import { settle } from "../../local/settle.ts";
import { type OperatedDeployment, readDeployment } from "../deployment.ts";
import { type Comparison, compareWithArchive, readOnline } from "./compare.ts";
import { Operator, type RecoveryNote } from "./operator.ts";

const PARTS = ["valkey", "emulator", ...SERVERS] as const;
const STREAMS = ["transactions", "clicks"];
/** All have so long to catch up once nothing is broken any more: what was pushed is pushed again within five minutes. */
const CATCH_UP_MS = 420_000;

export interface ChaosOptions {
  readonly seed: number;
  readonly forMs: number;
  readonly perSecond: number;
  /** Leaves the runtime's folder, with its logs, its archive and Valkey's file. */
  readonly keep: boolean;
  readonly signal: AbortSignal;
  readonly say: (text: string) => void;
}

export interface ChaosReport {
  readonly seed: number;
  readonly seconds: number;
  readonly faults: readonly (PlannedFault & { readonly failed: string | null })[];
  readonly recoveries: readonly RecoveryNote[];
  readonly events: {
    readonly sent: number;
    readonly acknowledged: number;
    readonly repeated: number;
    readonly malformed: number;
    /** Acknowledged, and not in the archive. Lost, if there is one. */
    readonly missing: readonly string[];
    /** Came when their tiles were sealed, and were repaired since; and those that nobody has repaired. */
    readonly repaired: number;
    readonly late: number;
  };
  readonly features: { readonly entities: number } & Pick<Comparison, "differences"> & { readonly compared: number };
  /** Values of a registered feature, each pushed until it was taken. */
  readonly pushed: { readonly taken: number; readonly differences: readonly PushedDifference[] };
  readonly availability: Availability;
  readonly freshness: { readonly p50Ms: number; readonly p99Ms: number; readonly maxMs: number };
}

/** @throws FreshetError of the runtime; `not_settled` when it doesn't come to rest */
export async function runChaos(options: ChaosOptions): Promise<ChaosReport> {
  const home = ChaosRuntime.newHome();
  const guard = endWithThisProcess(home);
  let runtime: ChaosRuntime | null = null;
  try {
    options.say(`a runtime of its own in ${home}`);
    runtime = await ChaosRuntime.open(home, options.signal);
    return await inRuntime(runtime, options);
  } finally {
    if (runtime === null) await ChaosRuntime.remove(home);
    else {
      await runtime.close(options.keep);
      if (options.keep) options.say(`left for a look: ${home}`);
    }
    guard.kill("SIGKILL");
  }
}

async function inRuntime(runtime: ChaosRuntime, options: ChaosOptions): Promise<ChaosReport> {
  const { seed, forMs, perSecond, signal, say } = options;
  const deployment = await readDeployment("local", clientConfig(runtime.ports.emulator));
  const startedMs = Date.now();
  const clock = (): string => `${((Date.now() - startedMs) / 1000).toFixed(0).padStart(4)} s`;
  const tell = (text: string): void => say(`${clock()}  ${text}`);
  const load = new ChaosLoad(runtime, { seed, perSecond, forMs });
  const scores = new ScoreClients(runtime, () => {
    const sample = load.sample();
    return sample && { ...sample, amount: 25, country: "SE" };
  });
  const pushes = new ChaosPushes(runtime, seed);
  const operator = new Operator(deployment, runtime, tell);
  try {
    const faults = await inject(runtime, planFaults(seed, forMs), tell, signal);
    await sleep(Math.max(0, startedMs + forMs - Date.now()), undefined, { signal });
    tell("no more faults: waiting for producers, functions and the operator");
    for (const part of PARTS) {
      if (!runtime.isRunning(part)) await runtime.start(part, signal);
    }
    const unacknowledged = await load.drain(CATCH_UP_MS);
    const allPushed = await pushes.drain(CATCH_UP_MS);
    if (!allPushed) throw new FreshetError("not_settled", "the last pushes were not taken");
    const availability = await scores.stop();
    await operator.rest(CATCH_UP_MS, signal);
    await settle(runtime.ports, runtime.deployment, CATCH_UP_MS);
    await repaired(runtime, signal);
    tell(`at rest: ${load.journal.size} events, ${unacknowledged} not acknowledged; comparing`);
    const journal = [...load.journal.entries()];
    const found = await compare(
      runtime,
      deployment,
      journal.map(([, entry]) => entry),
    );
    const acknowledged = journal.filter(([, { ackedMs }]) => ackedMs !== null);
    return {
      seed,
      seconds: Math.round((Date.now() - startedMs) / 1000),
      faults,
      recoveries: operator.notes,
      events: {
        sent: journal.length,
        acknowledged: acknowledged.length,
        repeated: load.duplicates,
        malformed: load.malformed,
        missing: acknowledged.flatMap(([identity]) => (found.archived.has(identity) ? [] : [identity])),
        repaired: [...found.archived.values()].filter(({ repaired }) => repaired).length,
        late: [...found.archived.values()].filter(({ late }) => late).length,
      },
      features: { entities: found.entities, compared: found.features, differences: found.differences },
      pushed: { taken: pushes.taken, differences: await pushes.compare() },
      availability,
      freshness: freshness(acknowledged, found),
    };
  } finally {
    load.close();
    pushes.close();
    await operator.stop();
    await scores.stop();
  }
}

/** Waits until nothing is left to repair: what is half repaired counts online before the archive says so. */
async function repaired(runtime: ChaosRuntime, signal: AbortSignal): Promise<void> {
  const deadline = Date.now() + CATCH_UP_MS;
  for (;;) {
    const backlog = await readLateBacklog(runtime.ports.emulator, runtime.deployment, STREAMS);
    const pending = Object.values(backlog).reduce((sum, each) => sum + each.pending, 0);
    if (pending === 0) return;
    if (Date.now() > deadline) {
      throw new FreshetError("not_settled", `${pending} late events were not repaired within ${CATCH_UP_MS / 1000} s`, {
        repair: `read ${runtime.home}/logs, and \`freshet logs repair\` for why`,
      });
    }
    await sleep(1_000, undefined, { signal });
  }
}

/** Makes the planned faults at their times; each is undone before this returns. */
async function inject(
  runtime: ChaosRuntime,
  planned: readonly PlannedFault[],
  tell: (text: string) => void,
  signal: AbortSignal,
): Promise<ChaosReport["faults"]> {
  const startedMs = Date.now();
  const done = await Promise.all(
    planned.map(async (fault) => {
      await sleep(Math.max(0, startedMs + fault.atMs - Date.now()), undefined, { signal }).catch(() => {});
      if (signal.aborted) return { ...fault, failed: "interrupted" };
      tell(`${fault.name} for ${(fault.forMs / 1000).toFixed(1)} s: ${FAULTS[fault.name].says}`);
      try {
        await makeFault(runtime, fault, signal);
        return { ...fault, failed: null };
      } catch (error) {
        const failed = error instanceof Error ? error.message : String(error);
        tell(`${fault.name} could not be made or undone: ${failed}`);
        return { ...fault, failed };
      }
    }),
  );
  signal.throwIfAborted();
  return done;
}

async function compare(
  runtime: ChaosRuntime,
  deployment: OperatedDeployment,
  journal: readonly JournalEntry[],
): Promise<Comparison & { readonly entities: number }> {
  const joinKeys = new Map(plan.entities.map(({ name, joinKey }) => [name, joinKey]));
  const entities = new Map<string, { entity: string; id: string }>();
  for (const { event } of journal) {
    for (const { entity } of plan.groups.filter(({ stream }) => stream === event.stream)) {
      const id = event.fields[joinKeys.get(entity)!];
      if (typeof id === "string") entities.set(`${entity}/${id}`, { entity, id });
    }
  }
  if (entities.size === 0) throw new FreshetError("nothing_sent", "no event was sent: there is nothing to compare");
  const answers = await readOnline(runtime.url("serve"), runtime.apiKey, entities.values());
  return {
    ...(await compareWithArchive({
      plan,
      deployment,
      tenant: TENANT,
      streams: STREAMS,
      folder: homeFolder(runtime.home, "compare"),
      answers,
    })),
    entities: entities.size,
  };
}

/** From the producer's first attempt to send to the store's clock at the first apply. */
function freshness(
  journal: readonly (readonly [string, JournalEntry])[],
  { archived }: Comparison,
): ChaosReport["freshness"] {
  const sorted = journal
    .flatMap(([identity, { sentMs }]) => {
      const visibleMs = archived.get(identity)?.visibleMs;
      return visibleMs == null ? [] : [visibleMs - sentMs];
    })
    .sort((a, b) => a - b);
  const at = (share: number): number => sorted[Math.floor((sorted.length - 1) * share)] ?? Number.NaN;
  return { p50Ms: at(0.5), p99Ms: at(0.99), maxMs: at(1) };
}

/** What makes a run fail. */
export const isClean = ({ events, features, pushed, faults }: ChaosReport): boolean =>
  events.acknowledged === events.sent &&
  events.missing.length === 0 &&
  events.late === 0 &&
  features.differences.length === 0 &&
  pushed.differences.length === 0 &&
  faults.every(({ failed }) => failed === null);
