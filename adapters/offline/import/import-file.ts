/**
 * History into the archive (DESIGN §10). The file is checked to its end, while its archive objects are made on this machine; only then are they
 * put, and late items after them. Doing it again, after a crash or by mistake, puts the same objects.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import type { S3Client } from "@aws-sdk/client-s3";
import { FreshetError, RecordError } from "../../../core/errors.ts";
import type { LateItem, LateQueue } from "../../late-queue/late-queue.ts";
import { DuckSession } from "../duckdb.ts";
import { removeOfTheDead } from "../leftovers.ts";
import { parquetRowCount, parquetRows } from "./parquet-rows.ts";
import { type RowCheckOptions, rowChecker } from "./row-check.ts";
import { StagedObjects } from "./staged-objects.ts";
import { csvRows, type FileRow, jsonRows } from "./text-rows.ts";

export const FORMATS = ["csv", "parquet", "ndjson"] as const;
export type Format = (typeof FORMATS)[number];

export interface BadRow {
  readonly line: number;
  readonly code: string;
  readonly field: string | null;
  readonly message: string;
  readonly repair: string | null;
}

export interface ImportOptions extends Omit<RowCheckOptions, "texts" | "shard"> {
  readonly file: string;
  readonly format: Format;
  /** Below it the objects are made. */
  readonly folder: string;
  /** Null for a dry run. */
  readonly target: {
    readonly s3: Pick<S3Client, "send">;
    readonly bucket: string;
    readonly late: Pick<LateQueue, "put">;
    /** Called before the first object is written, and after all is. */
    readonly note: () => Promise<void>;
  } | null;
  /** Imports the others when rows are bad. @default false */
  readonly skipInvalid?: boolean;
  readonly onBadRow?: (bad: BadRow) => void;
  /** @param share 0 to 1 of the phase */
  readonly onProgress?: (phase: "checking" | "writing", share: number, rows: number) => void;
}

export interface ImportReport {
  /** Rows of the file. */
  readonly rows: number;
  readonly bad: number;
  /** Rows of other streams, passed over. */
  readonly others: number;
  /** Rows that are in the archive now (or would be, in a dry run): 0 when bad rows stopped it. */
  readonly imported: number;
  /** Of these, rows that wait until they are sealed. */
  readonly late: number;
  readonly objects: number;
  readonly bytes: number;
  /** Of the imported rows' event times; null without rows. */
  readonly fromMs: number | null;
  readonly toMs: number | null;
}

const LATE_ITEMS_PER_PUT = 5_000;

/** By extension. @throws FreshetError `format_unknown` */
export function formatOf(file: string): Format {
  const extension = /\.([a-z]+)$/i.exec(file)?.[1]?.toLowerCase();
  if (extension === "csv" || extension === "parquet" || extension === "ndjson") return extension;
  if (extension === "jsonl") return "ndjson";
  if (extension === "pq") return "parquet";
  throw new FreshetError("format_unknown", `the name ${file} does not tell the file's format`, {
    field: "format",
    repair: `name it with --format ${FORMATS.join("|")}`,
  });
}

/** @throws FreshetError `file_unreadable`, `file_empty`, `header_invalid`, `text_invalid`; InfrastructureError `archive_unavailable`, `late_queue_unavailable` */
export async function importFile(options: ImportOptions): Promise<ImportReport> {
  const { file, stream, tenant, format } = options;
  const { digest, size } = await describe(file);
  if (size === 0) {
    throw new FreshetError("file_empty", `${file} is empty`, { repair: "name a file with rows in it" });
  }
  const shard = `import-${digest.slice(0, 12)}`;
  const check = rowChecker({ ...options, texts: format === "csv", shard });
  removeOfTheDead(options.folder, /^import-[0-9a-f]{12}-(\d+)$/);
  const staged = new StagedObjects({
    folder: join(options.folder, `${shard}-${process.pid}`),
    tenant,
    stream: stream.name,
  });
  const found = { rows: 0, bad: 0, others: 0, fromMs: Number.POSITIVE_INFINITY, toMs: Number.NEGATIVE_INFINITY };
  const late: LateItem[] = [];
  const session = format === "parquet" ? await DuckSession.open({ folder: options.folder, memoryMb: 1_024 }) : null;
  try {
    for await (const batch of rowsOf(
      options,
      session,
      (share) => options.onProgress?.("checking", share, found.rows),
      size,
    )) {
      for (const row of batch) {
        found.rows++;
        try {
          const checked = check(row);
          if (checked === null) {
            found.others++;
            continue;
          }
          staged.add(checked);
          found.fromMs = Math.min(found.fromMs, checked.eventTimeMs!);
          found.toMs = Math.max(found.toMs, checked.eventTimeMs!);
          for (const fate of checked.fates) if (fate.fate === "late") late.push(lateItem(options, checked, fate));
        } catch (error) {
          if (!(error instanceof RecordError)) throw error;
          found.bad++;
          options.onBadRow?.(badRow(row.line, error));
        }
      }
    }
    staged.finish();
    const good = found.rows - found.bad - found.others;
    const go = found.bad === 0 || options.skipInvalid === true;
    if (go && good > 0 && options.target !== null) {
      await options.target.note();
      await staged.put(options.target.s3, options.target.bucket, (share) =>
        options.onProgress?.("writing", share, good),
      );
      for (let i = 0; i < late.length; i += LATE_ITEMS_PER_PUT)
        await options.target.late.put(late.slice(i, i + LATE_ITEMS_PER_PUT));
      await options.target.note();
    }
    return {
      rows: found.rows,
      bad: found.bad,
      others: found.others,
      imported: go ? good : 0,
      late: go ? new Set(late.map(({ identity }) => identity)).size : 0,
      objects: go ? staged.keys.length : 0,
      bytes: go ? staged.bytes : 0,
      fromMs: good > 0 ? found.fromMs : null,
      toMs: good > 0 ? found.toMs : null,
    };
  } finally {
    staged.discard();
    session?.close();
  }
}

/** @throws FreshetError `file_unreadable` */
async function describe(file: string): Promise<{ digest: string; size: number }> {
  const hash = createHash("sha256");
  try {
    for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
    return { digest: hash.digest("hex"), size: (await stat(file)).size };
  } catch (cause) {
    throw new FreshetError(
      "file_unreadable",
      `${file} cannot be read: ${(cause as { code?: string }).code ?? "unknown error"}`,
      {
        repair: "name a file that is there and may be read",
        cause,
      },
    );
  }
}

async function* rowsOf(
  { file, format }: ImportOptions,
  session: DuckSession | null,
  onProgress: (share: number) => void,
  size: number,
): AsyncGenerator<FileRow[]> {
  if (session !== null) {
    const total = await parquetRowCount(session, file);
    for await (const batch of parquetRows(session, file)) {
      yield batch;
      onProgress(Math.min(1, (batch.at(-1)?.line ?? 0) / Math.max(1, total)));
    }
    return;
  }
  let read = 0;
  for await (const batch of format === "csv" ? csvRows(file) : jsonRows(file)) {
    yield batch;
    // A batch is what a chunk of the file held.
    onProgress(Math.min(1, (read += 1 << 20) / Math.max(1, size)));
  }
}

const badRow = (line: number, error: RecordError): BadRow => ({
  line,
  code: error.code,
  field: error.field ?? null,
  message: error.message,
  repair: error.repair ?? null,
});

function lateItem(
  { stream, tenant }: ImportOptions,
  row: { identity: string | null; eventId: string | null; eventTimeMs: number | null; arrivalMs: number },
  fate: { entity: string; id: string },
): LateItem {
  return {
    tenant,
    entity: fate.entity,
    id: fate.id,
    stream: stream.name,
    baseIndex: Math.floor(row.eventTimeMs! / stream.baseMs),
    identity: row.identity!,
    eventId: row.eventId!,
    eventTimeMs: row.eventTimeMs!,
    arrivalMs: row.arrivalMs,
  };
}
