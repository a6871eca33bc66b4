/**
 * Brings a deployment's online store back to all that was acknowledged, from what the broker still holds. The broker is read
 * here; the store, which on AWS nobody outside its VPC can reach, is changed by the control and the aggregate function.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { KinesisClient, KinesisClientConfig } from "@aws-sdk/client-kinesis";
import { createKinesisClient } from "../adapters/kinesis-client.ts";
import { type ListedStream, listStream } from "../adapters/kinesis-shards.ts";
import { FreshetError } from "../core/errors.ts";
import type { ReplayEvent } from "../functions/aggregate.ts";
import type { BuildEvent } from "../functions/build.ts";
import type { ControlEvent } from "../functions/control.ts";
import type { EraseEvent } from "../functions/erase.ts";
import type { ControlReport } from "../functions/shared/control-loop.ts";
import type { RepeatReport } from "../functions/shared/repeat-repairs.ts";
import type { OperatedDeployment } from "./deployment.ts";
import { type Functions, openFunctions } from "./invoke.ts";
import { readShard, type ShardRecord } from "./shard-reader.ts";

/** Events up to this much ahead of their arrival may lie in a tile above the seal. */
const AHEAD_MS = 60_000;
/** Shards read at once: each gives 2 MB/s at most, and the functions share the store with the stream's own batches. */
const SHARDS_AT_ONCE = 8;
/** A shard's readers share its five calls a second. */
const MAX_ATTEMPTS = 10;
const WAIT_MS = 5_000;
/** A store that fails over during one replay after the other needs somebody to look at it. */
const ROUNDS = 3;

export interface RecoveryStep {
  readonly stream: string;
  readonly records: number;
  readonly applied: number;
}
export interface Recovery {
  /** What was wrong: nothing, a failover that may have lost a suffix, or a store that is gone. */
  readonly found: ControlReport["state"];
  readonly state: ControlReport["state"];
  readonly steps: readonly RecoveryStep[];
  /** Views that lack history which no replay brings. */
  readonly unready: readonly string[];
}

/**
 * A failover: replays what arrived since the seal, then takes the new primary for whole. A lost store: begins a new epoch
 * and replays all that the broker holds, which is everything while the streams are younger than their retention.
 * @throws FreshetError `recovery_incomplete` when the broker no longer holds all that is needed, with nothing changed;
 *   `function_failed`, after which it may be run again
 */
export async function recover(deployment: OperatedDeployment, progress: (message: string) => void): Promise<Recovery> {
  const functions = openFunctions(deployment);
  const kinesis = createKinesisClient({
    ...(deployment.clientConfig as KinesisClientConfig),
    maxAttempts: MAX_ATTEMPTS,
  });
  let found: Recovery["found"] | null = null;
  const steps: RecoveryStep[] = [];
  try {
    for (let round = 1; ; round++) {
      const result = await recoverOnce(functions, kinesis, deployment, progress);
      found ??= result.found;
      steps.push(...result.steps);
      const overtaken = result.state === "failover" || result.state === "restoring";
      if (!overtaken || round === ROUNDS) return { ...result, found, steps };
      progress("another primary came to answer during the replay: replaying once more");
    }
  } finally {
    functions.close();
    kinesis.destroy();
  }
}

async function recoverOnce(
  functions: Functions,
  kinesis: KinesisClient,
  deployment: OperatedDeployment,
  progress: (message: string) => void,
): Promise<Recovery> {
  const control = (event: ControlEvent) => functions.invoke<ControlReport>(deployment.controlFunction, event);
  const found = await control({});
  if (found.state === "ok" || found.state === "new")
    return { found: found.state, state: found.state, steps: [], unready: unreadyOf(found) };
  const streams = await Promise.all(
    Object.entries(deployment.streams).map(async ([name, kinesisName]) => ({
      name,
      kinesisName,
      listed: await listStream(kinesis, kinesisName),
    })),
  );
  if (found.state === "lost") {
    assertWhole(streams.map(({ listed }) => listed));
    progress("beginning a new epoch");
    await control({ kind: "restore" });
  }
  // Before what is replayed: a store that was lost, or lacks a suffix, may have forgotten who is erased.
  const forgotten: EraseEvent = { kind: "replant" };
  await functions.invoke(deployment.eraseFunction, forgotten);
  const steps: RecoveryStep[] = [];
  for (const { name, kinesisName, listed } of streams) {
    const sealMs = found.seals[name];
    if (found.state === "failover" && sealMs === undefined) continue;
    const fromMs = found.state === "failover" ? sealMs - AHEAD_MS : null;
    const step = { stream: name, records: 0, applied: 0 };
    await eachAtMost(SHARDS_AT_ONCE, listed.shards, async ({ id }) => {
      for await (const records of readShard(kinesis, kinesisName, id, fromMs)) {
        const event = replayEvent(listed.arn, id, records);
        const { applied } = await functions.invoke<{ applied: number }>(deployment.aggregateFunction, event);
        step.records += records.length;
        step.applied += applied;
        progress(`${name}: ${step.records} records replayed, ${step.applied} events were missing`);
      }
    });
    steps.push(step);
  }
  const accepted = await control({ kind: "accept", runs: found.runs });
  if (found.state === "failover" && accepted.state === "ok") await repeatRepairs(functions, deployment, progress);
  return { found: found.state, state: accepted.state, steps, unready: unreadyOf(accepted) };
}

/** What a replica lacked of them no replay brings: they were below the seal. A build that holds a stream is waited for. */
async function repeatRepairs(
  functions: Functions,
  { buildFunction }: OperatedDeployment,
  progress: (message: string) => void,
): Promise<void> {
  const event: BuildEvent = { kind: "repairs" };
  for (;;) {
    const { entities, waiting } = await functions.invoke<RepeatReport>(buildFunction, event);
    if (entities > 0) progress(`the newest repairs: ${entities} entities built anew`);
    if (waiting.length === 0) return;
    progress(`waiting: ${waiting[0]}`);
    await sleep(WAIT_MS);
  }
}

const unreadyOf = ({ unready }: ControlReport): string[] => unready.map(({ view }) => view);

/** @throws FreshetError `recovery_incomplete` when a stream may no longer hold its first record */
function assertWhole(streams: readonly ListedStream[]): void {
  if (streams.every(({ createdAtMs, retentionMs }) => Date.now() - createdAtMs <= retentionMs)) return;
  throw new FreshetError(
    "recovery_incomplete",
    "the store is lost, and the broker no longer holds the streams from their beginning",
    { repair: "restore a snapshot, then replay; applies stay blocked until then, and nothing acknowledged is lost" },
  );
}

/** As much of the mapping's form as the aggregate function reads. */
type Replay = Pick<ReplayEvent, "replay"> & {
  readonly Records: readonly {
    readonly eventSourceARN: string;
    readonly eventID: string;
    readonly kinesis: Pick<
      ReplayEvent["Records"][number]["kinesis"],
      "sequenceNumber" | "approximateArrivalTimestamp" | "data"
    >;
  }[];
};

const replayEvent = (streamArn: string, shard: string, records: readonly ShardRecord[]): Replay => ({
  replay: true,
  Records: records.map(({ sequence, arrivalMs, data }) => ({
    eventSourceARN: streamArn,
    eventID: `${shard}:${sequence}`,
    kinesis: {
      sequenceNumber: sequence,
      approximateArrivalTimestamp: arrivalMs / 1000,
      data: Buffer.from(data).toString("base64"),
    },
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
