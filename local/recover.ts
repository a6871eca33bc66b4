/** Brings the online store back to all that was acknowledged, from what the broker still holds. */

import {
  GetRecordsCommand,
  GetShardIteratorCommand,
  type KinesisClient,
  type KinesisClientConfig,
} from "@aws-sdk/client-kinesis";
import { InvokeCommand, LambdaClient, type LambdaClientConfig } from "@aws-sdk/client-lambda";
import { createKinesisClient } from "../adapters/kinesis-client.ts";
import { listStream } from "../adapters/kinesis-shards.ts";
import { FreshetError } from "../core/errors.ts";
import type { ControlReport } from "../functions/shared/control-loop.ts";
import type { Deployment } from "./state.ts";

/** Events up to this much ahead of their arrival may lie in a tile above the seal. */
const AHEAD_MS = 60_000;
/** Raw bytes of one replayed batch; base64 and JSON stay below the 6 MB of an invocation. */
const BATCH_BYTES = 3_000_000;
/** What a stream keeps at least; records older than this may be gone. */
const RETENTION_MS = 24 * 3_600_000;

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
}

/**
 * A failover: replays what arrived since the seal, then takes the new primary for whole. A lost store: begins a new epoch
 * and replays all that the broker holds, which is everything while the streams are younger than their retention.
 * @throws FreshetError `recovery_incomplete` when the broker no longer holds all that is needed; nothing is changed then
 */
export async function recover(
  config: LambdaClientConfig,
  deployment: Deployment,
  progress: (message: string) => void,
): Promise<Recovery> {
  let found: Recovery["found"] | null = null;
  const steps: RecoveryStep[] = [];
  for (let round = 1; ; round++) {
    const result = await recoverOnce(config, deployment, progress);
    found ??= result.found;
    steps.push(...result.steps);
    const overtaken = result.state === "failover" || result.state === "restoring";
    if (!overtaken || round === ROUNDS) return { found, state: result.state, steps };
    progress("another primary came to answer during the replay: replaying once more");
  }
}

async function recoverOnce(
  config: LambdaClientConfig,
  deployment: Deployment,
  progress: (message: string) => void,
): Promise<Recovery> {
  const lambda = new LambdaClient(config);
  const kinesis = createKinesisClient(config as KinesisClientConfig);
  const control = (event: unknown) => invoke<ControlReport>(lambda, deployment.controlFunction, event);
  try {
    const found = await control({});
    if (found.state === "ok" || found.state === "new") return { found: found.state, state: found.state, steps: [] };
    const streams = await Promise.all(
      Object.entries(deployment.streams).map(async ([name, kinesisName]) => ({
        name,
        kinesisName,
        listed: await listStream(kinesis, kinesisName),
      })),
    );
    if (found.state === "lost") {
      const oldest = Math.min(...streams.map(({ listed }) => listed.createdAtMs));
      if (Date.now() - oldest > RETENTION_MS) {
        throw new FreshetError(
          "recovery_incomplete",
          "the store is lost, and the broker no longer holds the streams from their beginning",
          {
            repair:
              "restore a snapshot, then replay; applies stay blocked until then, and nothing acknowledged is lost",
          },
        );
      }
      progress("beginning a new epoch");
      await control({ kind: "restore" });
    }
    const steps: RecoveryStep[] = [];
    for (const { name, kinesisName, listed } of streams) {
      const sealMs = found.seals[name];
      const fromMs = found.state === "failover" && sealMs !== undefined ? sealMs - AHEAD_MS : null;
      if (found.state === "failover" && sealMs === undefined) continue;
      const step = { stream: name, records: 0, applied: 0 };
      for (const shard of listed.shards) {
        for await (const records of readShard(kinesis, kinesisName, shard.id, fromMs)) {
          const { applied } = await invoke<{ applied: number }>(
            lambda,
            deployment.controlFunction.replace(/control$/, "aggregate"),
            replayEvent(kinesisName, shard.id, records),
          );
          step.records += records.length;
          step.applied += applied;
          progress(`${name}: ${step.records} records replayed, ${step.applied} events were missing`);
        }
      }
      steps.push(step);
    }
    const { state } = await control({ kind: "accept", runs: found.runs });
    return { found: found.state, state, steps };
  } finally {
    lambda.destroy();
    kinesis.destroy();
  }
}

interface ShardRecord {
  readonly sequence: string;
  readonly arrivalMs: number;
  readonly data: Uint8Array;
}

/** Batches of a shard from an arrival on (null: from its beginning) up to its present end. */
async function* readShard(
  kinesis: KinesisClient,
  stream: string,
  shard: string,
  fromMs: number | null,
): AsyncGenerator<ShardRecord[]> {
  const { ShardIterator } = await kinesis.send(
    new GetShardIteratorCommand({
      StreamName: stream,
      ShardId: shard,
      // Filtered below as well: an emulator may begin elsewhere than at the timestamp.
      ShardIteratorType: "TRIM_HORIZON",
    }),
  );
  let iterator = ShardIterator;
  let batch: ShardRecord[] = [];
  let bytes = 0;
  while (iterator !== undefined) {
    const page = await kinesis.send(new GetRecordsCommand({ ShardIterator: iterator, Limit: 2_000 }));
    for (const { SequenceNumber, ApproximateArrivalTimestamp, Data } of page.Records ?? []) {
      const arrivalMs = ApproximateArrivalTimestamp!.getTime();
      if (fromMs !== null && arrivalMs < fromMs) continue;
      if (bytes + Data!.length > BATCH_BYTES && batch.length > 0) {
        yield batch;
        batch = [];
        bytes = 0;
      }
      batch.push({ sequence: SequenceNumber!, arrivalMs, data: Data! });
      bytes += Data!.length;
    }
    if ((page.Records ?? []).length === 0 && (page.MillisBehindLatest ?? 0) === 0) break;
    iterator = page.NextShardIterator;
  }
  if (batch.length > 0) yield batch;
}

const replayEvent = (stream: string, shard: string, records: readonly ShardRecord[]) => ({
  replay: true,
  Records: records.map(({ sequence, arrivalMs, data }) => ({
    eventSourceARN: `arn:aws:kinesis:us-east-1:000000000000:stream/${stream}`,
    eventID: `${shard}:${sequence}`,
    kinesis: {
      sequenceNumber: sequence,
      approximateArrivalTimestamp: arrivalMs / 1000,
      data: Buffer.from(data).toString("base64"),
    },
  })),
});

async function invoke<T>(lambda: LambdaClient, name: string, event: unknown): Promise<T> {
  const answer = await lambda.send(new InvokeCommand({ FunctionName: name, Payload: JSON.stringify(event) }));
  const payload = JSON.parse(answer.Payload?.transformToString() || "null");
  if (answer.FunctionError !== undefined) {
    throw new FreshetError("function_failed", `${name} failed: ${payload?.errorMessage ?? "no message"}`, {
      repair: `run \`freshet logs ${name.split("-").pop()}\``,
    });
  }
  return payload as T;
}
