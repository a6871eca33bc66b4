/**
 * What compaction has done, as objects beside the data (docs/decisions/0023-compaction.md): `compaction/tenant=t/stream=s/<time>-<uuid>.json`, written
 * once and after the Parquet objects that it speaks of. A reader that knows it leaves out what those objects hold already;
 * one that does not, as Athena, reads some rows twice and deduplicates.
 */
import { RecordError } from "../../core/errors.ts";
import { forEachLimited } from "../durable-call.ts";
import type { ArchiveMirror } from "./mirror.ts";

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

export interface LoggedCompaction {
  readonly key: string;
  readonly record: CompactionRecord;
}

const CONCURRENT_GETS = 16;

/**
 * All records that stand. One that goes meanwhile was removed after the objects that it names.
 * @throws RecordError as `parseCompactionRecord`; InfrastructureError `archive_unavailable`
 */
export async function readCompactionLog(
  mirror: ArchiveMirror,
  tenantPartition: string,
  stream: string,
): Promise<LoggedCompaction[]> {
  const log: LoggedCompaction[] = [];
  const listed = await mirror.list(compactionLogFolder(tenantPartition, stream));
  await forEachLimited(listed, CONCURRENT_GETS, async ({ key }) => {
    const text = await mirror.get(key);
    if (text !== null) log.push({ key, record: parseCompactionRecord(text.toString("utf8"), key) });
  });
  return log;
}

/** Keys of objects all of whose rows are in others. */
export const replacedBy = (log: readonly LoggedCompaction[]): Set<string> =>
  new Set(log.flatMap(({ record }) => [...record.raw, ...record.superseded]));

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
