/**
 * Records of a fetch, each with the broker's own time. The client's streams of messages give the producer's: of a batch with
 * LogAppendTime the broker changes nothing but an attribute and the greatest timestamp.
 */
import type { RecordsBatch } from "@platformatic/kafka";

/** As much of what is fetched of a partition as tells its records. */
export interface FetchedPartition {
  readonly records?: readonly RecordsBatch[] | null;
  readonly abortedTransactions: readonly { readonly producerId: bigint; readonly firstOffset: bigint }[] | null;
}

export interface TopicRecord {
  readonly offset: bigint;
  readonly timestampMs: number;
  /** As a mapping names it. */
  readonly timestampType: "CREATE_TIME" | "LOG_APPEND_TIME";
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: readonly (readonly [Buffer | null, Buffer | null])[];
}

/** Of a batch (record format, version 2). */
const LOG_APPEND_TIME = 1 << 3;
const TRANSACTIONAL = 1 << 4;
const CONTROL = 1 << 5;
/** Type of the control record that ends a transaction whose records do not count. */
const ABORT = 0;

/**
 * What a consumer that reads what is committed sees of a fetched partition, from an offset on: no control records, and nothing of transactions that
 * were aborted.
 * @returns next: where to read on, behind everything that was fetched; null when nothing was
 */
export function recordsOf(partition: FetchedPartition, from: bigint): { records: TopicRecord[]; next: bigint | null } {
  const records: TopicRecord[] = [];
  const aborted = [...(partition.abortedTransactions ?? [])].sort((a, b) => (a.firstOffset < b.firstOffset ? -1 : 1));
  /** Producers whose open transaction ends in an abort. */
  const aborting = new Set<bigint>();
  let next: bigint | null = null;
  for (const batch of partition.records ?? []) {
    const last = batch.firstOffset + BigInt(batch.lastOffsetDelta);
    next = last + 1n;
    while (aborted.length > 0 && aborted[0].firstOffset <= last) aborting.add(aborted.shift()!.producerId);
    if ((batch.attributes & CONTROL) !== 0) {
      if (batch.records[0]?.key?.readInt16BE(2) === ABORT) aborting.delete(batch.producerId);
      continue;
    }
    if ((batch.attributes & TRANSACTIONAL) !== 0 && aborting.has(batch.producerId)) continue;
    const appended = (batch.attributes & LOG_APPEND_TIME) !== 0;
    for (const { offsetDelta, timestampDelta, key, value, headers } of batch.records) {
      const offset = batch.firstOffset + BigInt(offsetDelta);
      // A batch is fetched whole.
      if (offset < from) continue;
      const timestampMs = Number(appended ? batch.maxTimestamp : batch.firstTimestamp + timestampDelta);
      const timestampType = appended ? "LOG_APPEND_TIME" : "CREATE_TIME";
      records.push({ offset, timestampMs, timestampType, key, value, headers });
    }
  }
  return { records, next };
}
