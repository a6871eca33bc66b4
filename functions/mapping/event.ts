/** What passes between the mapping and the function: Lambda's event of a self-managed Kafka, and what its answer means. */
import type { TopicRecord } from "../../adapters/kafka/records.ts";

/** A batch of one partition, in the documented form. */
export function kafkaEvent(
  bootstrapServers: string,
  topic: string,
  partition: number,
  records: readonly TopicRecord[],
) {
  return {
    eventSource: "SelfManagedKafka" as const,
    bootstrapServers,
    records: {
      [`${topic}-${partition}`]: records.map(({ offset, timestampMs, timestampType, key, value, headers }) => ({
        topic,
        partition,
        offset: Number(offset),
        timestamp: timestampMs,
        timestampType,
        ...(key === null ? {} : { key: key.toString("base64") }),
        ...(value === null ? {} : { value: value.toString("base64") }),
        headers: headers.map(([name, bytes]) => ({ [name?.toString("utf8") ?? ""]: [...(bytes ?? [])] })),
      })),
    },
  };
}

/**
 * How many records of the batch are done, from its beginning on. An answer that names a record to be delivered again leaves it and what comes
 * behind it; one that is not understood leaves all, since a batch that is taken for done is never seen again.
 */
export function doneOf(answer: unknown, records: readonly TopicRecord[]): number {
  if (answer === null || answer === undefined) return records.length;
  const failures = (answer as { batchItemFailures?: unknown }).batchItemFailures;
  if (failures === null || failures === undefined) return typeof answer === "object" ? records.length : 0;
  if (!Array.isArray(failures)) return 0;
  let done = records.length;
  for (const failure of failures as readonly { itemIdentifier?: { offset?: unknown } | null }[]) {
    const offset = failure?.itemIdentifier?.offset;
    const index = records.findIndex((record) => Number(record.offset) === offset);
    if (index < 0) return 0;
    done = Math.min(done, index);
  }
  return done;
}
