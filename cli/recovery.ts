/**
 * Brings a deployment's online store back to all that was acknowledged, from its newest snapshot and what the broker still holds. The broker is read
 * here; the store, which on AWS nobody outside its VPC can reach, is changed by the restore, the control and the aggregate function.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Broker, ListedStream, ShardRecord } from "../adapters/broker/broker.ts";
import { openBroker } from "../adapters/broker/open-broker.ts";
import { FreshetError } from "../core/errors.ts";
import { FUTURE_LIMIT_MS } from "../core/event.ts";
import type { ReplayEvent } from "../functions/aggregate.ts";
import type { BuildEvent } from "../functions/build.ts";
import type { ControlAnswer, ControlEvent } from "../functions/control.ts";
import type { EraseEvent } from "../functions/erase.ts";
import type { MaterializeEvent, RestoredValues } from "../functions/materialize.ts";
import type { RestoreEvent } from "../functions/restore.ts";
import type { ReplayResult } from "../functions/shared/aggregation/aggregation.ts";
import type { ControlReport } from "../functions/shared/control-loop.ts";
import type { RepeatReport } from "../functions/shared/repair/repeat-repairs.ts";
import type { RestoreReport, RestoreRequest } from "../functions/shared/snapshot/restore-snapshot.ts";
import { SNAPSHOT_SKEW_MS } from "../functions/shared/snapshot/restored-controls.ts";
import { ArchiveGapReplay } from "./archive-gap.ts";
import { comesSince, heldSince, isWhole, replayableMs } from "./broker-reach.ts";
import type { OperatedDeployment } from "./deployment.ts";
import { type Functions, openFunctions } from "./invoke.ts";
import { chooseRound, listRounds, loadSnapshot } from "./snapshot-restore.ts";
import { formatTable } from "./table.ts";

/** Shards read at once: each gives 2 MB/s at most, and the functions share the store with the stream's own batches. */
const SHARDS_AT_ONCE = 8;
const WAIT_MS = 5_000;
/** A store that fails over during one replay after the other needs somebody to look at it. */
const ROUNDS = 3;

export interface RecoveryStep {
  readonly stream: string;
  readonly records: number;
  readonly applied: number;
  /** Of the broker's records, those that the deployed contract cannot read. */
  readonly unread: number;
}
export interface Recovery {
  /** What was wrong: nothing, a failover that may have lost a suffix, or a store that is gone. */
  readonly found: ControlReport["state"];
  readonly state: ControlReport["state"];
  readonly steps: readonly RecoveryStep[];
  /** Views that lack history which no replay brings. */
  readonly unready: readonly string[];
  /** Buckets that had to be taken from an older round of snapshots, and why. */
  readonly older: Readonly<Record<string, string>>;
  /** Streams of which single entities had been rebuilt since the snapshot. */
  readonly undone: readonly string[];
  /** From the command's beginning until all of it was there again. */
  readonly seconds: number;
}
type Recovered = Omit<Recovery, "seconds">;

export interface RecoveryOptions {
  /** A round's name; `none` to replay the broker from its beginning. @default `latest` */
  readonly snapshot?: string;
}

/**
 * A failover: replays what arrived since the seal, then takes the new primary for whole. A lost store: loads the newest snapshot under a new epoch and
 * replays what arrived since its seal, from the archive where the broker does not reach back so far; without a snapshot, all that the broker holds, which
 * is everything while the streams are younger than their retention; features that need more are not ready then until a build from the archive.
 * @throws FreshetError `recovery_incomplete` when neither broker nor archive reach back to a snapshot, with nothing changed;
 *   `function_failed`, after which it may be run again
 */
export function recover(
  deployment: OperatedDeployment,
  progress: (message: string) => void,
  { snapshot = "latest" }: RecoveryOptions = {},
): Promise<Recovery> {
  return withPorts(deployment, progress, (ports) => recoverOnce(ports, snapshot));
}

/** Restores a snapshot that somebody has chosen, or some buckets of it, and replays what arrived since. @throws as `recover` */
export function restore(
  deployment: OperatedDeployment,
  request: RestoreRequest,
  progress: (message: string) => void,
): Promise<Recovery> {
  let loaded = false;
  return withPorts(deployment, progress, async (ports) => {
    if (loaded) return recoverOnce(ports, "latest");
    const found = await ports.control({});
    const { round } = chosen(await listRounds(ports.functions, deployment), request.snapshot);
    const report = await load(ports, { ...request, snapshot: round }, found);
    loaded = true;
    return openRestored(ports, found.state, report);
  });
}

interface Ports {
  readonly deployment: OperatedDeployment;
  readonly functions: Functions;
  readonly broker: Broker;
  readonly control: (event: ControlEvent) => Promise<ControlAnswer>;
  readonly progress: (message: string) => void;
}

/** Does it again where another primary came to answer meanwhile, which may lack what was replayed. */
async function withPorts(
  deployment: OperatedDeployment,
  progress: (message: string) => void,
  once: (ports: Ports) => Promise<Recovered>,
): Promise<Recovery> {
  const functions = openFunctions(deployment);
  const broker = await openBroker(deployment.broker);
  const control = (event: ControlEvent) => functions.invoke<ControlAnswer>(deployment.controlFunction, event);
  let found: Recovery["found"] | null = null;
  const steps: RecoveryStep[] = [];
  const startedMs = Date.now();
  try {
    for (let round = 1; ; round++) {
      const result = await once({ deployment, functions, broker, control, progress });
      found ??= result.found;
      steps.push(...result.steps);
      const overtaken = result.state === "failover" || result.state === "restoring";
      if (!overtaken || round === ROUNDS) return { ...result, found, steps, seconds: (Date.now() - startedMs) / 1_000 };
      progress("another primary came to answer during the replay: replaying once more");
    }
  } finally {
    functions.close();
    await broker.close();
  }
}

async function recoverOnce(ports: Ports, snapshot: string): Promise<Recovered> {
  const { control, progress } = ports;
  const found = await control({});
  const { state } = found;
  if (state === "ok") {
    const opened = await loadSnapshot(ports.functions, ports.deployment, { snapshot, resume: true }, progress);
    // Of a live store, cut off before its first bucket was blocked.
    if (opened?.state === "loaded") return openRestored(ports, state, opened);
    // Whoever opened it may have died before the repairs were back.
    await repeatRepairs(ports);
    if (opened?.state === "opened") await finishRestore(ports);
    await pushAgain(ports);
  }
  if (state === "ok" || state === "new")
    return { found: state, state, steps: [], unready: unreadyOf(found), older: {}, undone: [] };
  if (state === "failover") return replayAndOpen(ports, state, true);
  // Of a restore that was cut off, whatever is asked for now.
  const resumed = await loadSnapshot(ports.functions, ports.deployment, { snapshot, resume: true }, progress);
  if (resumed !== null) return openRestored(ports, state, resumed);
  if (state === "restoring") return replayAndOpen(ports, state, false);
  const round = snapshot === "none" ? null : chooseRound(await listRounds(ports.functions, ports.deployment), snapshot);
  if (round !== null) return openRestored(ports, state, await load(ports, { snapshot: round.round }, found));
  const fromMs = Object.fromEntries(
    (await streamsOf(ports, found)).flatMap(({ name, listed }) =>
      isWhole(listed) ? [] : [[name, replayableMs(listed, Date.now())]],
    ),
  );
  progress("there is no snapshot: beginning a new epoch, to replay what the broker holds of the streams");
  for (const [name, ms] of Object.entries(fromMs))
    progress(
      `${name}: events before ${new Date(ms).toISOString()} come from the archive, by \`freshet backfill\` once this is done`,
    );
  await control({ kind: "restore", fromMs });
  return replayAndOpen(ports, state, false);
}

const chosen = (rounds: Parameters<typeof chooseRound>[0], snapshot: string) => {
  const round = chooseRound(rounds, snapshot);
  if (round !== null) return round;
  throw new FreshetError("snapshot_missing", "there is no snapshot yet", {
    repair: "the first one is taken within a quarter of an hour",
  });
};

/** @throws FreshetError `recovery_incomplete`, with nothing changed, when neither broker nor archive reach back to the snapshot's seals */
async function load(ports: Ports, request: RestoreRequest, found: ControlAnswer): Promise<RestoreReport> {
  const { functions, deployment, progress } = ports;
  const { seals } = chosen(await listRounds(functions, deployment), request.snapshot);
  for (const { name, listed } of await streamsOf(ports, found))
    await gapOf(ports, name, comesSince(listed), seals[name])?.check();
  const report = await loadSnapshot(functions, deployment, request, progress);
  for (const [bucket, why] of Object.entries(report!.older)) progress(`bucket ${bucket}: ${why}`);
  return report!;
}

async function streamsOf({ deployment, broker }: Ports, { beganMs = {} }: ControlAnswer) {
  return Promise.all(
    Object.entries(deployment.streams).map(async ([name, ofBroker]) => {
      const list = async () => heldSince(await broker.list(ofBroker), beganMs[name]);
      return { name, ofBroker, list, listed: await list() };
    }),
  );
}

/** Brings what a snapshot that is loaded lacks. */
async function openRestored(
  ports: Ports,
  found: Recovery["found"],
  { older, undone, startedMs }: RestoreReport,
): Promise<Recovered> {
  return { ...(await replayAndOpen(ports, found, true, startedMs)), older, undone };
}

/**
 * @param sinceSeal replays what arrived since each stream's seal; else all that there is
 * @param startedMs of the snapshot that was restored: what was repaired since is built anew once the store is open
 */
async function replayAndOpen(
  ports: Ports,
  found: Recovery["found"],
  sinceSeal: boolean,
  startedMs?: number,
): Promise<Recovered> {
  const { control, functions, broker, deployment, progress } = ports;
  const now = await control({});
  const { seals, runs } = now;
  // Before what is replayed: a store that was lost, or lacks a suffix, may have forgotten who is erased.
  const forgotten: EraseEvent = { kind: "replant" };
  await functions.invoke(deployment.eraseFunction, forgotten);
  const steps: RecoveryStep[] = [];
  for (const { name, ofBroker, list, listed } of await streamsOf(ports, now)) {
    const sealMs = seals[name];
    if (sinceSeal && sealMs === undefined) continue;
    const step = { stream: name, records: 0, applied: 0, unread: 0 };
    const reach = startedMs === undefined ? ({ heldSinceMs }: ListedStream) => heldSinceMs : comesSince;
    const gap = sinceSeal ? gapOf(ports, name, reach(listed), sealMs) : null;
    const fromArchive = async (newest: ListedStream) => {
      if (gap === null) return;
      const { records, applied } = await gap.run(reach(newest));
      step.records += records;
      step.applied += applied;
    };
    await fromArchive(listed);
    await eachAtMost(SHARDS_AT_ONCE, listed.shards, async ({ id }) => {
      for await (const records of broker.readShard(ofBroker, id, sinceSeal ? sealMs - FUTURE_LIMIT_MS : null)) {
        const event = replayEvent(name, id, records);
        const { applied, unread } = await functions.invoke<ReplayResult>(deployment.aggregateFunction, event);
        step.records += records.length;
        step.applied += applied;
        step.unread += unread;
        progress(`${name}: ${step.records} records replayed, ${step.applied} events were missing`);
      }
    });
    // What the broker has lost while it was read.
    if (gap !== null) await fromArchive(await list());
    steps.push(step);
  }
  // A replay from the beginning brings no event that was late even then: all repairs are lacking.
  const repairsSinceMs = startedMs !== undefined ? startedMs - SNAPSHOT_SKEW_MS : sinceSeal ? undefined : 0;
  const accepted = await control({ kind: "accept", runs, repairsSinceMs });
  if (accepted.state === "ok") {
    await repeatRepairs(ports);
    if (startedMs !== undefined) await finishRestore(ports);
    await pushAgain(ports);
  }
  return { found, state: accepted.state, steps, unready: unreadyOf(accepted), older: {}, undone: [] };
}

/** What the broker may have lost of what arrived since a seal; null where it holds all of it. */
function gapOf(ports: Ports, stream: string, heldSinceMs: number, sealMs: number | undefined): ArchiveGapReplay | null {
  if (sealMs === undefined || sealMs - FUTURE_LIMIT_MS >= heldSinceMs) return null;
  return new ArchiveGapReplay({ ...ports, clock: Date.now }, { stream, sealMs });
}

/** What was done, for people. */
export function tellRecovery({ steps, found, state, unready, older, undone, seconds }: Recovery): void {
  const rows = steps.map(({ stream, records, applied }) => [stream, String(records), String(applied)]);
  process.stdout.write(`${formatTable([["stream", "records replayed", "events that were missing"], ...rows])}\n`);
  for (const { stream, unread } of steps)
    if (unread > 0)
      process.stdout.write(
        `${unread} records of ${stream} cannot be read by the deployed contract: they are in the quarantine, or were counted under another contract; freshet verify tells, freshet replay --stream ${stream} brings the latter from the archive\n`,
      );
  for (const [bucket, why] of Object.entries(older)) process.stdout.write(`bucket ${bucket}: ${why}\n`);
  process.stdout.write(`the store was ${found} and is ${state}, after ${seconds.toFixed(0)} s\n`);
  for (const view of unready)
    process.stdout.write(`${view} lacks history that a replay does not bring: freshet backfill --view ${view}\n`);
  for (const stream of undone)
    process.stdout.write(
      `entities of ${stream} had been rebuilt since the snapshot, which the restore has undone: freshet audit names them; rebuild them again\n`,
    );
}

/** All that the restore lacked is there. Until this is said, a `recover` that finds the store open says it. */
async function finishRestore({ functions, deployment }: Ports): Promise<void> {
  const done: RestoreEvent = { kind: "finish" };
  await functions.invoke(deployment.restoreFunction, done);
}

/**
 * What the store lacks of them no replay brings: they were below the seal. Which these are the control table knows. A build that holds a stream is waited for.
 */
async function repeatRepairs({ functions, deployment, progress }: Ports): Promise<void> {
  const event: BuildEvent = { kind: "repairs" };
  for (;;) {
    const { entities, waiting } = await functions.invoke<RepeatReport>(deployment.buildFunction, event);
    if (entities > 0) progress(`the newest repairs: ${entities} entities built anew`);
    if (waiting.length === 0) return;
    progress(`waiting: ${waiting[0]}`);
    await sleep(WAIT_MS);
  }
}

/** What was pushed, and values of batch views: until they are back, reads of them say so. */
async function pushAgain({ functions, deployment, progress }: Ports): Promise<void> {
  const event: MaterializeEvent = { kind: "restore" };
  for (let rows = 0; ; ) {
    const report = await functions.invoke<RestoredValues>(deployment.materializeFunction, event);
    rows += report.rows;
    if (rows > 0) progress(`pushed values: ${rows} pushed again`);
    if (report.isWhole) return;
  }
}

const unreadyOf = ({ unready }: ControlReport): string[] => unready.map(({ view }) => view);

const replayEvent = (stream: string, shard: string, records: readonly ShardRecord[]): ReplayEvent => ({
  replay: true,
  stream,
  shard,
  records: records.map(({ sequence, arrivalMs, data }) => ({
    sequence,
    arrivalMs,
    data: Buffer.from(data).toString("base64"),
  })),
});

/** Does the work of all items, so many at a time; the first error ends it. */
async function eachAtMost<T>(limit: number, items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const waiting = [...items];
  const lane = async (): Promise<void> => {
    for (let item = waiting.shift(); item !== undefined; item = waiting.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: limit }, lane));
}
