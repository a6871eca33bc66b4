/**
 * Delivers a range of arrivals again: from the archive, which the replay function reads, or from the broker, which is read here. What the
 * store has is not counted again, so it may be ended anywhere and run twice.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { ShardRecord } from "../adapters/broker/broker.ts";
import { openBroker } from "../adapters/broker/open-broker.ts";
import type { BuildEvent } from "../functions/build.ts";
import type { RecordsReport, ReplayEvent } from "../functions/replay.ts";
import type { ArchiveReplayReport, ReplayCounts } from "../functions/shared/replay/archive-replay.ts";
import type { OperatedDeployment } from "./deployment.ts";
import type { Functions } from "./invoke.ts";
import { addCounts, type ReplayState } from "./replay-state.ts";

export interface Replay {
  readonly stream: string;
  /** Arrivals, half-open. */
  readonly fromMs: number;
  readonly toMs: number;
  readonly sealMs: number;
  readonly dryRun: boolean;
  readonly ratePerS: number | undefined;
}

export interface ReplayRun {
  readonly deployment: OperatedDeployment;
  readonly functions: Functions;
  readonly signal: AbortSignal;
  /** Where it goes on. */
  readonly state: ReplayState;
  /** What is done for good. @param share 0 to 1 */
  readonly keep: (state: ReplayState, share: number) => void;
}

/** Of one call of the function: short enough to be told of. */
const BUDGET_MS = 15_000;

/** Compaction takes raw objects away a day after it has replaced them: for so long they are there for certain. */
const RAW_MS = 24 * 3_600_000;
/** So long before that they are read elsewhere, and as much again at once. */
const EARLY_MS = 2 * 3_600_000;

/** What is older than a day by event time, in the build function; what is younger object by object, in the replay function. */
export async function replayFromArchive(replay: Replay, run: ReplayRun, clock = Date.now): Promise<ReplayCounts> {
  const { functions, deployment, signal, keep } = run;
  const { fromMs, toMs } = replay;
  let { state } = run;
  for (;;) {
    signal.throwIfAborted();
    const { doneMs = fromMs } = state;
    const youngMs = clock() - RAW_MS + EARLY_MS;
    if (state.settled === undefined && doneMs < Math.min(toMs, youngMs))
      state = { ...state, settled: { toMs: Math.min(toMs, youngMs + EARLY_MS), after: null } };
    const { settled } = state;
    const part = {
      fromMs: doneMs,
      toMs: settled?.toMs ?? toMs,
      after: settled === undefined ? state.after : settled.after,
    };
    const event = {
      kind: "archive",
      replay: { ...replay, ...part },
      budgetMs: BUDGET_MS,
    } satisfies ReplayEvent & BuildEvent;
    const name = settled === undefined ? deployment.replayFunction : deployment.buildFunction;
    const report = await functions.invoke<ArchiveReplayReport>(name, event);
    const counts = addCounts(state.counts, report);
    const isDone = report.state === "done";
    if (settled === undefined) state = { ...state, counts, after: report.after };
    else if (isDone) state = { ...state, counts, doneMs: settled.toMs, settled: undefined };
    else state = { ...state, counts, settled: { ...settled, after: report.after } };
    const share = report.objects === 0 ? 1 : report.objectsDone / report.objects;
    keep(state, (part.fromMs - fromMs + share * (part.toMs - part.fromMs)) / (toMs - fromMs));
    if (isDone && part.toMs === toMs) return state.counts;
  }
}

export async function replayFromBroker(replay: Replay, run: ReplayRun): Promise<ReplayCounts> {
  const { deployment, signal, keep } = run;
  const broker = await openBroker(deployment.broker);
  let { state } = run;
  const startedMs = Date.now();
  const eventsBefore = state.counts.events;
  try {
    const ofBroker = deployment.streams[replay.stream]!;
    const { shards } = await broker.list(ofBroker);
    for (const [i, { id }] of shards.entries()) {
      const from = state.shards[id] ?? replay.fromMs;
      for await (const batch of broker.readShard(ofBroker, id, from)) {
        signal.throwIfAborted();
        const records = batch.filter(({ arrivalMs }) => arrivalMs >= replay.fromMs && arrivalMs < replay.toMs);
        const counts = records.length === 0 ? {} : await deliver(replay, run, id, records);
        const last = batch[batch.length - 1]!;
        state = { ...state, shards: { ...state.shards, [id]: last.sequence }, counts: addCounts(state.counts, counts) };
        const within = (last.arrivalMs - replay.fromMs) / (replay.toMs - replay.fromMs);
        keep(state, (i + Math.min(1, Math.max(0, within))) / shards.length);
        // A shard is read in the order of arrivals.
        if (last.arrivalMs >= replay.toMs) break;
        if (replay.ratePerS === undefined) continue;
        const dueMs = startedMs + ((state.counts.events - eventsBefore) / replay.ratePerS) * 1_000;
        if (dueMs > Date.now()) await sleep(dueMs - Date.now(), undefined, { signal });
      }
    }
    return state.counts;
  } finally {
    await broker.close();
  }
}

async function deliver(
  { dryRun, stream }: Replay,
  { functions, deployment }: ReplayRun,
  shard: string,
  records: readonly ShardRecord[],
): Promise<Partial<ReplayCounts>> {
  // What is in a record is only known where it is opened: a dry run counts records.
  if (dryRun) return { events: records.length };
  const event = {
    ...{ kind: "records" as const, stream, shard },
    records: records.map(({ sequence, arrivalMs, data }) => ({
      ...{ sequence, arrivalMs, data: Buffer.from(data).toString("base64") },
    })),
  } satisfies ReplayEvent;
  const { quarantined, ...counts } = await functions.invoke<RecordsReport>(deployment.replayFunction, event);
  return { ...counts, refused: quarantined };
}
