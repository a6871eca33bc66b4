/**
 * Writes every score to S3, off the request's path: rows gather in memory and go out together. At most `maxDelayMs` of them
 * are at stake when the process is killed; an orderly end flushes them, and so does each invocation of a Lambda.
 * Objects lie at `inference-log/tenant=…/service=…/dt=…/hh=…/`, the hour being that of as_of_ms.
 */
import { randomUUID } from "node:crypto";
import { PutObjectCommand, type S3Client } from "@aws-sdk/client-s3";
import { encodeInferenceLog, type InferenceRow, inferenceLine } from "./inference-log-format.ts";
import { hourPath, tenantPartition } from "./object-path.ts";

export interface InferenceLog {
  /** Never waits and never throws. */
  add(row: InferenceRow): void;
  /** Writes what has gathered. Never throws: what cannot be written stays, up to a bound, for the next flush. */
  flush(): Promise<void>;
  /** Flushes for the last time. */
  close(): Promise<void>;
}

const HOUR_MS = 3_600_000;
/** Lines are turned into bytes in steps of this many characters, so that no flush holds the event loop for long. */
const STEP = 32_768;
const OBJECT_BYTES = 4 * 1024 * 1024;
/** Kept while S3 does not answer; beyond it the oldest are given up and counted. */
const KEPT_BYTES = 64 * 1024 * 1024;
const CLOSING_ATTEMPTS = 3;

/** Rows of one object to be. */
interface Batch {
  readonly folder: string;
  readonly firstMs: number;
  readonly chunks: Buffer[];
  pending: string;
  bytes: number;
  rows: number;
}

export interface InferenceLogOptions {
  readonly bucket: string;
  readonly s3: Pick<S3Client, "send">;
  /** How long a row may wait; null where the host flushes by itself. @default 5,000 */
  readonly maxDelayMs?: number | null;
  /** Told about objects that could not be written (they are tried again), and about rows that were given up. */
  readonly onFault: (fault: { readonly error?: unknown; readonly dropped: number }) => void;
}

export function createInferenceLog(options: InferenceLogOptions): InferenceLog {
  const { bucket, s3, maxDelayMs = 5_000, onFault } = options;
  let open = new Map<string, Batch>();
  /** Closed batches that wait for S3, oldest first. */
  const waiting: Batch[] = [];
  let waitingBytes = 0;
  let flushing: Promise<void> | null = null;

  const settle = (batch: Batch) => {
    if (batch.pending === "") return;
    const chunk = Buffer.from(batch.pending, "utf8");
    batch.pending = "";
    batch.chunks.push(chunk);
    batch.bytes += chunk.length;
  };
  const closeBatches = () => {
    for (const batch of open.values()) {
      settle(batch);
      waiting.push(batch);
      waitingBytes += batch.bytes;
    }
    open = new Map();
    while (waitingBytes > KEPT_BYTES && waiting.length > 1) {
      const oldest = waiting.shift()!;
      waitingBytes -= oldest.bytes;
      onFault({ dropped: oldest.rows });
    }
  };
  const write = async (batch: Batch) => {
    const name = `${String(batch.firstMs).padStart(13, "0")}-${randomUUID()}.ndjson.zst`;
    const body = await encodeInferenceLog(Buffer.concat(batch.chunks));
    await s3.send(
      new PutObjectCommand({
        Bucket: bucket,
        Key: `${batch.folder}/${name}`,
        Body: body,
        ContentType: "application/zstd",
      }),
    );
  };
  const drain = async () => {
    closeBatches();
    while (waiting.length > 0) {
      const batch = waiting[0];
      try {
        await write(batch);
      } catch (error) {
        onFault({ error, dropped: 0 });
        return;
      }
      // The bound may have taken it away meanwhile; then it has been written all the same.
      if (waiting[0] === batch) {
        waiting.shift();
        waitingBytes -= batch.bytes;
      }
    }
  };
  const flush = async () => {
    // What was added while a flush was under way needs another one.
    while (flushing !== null) await flushing;
    if (open.size + waiting.length === 0) return;
    flushing = drain().finally(() => {
      flushing = null;
    });
    await flushing;
  };
  const timer = maxDelayMs === null ? null : setInterval(() => void flush(), maxDelayMs);
  timer?.unref();

  return {
    add(row) {
      const hour = Math.floor(row.asOfMs / HOUR_MS);
      const key = `${row.tenant} ${row.service} ${hour}`;
      let batch = open.get(key);
      if (batch === undefined) {
        const folder = `inference-log/tenant=${tenantPartition(row.tenant)}/service=${row.service}/${hourPath(row.asOfMs)}`;
        batch = { folder, firstMs: row.asOfMs, chunks: [], pending: "", bytes: 0, rows: 0 };
        open.set(key, batch);
      }
      batch.pending += inferenceLine(row);
      batch.rows++;
      if (batch.pending.length > STEP) settle(batch);
      if (batch.bytes >= OBJECT_BYTES) void flush();
    },
    flush,
    async close() {
      if (timer !== null) clearInterval(timer);
      for (let attempt = 0; attempt < CLOSING_ATTEMPTS && open.size + waiting.length > 0; attempt++) await flush();
      const lost = waiting.reduce((sum, { rows }) => sum + rows, 0);
      if (lost > 0) onFault({ dropped: lost });
    },
  };
}
