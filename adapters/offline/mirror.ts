/**
 * A folder that mirrors objects of the archive's bucket, so that DuckDB reads files and needs no network. Objects are never
 * overwritten, so a file under an object's key is that object for ever; only a listing tells what the archive holds now.
 */
import { randomUUID } from "node:crypto";
import { mkdirSync, statSync, utimesSync } from "node:fs";
import { readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { GetObjectCommand, type S3Client } from "@aws-sdk/client-s3";
import { FreshetError, InfrastructureError, RecordError } from "../../core/errors.ts";
import { verifyArchive } from "../archive/archive-format.ts";
import { durably, forEachLimited } from "../aws/durable-call.ts";
import { VALUES_PREFIX, verifyValues } from "../pushed/values-format.ts";
import { type Listing, listObjects, type StoredObject } from "../s3/object-list.ts";

export interface ArchiveObjectInfo {
  readonly key: string;
  readonly bytes: number;
}

export interface Corruption {
  readonly key: string;
  readonly reason: string;
}

export interface FetchOptions {
  /** Leaves damaged objects out and lists them, instead of throwing. @default false */
  readonly skipCorrupt?: boolean;
  /** @param share 0 to 1, of the bytes that were not there yet */
  readonly onProgress?: (share: number) => void;
}

const CONCURRENT_GETS = 16;
const PARQUET_MAGIC = 0x31524150; // PAR1, little-endian
/** A command that runs beside this one may still read what it listed before: no run is as long. */
const UNUSED_MS = 86_400_000;
const TOUCH_MS = 3_600_000;
/** Where room is short: what nobody has wanted for so long no function reads any more. More than `TOUCH_MS` and a function's longest call. */
const IDLE_MS = 2 * 3_600_000;
/** Magic at both ends and the footer's length between. */
const PARQUET_LEAST = 12;

export class ArchiveMirror {
  readonly #s3: Pick<S3Client, "send">;
  readonly bucket: string;
  readonly #folder: string;
  readonly #maxBytes: number;
  readonly #write: (file: string, bytes: Buffer) => Promise<void>;
  readonly #room: () => number;
  readonly #repair: string;
  #fetched = 0;
  /** Files that the run of now reads, and those that only earlier runs of this process did. */
  #reading = new Set<string>();
  readonly #read = new Set<string>();

  /**
   * @param options.folder kept between runs; objects are laid out in it by their keys
   * @param options.maxBytes of objects that may be fetched in all. @default what the disk takes
   * @param options.write for a disk that fails. @default the disk itself
   * @param options.room bytes that may be added to the folder now. Where that is too little, what no run reads any more is removed first. @default what the disk takes
   * @param options.repair what helps where a range is too large. @default words for whoever chose the range
   */
  constructor(options: {
    readonly s3: Pick<S3Client, "send">;
    readonly bucket: string;
    readonly folder: string;
    readonly maxBytes?: number;
    readonly write?: (file: string, bytes: Buffer) => Promise<void>;
    readonly room?: () => number;
    readonly repair?: string;
  }) {
    this.#s3 = options.s3;
    this.bucket = options.bucket;
    this.#folder = join(options.folder, options.bucket);
    this.#maxBytes = options.maxBytes ?? Number.POSITIVE_INFINITY;
    this.#write = options.write ?? writeFile;
    this.#room = options.room ?? (() => Number.POSITIVE_INFINITY);
    this.#repair =
      options.repair ?? "take a shorter range, or use freshet training-set on a machine with a larger disk";
  }

  /** A run begins: what those before it read may go where room is needed. */
  begin(): void {
    for (const path of this.#reading) this.#read.add(path);
    this.#reading = new Set();
  }

  /** Where an object lies once it is fetched. */
  path(key: string): string {
    return join(this.#folder, key);
  }

  /**
   * Objects under a prefix, in order of their keys.
   * @param after only keys greater than this
   * @throws InfrastructureError `archive_unavailable`
   */
  async list(prefix: string, after?: string): Promise<StoredObject[]> {
    return (await this.#listing(prefix, { after })).objects;
  }

  /** Names of the folders directly under a prefix, as `tenant=default`. @throws InfrastructureError `archive_unavailable` */
  async folders(prefix: string): Promise<string[]> {
    const { prefixes } = await this.#listing(prefix, { delimiter: "/" });
    return prefixes.map((each) => each.slice(prefix.length, -1));
  }

  #listing(prefix: string, options: { readonly after?: string; readonly delimiter?: string }): Promise<Listing> {
    const at = { s3: this.#s3, bucket: this.bucket };
    const what = `listing ${prefix} in bucket ${this.bucket}`;
    return listObjects(at, { prefix, ...options }, { code: "archive_unavailable", what });
  }

  /** Frees the room of objects that will not be read again. */
  async forget(objects: readonly ArchiveObjectInfo[]): Promise<void> {
    for (const { key } of objects) await rm(this.path(key), { force: true });
  }

  /**
   * Frees the room of what the archive holds no longer: compaction replaces objects, retention ends them. Files that were used within
   * a day stay.
   * @param listed what `list` answered for the prefix and `after`, or less of it
   */
  async prune(prefix: string, after: string, listed: readonly ArchiveObjectInfo[]): Promise<void> {
    const named = new Set(listed.map(({ key }) => key));
    const entries = await readdir(this.path(prefix), { recursive: true, withFileTypes: true }).catch(() => []);
    for (const entry of entries) {
      const path = join(entry.parentPath, entry.name);
      const key = relative(this.#folder, path);
      if (!entry.isFile() || key <= after || named.has(key)) continue;
      const used = await stat(path).catch(() => null);
      if (used !== null && used.mtimeMs < Date.now() - UNUSED_MS) await rm(path, { force: true });
    }
  }

  /** An object's bytes, past the mirror; null when it is gone. @throws InfrastructureError `archive_unavailable` */
  async get(key: string): Promise<Buffer | null> {
    return durably("archive_unavailable", `reading ${key} from bucket ${this.bucket}`, async () => {
      try {
        const { Body } = await this.#s3.send(new GetObjectCommand({ Bucket: this.bucket, Key: key }));
        return Buffer.from(await Body!.transformToByteArray());
      } catch (error) {
        if ((error as Error).name === "NoSuchKey") return null;
        throw error;
      }
    });
  }

  /**
   * Brings objects into the folder, each checked once as it comes: whole, of the right checksum and of a known version.
   * @returns keys that are gone meanwhile (list again), and what was left out as damaged
   * @throws RecordError `archive_corrupt` or `archive_version` naming the object; InfrastructureError `archive_unavailable`, `offline_disk`;
   *   FreshetError `range_too_large` before anything is fetched
   */
  async fetch(
    objects: readonly ArchiveObjectInfo[],
    { skipCorrupt = false, onProgress }: FetchOptions = {},
  ): Promise<{ readonly gone: readonly string[]; readonly corrupt: readonly Corruption[] }> {
    const gone: string[] = [];
    const corrupt: Corruption[] = [];
    const wanted = objects.filter(({ key }) => !this.#use(key));
    const total = wanted.reduce((sum, { bytes }) => sum + bytes, 0);
    await this.#requireRoom(total);
    this.#fetched += total;
    let done = 0;
    await forEachLimited(wanted, CONCURRENT_GETS, async ({ key, bytes }) => {
      const body = await this.get(key);
      if (body === null) gone.push(key);
      else {
        const damage = damageOf(key, body);
        if (damage === null) await this.#keep(key, body);
        else if (skipCorrupt && damage.code === "archive_corrupt") corrupt.push({ key, reason: damage.message });
        else throw damage;
      }
      done += bytes;
      onProgress?.(total === 0 ? 1 : done / total);
    });
    return { gone, corrupt };
  }

  /** @throws FreshetError `range_too_large` */
  async #requireRoom(bytes: number): Promise<void> {
    if (bytes > this.#room()) await this.#makeRoom();
    const all = this.#fetched + bytes;
    const room = Math.min(this.#maxBytes, this.#fetched + this.#room());
    if (all <= room) return;
    const [held, limit] = [all, room].map((each) => `${(each / 1e6).toFixed(1)} MB`);
    throw new FreshetError(
      "range_too_large",
      `the range holds ${held} of the archive, and there is room for ${limit}`,
      {
        repair: this.#repair,
      },
    );
  }

  async #makeRoom(): Promise<void> {
    const entries = await readdir(this.#folder, { recursive: true, withFileTypes: true }).catch(() => []);
    for (const entry of entries) {
      const path = join(entry.parentPath, entry.name);
      if (!entry.isFile() || this.#reading.has(path)) continue;
      // Another process may be in the midst of a run with what this one has never read.
      const idle = this.#read.has(path) || ((await stat(path).catch(() => null))?.mtimeMs ?? 0) < Date.now() - IDLE_MS;
      if (idle) await rm(path, { force: true });
      if (idle) this.#read.delete(path);
    }
  }

  /** Whether an object is there already. Its file's time says when it was last wanted, for `prune`. */
  #use(key: string): boolean {
    const path = this.path(key);
    const known = statSync(path, { throwIfNoEntry: false });
    const now = Date.now();
    try {
      if (known !== undefined && known.mtimeMs < now - TOUCH_MS) utimesSync(path, now / 1000, now / 1000);
    } catch (error) {
      // Another process pruned it in between.
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
      throw error;
    }
    if (known !== undefined) this.#reading.add(path);
    return known !== undefined;
  }

  /** Another process may fetch the same object: a file appears under its name only whole. */
  async #keep(key: string, body: Buffer): Promise<void> {
    const path = this.path(key);
    const partial = `${path}.${randomUUID()}`;
    try {
      mkdirSync(dirname(path), { recursive: true });
      await this.#write(partial, body);
      await rename(partial, path);
      this.#reading.add(path);
    } catch (cause) {
      await rm(partial, { force: true });
      const { code } = cause as NodeJS.ErrnoException;
      if (code !== "ENOSPC" && code !== "EDQUOT") throw cause;
      throw new InfrastructureError(
        "offline_disk",
        "the disk is full: objects of the archive are kept on it to be read",
        {
          repair: `free space below ${this.#folder} (all of it can be fetched again), or take a shorter time range`,
          cause,
        },
      );
    }
  }
}

/** What is wrong with an object's bytes, under its name; null when nothing is. */
function damageOf(key: string, body: Buffer): FreshetError | null {
  try {
    if (key.endsWith(".parquet")) verifyParquet(key, body);
    else if (key.startsWith(VALUES_PREFIX)) verifyValues(body);
    else verifyArchive(body);
    return null;
  } catch (error) {
    if (!(error instanceof FreshetError)) throw error;
    return corruptObject(key, error.message, error.code.endsWith("_version") ? "archive_version" : undefined, error);
  }
}

export const corruptObject = (key: string, reason: string, code = "archive_corrupt", cause?: unknown): RecordError =>
  new RecordError(code, `archive object ${key} cannot be read: ${reason}`, {
    repair:
      code === "archive_version"
        ? "read it with the release that wrote it, or a newer one"
        : "restore it from a version or backup of the bucket, or pass --skip-corrupt to go on without its rows",
    cause,
  });

/**
 * The frame of the file; damage inside a page shows when DuckDB reads it. Compacted objects of version 1 have no version in their
 * names; later ones are to end in `.v2.parquet` and so on, for releases like this one to refuse them.
 */
function verifyParquet(key: string, body: Buffer): void {
  if (/\.v\d+\.parquet$/.test(key)) throw new RecordError("archive_version", "this release knows version 1");
  const framed =
    body.length >= PARQUET_LEAST &&
    body.readUInt32LE(0) === PARQUET_MAGIC &&
    body.readUInt32LE(body.length - 4) === PARQUET_MAGIC &&
    body.readUInt32LE(body.length - 8) <= body.length - PARQUET_LEAST;
  if (!framed) throw new RecordError("archive_corrupt", "it is no whole Parquet file");
}
