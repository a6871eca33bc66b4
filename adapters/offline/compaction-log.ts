/**
 * What compaction has done, as objects beside the data (docs/decisions/0023-compaction.md): `compaction/tenant=t/stream=s/<time>-<uuid>.json`, written
 * once and after the Parquet objects that it speaks of. A reader that knows it leaves out what those objects hold already;
 * one that does not, as Athena, reads some rows twice and deduplicates.
 */
import { RecordError } from "../../core/errors.ts";

export const COMPACTION_LOG_VERSION = 1;

export interface CompactionRecord {
  readonly v: typeof COMPACTION_LOG_VERSION;
  readonly writtenMs: number;
  /** Keys of raw objects all of whose rows are in compacted ones. */
  readonly raw: readonly string[];
  /** Keys of compacted objects all of whose rows are in newer ones. */
  readonly superseded: readonly string[];
}

export const compactionLogFolder = (tenantPartition: string, stream: string): string =>
  `compaction/tenant=${tenantPartition}/stream=${stream}/`;

/** @throws RecordError `archive_corrupt`, `archive_version` naming the object */
export function parseCompactionRecord(text: string, key: string): CompactionRecord {
  let record: CompactionRecord;
  try {
    record = JSON.parse(text);
  } catch (cause) {
    throw new RecordError("archive_corrupt", `${key} is not JSON`, { cause });
  }
  if (record?.v !== COMPACTION_LOG_VERSION) {
    throw new RecordError("archive_version", `${key} has a version that this reader does not know`, {
      repair: "read it with the release that wrote it, or a newer one",
    });
  }
  return record;
}
