/**
 * Writes every score to S3, off the request's path: rows gather in memory and go out together. At most `maxDelayMs` of them
 * are at stake when the process is killed; an orderly end flushes them, and so does each invocation of a Lambda.
 * Objects lie at `inference-log/tenant=…/service=…/dt=…/hh=…/`, the hour being that of as_of_ms.
 */
import { randomUUID } from "node:crypto";
import { PutObjectCommand, type S3Client } from "@aws-sdk/client-s3";
import { within } from "../online-store/within.ts";
import { hourPath, tenantPartition } from "../s3/object-path.ts";
import { encodeInferenceLog, type InferenceRow, inferenceLine } from "./inference-log-format.ts";

export interface InferenceLog {
  /** Never waits and never throws. */
  add(row: InferenceRow): void;
  /** Writes what has gathered. Never throws: what cannot be written stays, up to a bound, for the next flush. */
  flush(): Promise<void>;
  /** Flushes for the last time, within `closingMs`; tells of what it could not write. */
  close(): Promise<void>;
}

const HOUR_MS = 3_600_000;
const OBJECT_BYTES = 4 * 1024 * 1024;
/** Two rows or three: a host of many tenants has as many batches open. */
const FIRST_BYTES = 8 * 1024;
/** Held in all while S3 does not answer; beyond it the oldest are given up and counted. */
const KEPT_BYTES = 64 * 1024 * 1024;
const CLOSING_ATTEMPTS = 3;
/** Supervisors kill after about 10 s, of which a server has spent a good half when it comes to this. */
const CLOSING_MS = 4_000;

/** Rows of one object to be. */
interface Batch {
  /** Given out once: an attempt whose answer was lost is repeated onto the same object, and no row is there twice. */
  readonly key: string;
  /** Its lines come first, `length` bytes of them; the rest is room. */
  memory: Buffer;
  length: number;
  rows: number;
}

export interface InferenceLogOptions {
  readonly bucket: string;
  readonly s3: Pick<S3Client, "send">;
  /** How long a row may wait; null where the host flushes by itself. @default 5,000 */
  readonly maxDelayMs?: number | null;
  /** How long `close` may take. @default 4,000 */
  readonly closingMs?: number;
  /** Told about objects that could not be written (they are tried again), and about rows that were given up. */
  readonly onFault: (fault: { readonly error?: unknown; readonly dropped: number }) => void;
}

export function createInferenceLog(options: InferenceLogOptions): InferenceLog {
  const { bucket, s3, maxDelayMs = 5_000, closingMs = CLOSING_MS, onFault } = options;
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

  /** What the batch before wrote to, for the next one: memory that is asked for and given back by the megabyte makes V8 collect its whole heap. */
  let spare: Buffer | null = null;

  const append = (batch: Batch, line: string) => {
    // A UTF-16 unit takes three bytes at most.
    const wanted = batch.length + 3 * line.length;
    if (wanted > batch.memory.length) {
      const grown = Buffer.allocUnsafe(Math.max(2 * batch.memory.length, wanted));
      batch.memory.copy(grown, 0, 0, batch.length);
      batch.memory = grown;
    }
    const written = batch.memory.write(line, batch.length, "utf8");
    batch.length += written;
    heldBytes += written;
    batch.rows++;
  };
  const giveBack = (memory: Buffer) => {
    if (spare === null || spare.length < memory.length) spare = memory;
  };
  const closeBatch = (id: string, batch: Batch) => {
    const { memory, length } = batch;
    // It may have to wait for S3, in no more room than its bytes are worth.
    if (length < memory.length / 2) {
      batch.memory = Buffer.from(memory.subarray(0, length));
      giveBack(memory);
    }
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
      heldBytes -= oldest.length;
      onFault({ dropped: oldest.rows });
    }
  };
  const write = async ({ key, memory, length }: Batch) => {
    const body = await encodeInferenceLog(memory.subarray(0, length));
    await s3.send(new PutObjectCommand({ Bucket: bucket, Key: key, Body: body, ContentType: "application/zstd" }));
  };
  const drain = async () => {
    closeBatches();
    while (waiting.length > 0) {
      underWay = waiting[0];
      try {
        await write(underWay);
        waiting.shift();
        heldBytes -= underWay.length;
        giveBack(underWay.memory);
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
        batch = { key: `${folder}/${name}`, memory: spare ?? Buffer.allocUnsafe(FIRST_BYTES), length: 0, rows: 0 };
        spare = null;
        open.set(id, batch);
      }
      append(batch, inferenceLine(row));
      if (batch.length >= OBJECT_BYTES) {
        closeBatch(id, batch);
        // A flush that is under way takes it too.
        if (flushing === null) void flush();
      }
      keepBound();
    },
    flush,
    async close() {
      if (timer !== null) clearInterval(timer);
      let isOver = false;
      const last = async () => {
        for (let attempt = 0; attempt < CLOSING_ATTEMPTS && open.size + waiting.length > 0 && !isOver; attempt++)
          await flush();
      };
      await within(closingMs, last()).catch(() => {});
      isOver = true;
      closeBatches();
      const lost = waiting.reduce((sum, { rows }) => sum + rows, 0);
      if (lost > 0) onFault({ dropped: lost });
    },
  };
}
