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
/** Held in all while S3 does not answer; beyond it the oldest are given up and counted. */
const KEPT_BYTES = 64 * 1024 * 1024;
const CLOSING_ATTEMPTS = 3;

/** Rows of one object to be. */
interface Batch {
  /** Given out once: an attempt whose answer was lost is repeated onto the same object, and no row is there twice. */
  readonly key: string;
  readonly chunks: Buffer[];
  pending: string;
  /** Characters of what is pending count as bytes until it is settled. */
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
  const open = new Map<string, Batch>();
  /** Closed batches that wait for S3, oldest first. */
  const waiting: Batch[] = [];
  /** Of all open and waiting batches. */
  let heldBytes = 0;
  /** The first that waits, while S3 is asked to take it. */
  let underWay: Batch | null = null;
  let flushing: Promise<void> | null = null;
  /** A flush that begins when the one under way has ended. */
  let following: Promise<void> | null = null;

  const settle = (batch: Batch) => {
    if (batch.pending === "") return;
    const chunk = Buffer.from(batch.pending, "utf8");
    const more = chunk.length - batch.pending.length;
    batch.pending = "";
    batch.chunks.push(chunk);
    batch.bytes += more;
    heldBytes += more;
  };
  const closeBatch = (id: string, batch: Batch) => {
    settle(batch);
    open.delete(id);
    waiting.push(batch);
  };
  const closeBatches = () => {
    for (const [id, batch] of open) closeBatch(id, batch);
  };
  /** What S3 is taking cannot be given up: its memory stays, and it may be stored already. */
  const keepBound = () => {
    if (heldBytes <= KEPT_BYTES) return;
    closeBatches();
    const first = underWay === null ? 0 : 1;
    while (heldBytes > KEPT_BYTES && waiting.length > first) {
      const [oldest] = waiting.splice(first, 1);
      heldBytes -= oldest.bytes;
      onFault({ dropped: oldest.rows });
    }
  };
  const write = async ({ key, chunks }: Batch) => {
    const body = await encodeInferenceLog(Buffer.concat(chunks));
    await s3.send(new PutObjectCommand({ Bucket: bucket, Key: key, Body: body, ContentType: "application/zstd" }));
  };
  const drain = async () => {
    closeBatches();
    while (waiting.length > 0) {
      underWay = waiting[0];
      try {
        await write(underWay);
        waiting.shift();
        heldBytes -= underWay.bytes;
      } catch (error) {
        onFault({ error, dropped: 0 });
        return;
      } finally {
        underWay = null;
      }
    }
  };
  const begin = (): Promise<void> => {
    if (open.size + waiting.length === 0) return Promise.resolve();
    flushing = drain().finally(() => {
      flushing = null;
    });
    return flushing;
  };
  const flush = (): Promise<void> => {
    if (flushing === null) return begin();
    // What was added while a flush was under way needs another one: one for all who ask.
    following ??= flushing.then(() => {
      following = null;
      return begin();
    });
    return following;
  };
  const timer = maxDelayMs === null ? null : setInterval(() => void flush(), maxDelayMs);
  timer?.unref();

  return {
    add(row) {
      const hour = Math.floor(row.asOfMs / HOUR_MS);
      const id = `${row.tenant} ${row.service} ${hour}`;
      let batch = open.get(id);
      if (batch === undefined) {
        const folder = `inference-log/tenant=${tenantPartition(row.tenant)}/service=${row.service}/${hourPath(row.asOfMs)}`;
        const name = `${String(row.asOfMs).padStart(13, "0")}-${randomUUID()}.ndjson.zst`;
        batch = { key: `${folder}/${name}`, chunks: [], pending: "", bytes: 0, rows: 0 };
        open.set(id, batch);
      }
      const line = inferenceLine(row);
      batch.pending += line;
      batch.bytes += line.length;
      heldBytes += line.length;
      batch.rows++;
      if (batch.pending.length > STEP) settle(batch);
      if (batch.bytes >= OBJECT_BYTES) {
        closeBatch(id, batch);
        // A flush that is under way takes it too.
        if (flushing === null) void flush();
      }
      keepBound();
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
