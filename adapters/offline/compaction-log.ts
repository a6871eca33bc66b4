/**
 * What compaction has done, as objects beside the data (docs/decisions/0023-compaction.md): `compaction/tenant=t/stream=s/<time>-<uuid>.json`, written
 * once and after the Parquet objects that it speaks of. A reader that knows it leaves out what those objects hold already;
 * one that does not, as Athena, reads some rows twice and deduplicates.
 */
import { randomUUID } from "node:crypto";
import { DeleteObjectsCommand, PutObjectCommand, type S3Client } from "@aws-sdk/client-s3";
import { RecordError } from "../../core/errors.ts";
import { durably, forEachLimited } from "../aws/durable-call.ts";
import type { ArchiveMirror } from "./mirror.ts";

const COMPACTION_LOG_VERSION = 1;

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
const DELETES_PER_CALL = 1_000;

/** Where one stream's or view's records are written. */
export interface LogPort {
  readonly s3: Pick<S3Client, "send">;
  readonly mirror: ArchiveMirror;
  readonly folder: string;
  readonly nowMs: number;
}

/**
 * All records that stand. One that goes meanwhile was removed after the objects that it names.
 * @throws RecordError as `parseCompactionRecord`; InfrastructureError `archive_unavailable`
 */
export async function readCompactionLog(
  mirror: ArchiveMirror,
  tenantPartition: string,
  stream: string,
): Promise<LoggedCompaction[]> {
  return readLogOf(mirror, compactionLogFolder(tenantPartition, stream));
}

/** The same of a folder. */
export async function readLogOf(mirror: ArchiveMirror, folder: string): Promise<LoggedCompaction[]> {
  const log: LoggedCompaction[] = [];
  const listed = await mirror.list(folder);
  await forEachLimited(listed, CONCURRENT_GETS, async ({ key }) => {
    const text = await mirror.get(key);
    if (text !== null) log.push({ key, record: parseCompactionRecord(text.toString("utf8"), key) });
  });
  return log;
}

/** Keys of objects all of whose rows are in others. */
export const replacedBy = (log: readonly LoggedCompaction[]): Set<string> =>
  new Set(log.flatMap(({ record }) => [...record.raw, ...record.superseded]));

/** @throws InfrastructureError `archive_unavailable` */
export async function writeRecord(
  { s3, mirror, folder, nowMs }: LogPort,
  what: Pick<CompactionRecord, "raw" | "superseded">,
): Promise<void> {
  const key = `${folder}${String(nowMs).padStart(13, "0")}-${randomUUID()}.json`;
  const record: CompactionRecord = { v: COMPACTION_LOG_VERSION, writtenMs: nowMs, ...what };
  await durably("archive_unavailable", `writing ${key} to bucket ${mirror.bucket}`, () =>
    s3.send(new PutObjectCommand({ Bucket: mirror.bucket, Key: key, Body: JSON.stringify(record) })),
  );
}

/**
 * Removes what records name that have stood for the grace: objects first, then the record, without which they would count as waiting.
 * @returns objects that were named
 * @throws InfrastructureError `archive_unavailable`
 */
export async function removeReplaced(
  port: LogPort,
  log: readonly LoggedCompaction[],
  graceMs: number,
): Promise<number> {
  let removed = 0;
  for (const { key, record } of log.filter(({ record }) => record.writtenMs + graceMs <= port.nowMs)) {
    const old = [...record.raw, ...record.superseded];
    await removeObjects(port, old);
    await removeObjects(port, [key]);
    removed += old.length;
  }
  return removed;
}

/** @throws InfrastructureError `archive_unavailable` */
export async function removeObjects(
  { s3, mirror }: Pick<LogPort, "s3" | "mirror">,
  keys: readonly string[],
): Promise<void> {
  for (let from = 0; from < keys.length; from += DELETES_PER_CALL) {
    const Objects = keys.slice(from, from + DELETES_PER_CALL).map((Key) => ({ Key }));
    await durably("archive_unavailable", `removing compacted objects from bucket ${mirror.bucket}`, async () => {
      const command = new DeleteObjectsCommand({ Bucket: mirror.bucket, Delete: { Objects, Quiet: true } });
      const answer = await s3.send(command);
      if (answer.Errors?.length) throw new Error(answer.Errors[0]!.Code ?? "DeleteObjects");
    });
  }
}

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
