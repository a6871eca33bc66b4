/**
 * Delivers again what the mapping gave up (DESIGN §6, Failure): each batch goes through the whole path once more, with the
 * arrivals that it had, and its object is removed after everything is durable. Killed anywhere, the next run does it again.
 */
import type { Attempts, FailedBatch, FailedBatches } from "../../adapters/failed-batches.ts";
import { FreshetError, InfrastructureError } from "../../core/errors.ts";
import { type AggregationPorts, aggregateBatch, type BatchResult } from "./aggregation.ts";

/** A batch that throws by itself is looked at by somebody after so many runs. What the infrastructure does is not counted. */
const MAX_ATTEMPTS = 3;

export interface FailedReplayPorts {
  readonly batches: Pick<FailedBatches, "list" | "read" | "remove" | "attempts" | "note">;
  /** @throws FreshetError `stream_unknown`, InfrastructureError */
  readonly portsFor: (streamArn: string) => Promise<AggregationPorts>;
  readonly onBatch: (batch: FailedBatch, key: string, result: BatchResult) => void;
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
      const result = await replayOne(ports, key);
      left--;
      tried.delete(key);
      if (result === null) continue;
      report.batches++;
      for (const count of ["applied", "duplicates", "late", "quarantined"] as const) report[count] += result[count];
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

async function replayOne({ batches, portsFor, onBatch }: FailedReplayPorts, key: string): Promise<BatchResult | null> {
  const batch = await batches.read(key);
  if (batch === null) return null;
  // Under its shard's name: what its last delivery has registered holds the seal, and goes with this.
  const again = { registeredAs: batch.shard };
  const result = await aggregateBatch(await portsFor(batch.streamArn), batch.shard, batch.records, again);
  await batches.remove(key);
  onBatch(batch, key, result);
  return result;
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
