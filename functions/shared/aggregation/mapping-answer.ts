/** What a mapping is told of the runs that it delivered together. */
import type { DeliveredRun } from "../../../adapters/mapping/delivery.ts";

/**
 * Of Kafka: each partition that is to be delivered again, and from which offset on (Lambda developer guide,
 * kafka-retry-configurations).
 */
export interface MappingAnswer {
  readonly batchItemFailures: readonly {
    readonly itemIdentifier: { readonly partition: string; readonly offset: number };
  }[];
}

/**
 * A mapping that knows nothing of partial answers would take one for success: it gets none, and delivers what succeeded again, too,
 * which changes nothing.
 * @param outcomes aligned with the runs
 * @throws whatever a run failed with, unless others succeeded and the mapping takes a partial answer
 */
export function answerMapping(
  runs: readonly DeliveredRun[],
  outcomes: readonly PromiseSettledResult<void>[],
  takesPartial: boolean,
): MappingAnswer {
  const failed = runs.filter((_, i) => outcomes[i].status === "rejected");
  if (failed.length === 0) return { batchItemFailures: [] };
  if (!takesPartial || failed.length === runs.length) {
    throw outcomes.find((outcome) => outcome.status === "rejected")!.reason;
  }
  return {
    batchItemFailures: failed.map(({ stream, shard, records }) => ({
      itemIdentifier: { partition: `${stream}-${shard}`, offset: Number(records[0].sequence) },
    })),
  };
}
