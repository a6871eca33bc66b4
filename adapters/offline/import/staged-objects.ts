/** Archive objects of an import, made on this machine while its file is checked, and put into the archive when all of it is good. */
import { hash } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { PutObjectCommand, type S3Client } from "@aws-sdk/client-s3";
import { type ArchiveRow, encodeArchive } from "../../archive/archive-format.ts";
import { durably, forEachLimited } from "../../aws/durable-call.ts";
import { hourPath } from "../../s3/object-path.ts";

const HOUR_MS = 3_600_000;
/** Of one object. */
const MAX_ROWS = 20_000;
/** In memory, over all hours: some 200 MB. */
const MAX_HELD_ROWS = 100_000;
const CONCURRENT_PUTS = 16;

export class StagedObjects {
  readonly #folder: string;
  readonly #prefix: string;
  readonly #hours = new Map<number, ArchiveRow[]>();
  readonly #keys: string[] = [];
  #held = 0;
  bytes = 0;

  /** @param folder its own, made when it is needed and removed by `discard` */
  constructor({ folder, tenant, stream }: { folder: string; tenant: string; stream: string }) {
    this.#folder = folder;
    this.#prefix = `raw/tenant=${tenant}/stream=${stream}`;
  }

  get keys(): readonly string[] {
    return this.#keys;
  }

  add(row: ArchiveRow): void {
    const hour = Math.floor(row.arrivalMs / HOUR_MS);
    let rows = this.#hours.get(hour);
    if (rows === undefined) this.#hours.set(hour, (rows = []));
    rows.push(row);
    this.#held++;
    if (rows.length >= MAX_ROWS) this.#flush(hour);
    else if (this.#held >= MAX_HELD_ROWS) this.finish();
  }

  /** Writes what is held. */
  finish(): void {
    for (const hour of [...this.#hours.keys()].sort((a, b) => a - b)) this.#flush(hour);
  }

  /** Named by its content: the same file, imported again, makes the same objects, and no name ever gets another content. */
  #flush(hour: number): void {
    const rows = this.#hours.get(hour)!;
    this.#hours.delete(hour);
    this.#held -= rows.length;
    const body = encodeArchive(rows);
    const first = rows.reduce((least, { arrivalMs }) => Math.min(least, arrivalMs), Number.POSITIVE_INFINITY);
    const name = `${String(first).padStart(13, "0")}-import-${hash("sha256", body, "hex").slice(0, 32)}.ndjson.zst`;
    const key = `${this.#prefix}/${hourPath(hour * HOUR_MS)}/${name}`;
    const path = join(this.#folder, key);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, body);
    this.#keys.push(key);
    this.bytes += body.length;
  }

  /** @throws InfrastructureError `archive_unavailable`; what was put stays, and putting all again completes it */
  async put(s3: Pick<S3Client, "send">, bucket: string, onProgress?: (share: number) => void): Promise<void> {
    let done = 0;
    await forEachLimited(this.#keys, CONCURRENT_PUTS, async (Key) => {
      await durably("archive_unavailable", `writing ${Key} to bucket ${bucket}`, () =>
        s3.send(
          new PutObjectCommand({
            Bucket: bucket,
            Key,
            Body: readFileSync(join(this.#folder, Key)),
            ContentType: "application/zstd",
          }),
        ),
      );
      onProgress?.(++done / this.#keys.length);
    });
  }

  discard(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
