/**
 * Delivers again what the mapping gave up (DESIGN §6, Failure): each batch goes through the whole path once more, with the
 * arrivals that it had, and its object is removed after everything is durable. Killed anywhere, the next run does it again.
 */
import type { DeliveredRun } from "../../../adapters/mapping/delivery.ts";
import type { Attempts, FailedBatches } from "../../../adapters/mapping/failed-batches.ts";
import { FreshetError, InfrastructureError } from "../../../core/errors.ts";
import { type AggregationPorts, aggregateBatch, type BatchResult } from "../aggregation/aggregation.ts";

/** A batch that throws by itself is looked at by somebody after so many runs. What the infrastructure does is not counted. */
const MAX_ATTEMPTS = 3;

export interface FailedReplayPorts {
  readonly batches: Pick<FailedBatches, "list" | "read" | "remove" | "attempts" | "note">;
  /** @throws FreshetError `stream_unknown`, InfrastructureError */
  readonly portsFor: (stream: string) => Promise<AggregationPorts>;
  readonly onBatch: (runs: readonly DeliveredRun[], key: string) => void;
  readonly onFailure: (key: string, error: unknown) => void;
}

export interface FailedReplayReport {
  /** Batches whose objects are gone now. */
  readonly batches: number;
  readonly applied: number;
  readonly duplicates: number;
  readonly late: number;
  readonly quarantined: number;
  /** Objects that are left, parked ones included. */
  readonly waiting: number;
  readonly parked: number;
}

/**
 * @param options.retryParked tries those again that are tried no more
 * @param isOutOfTime no batch is begun when it says so
 */
export async function replayFailed(
  ports: FailedReplayPorts,
  isOutOfTime: () => boolean,
  options: { readonly retryParked?: boolean } = {},
): Promise<FailedReplayReport> {
  const { batches, onFailure } = ports;
  const [keys, known] = await Promise.all([batches.list(), batches.attempts()]);
  const tried = new Map(keys.flatMap((key) => (known.has(key) ? [[key, known.get(key)!]] : [])));
  const attemptsOf = (key: string) => tried.get(key)?.attempts ?? 0;
  const report = { batches: 0, applied: 0, duplicates: 0, late: 0, quarantined: 0 };
  // Those that have failed least go first: one that always fails keeps nobody waiting.
  const due = keys
    .filter((key) => options.retryParked || !tried.get(key)?.parked)
    .sort((a, b) => attemptsOf(a) - attemptsOf(b) || (a < b ? -1 : 1));
  let left = keys.length;
  for (const key of due) {
    if (isOutOfTime()) break;
    try {
      const results = await replayOne(ports, key);
      left--;
      tried.delete(key);
      if (results.length > 0) report.batches++;
      for (const count of ["applied", "duplicates", "late", "quarantined"] as const) {
        for (const result of results) report[count] += result[count];
      }
    } catch (error) {
      onFailure(key, error);
      const failed = failedOnce(error, attemptsOf(key));
      tried.set(key, failed);
      await batches.note(key, failed);
      if (error instanceof InfrastructureError) break;
    }
  }
  const parked = [...tried.values()].filter((one) => one.parked).length;
  return { ...report, waiting: left, parked };
}

/** @returns of each shard, which a batch of Kafka may hold several of; empty when another run has removed the object */
async function replayOne({ batches, portsFor, onBatch }: FailedReplayPorts, key: string): Promise<BatchResult[]> {
  const runs = await batches.read(key);
  if (runs === null) return [];
  const results: BatchResult[] = [];
  for (const { stream, shard, records } of runs) {
    // Under its shard's name: what its last delivery has registered holds the seal, and goes with this.
    results.push(await aggregateBatch(await portsFor(stream), shard, records, { registeredAs: shard }));
  }
  await batches.remove(key);
  onBatch(runs, key);
  return results;
}

function failedOnce(error: unknown, before: number): Attempts {
  const own = error instanceof FreshetError;
  const outage = error instanceof InfrastructureError;
  return {
    attempts: before + 1,
    parked: !outage && before + 1 >= MAX_ATTEMPTS,
    code: own ? error.code : "processing_failed",
    message: own ? error.message : "an unexpected error; the function's log has it",
  };
}
