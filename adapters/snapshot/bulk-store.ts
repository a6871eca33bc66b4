/**
 * Bulk snapshots in S3. Names are fresh and objects are never overwritten:
 *   rounds/<round>/head.json                        before the first object: what a round that is cut off goes on with
 *   rounds/<round>/<bucket>-<records>-<state>       a bucket's hashes (bulk-format.ts)
 *   manifests/<round>.json                          last (bulk-manifest.ts)
 * A round is named by the store's clock, so names sort by time.
 */
import { randomBytes } from "node:crypto";
import { DeleteObjectsCommand, GetObjectCommand, NoSuchKey, PutObjectCommand, type S3Client } from "@aws-sdk/client-s3";
import { RecordError } from "../../core/errors.ts";
import { durably } from "../aws/durable-call.ts";
import { listObjects, type StoredObject } from "../s3/object-list.ts";
import {
  decodeHead,
  decodeManifest,
  encodeManifest,
  type SnapshotHead,
  type SnapshotManifest,
  type SnapshotObject,
} from "./bulk-manifest.ts";

/** What every key of an object begins with. */
export const ROUNDS = "rounds/";
const MANIFESTS = "manifests/";
const DELETES = 1_000;

export const newRound = (startedUs: number, epoch: number): string =>
  `${new Date(startedUs / 1_000).toISOString().replace(/[-:.]/g, "")}-e${epoch}-${randomBytes(4).toString("hex")}`;

export class BulkStore {
  readonly bucket: string;
  readonly #s3: Pick<S3Client, "send">;

  constructor(options: { bucket: string; s3: Pick<S3Client, "send"> }) {
    this.bucket = options.bucket;
    this.#s3 = options.s3;
  }

  /** Rounds that are whole, oldest first. @throws InfrastructureError `snapshots_unavailable`, as do all */
  async rounds(): Promise<string[]> {
    return (await this.#list(MANIFESTS)).flatMap(({ key }) =>
      key.endsWith(".json") ? [key.slice(MANIFESTS.length, -".json".length)] : [],
    );
  }

  /** @throws RecordError `snapshot_missing`, `snapshot_manifest`, `snapshot_version` */
  async manifest(round: string): Promise<SnapshotManifest> {
    const bytes = await this.get(`${MANIFESTS}${round}.json`);
    if (bytes !== null) return decodeManifest(bytes, round);
    throw new RecordError("snapshot_missing", `there is no snapshot ${round}`, {
      field: "snapshot",
      repair: "take one that `freshet restore --list` names, or `latest`",
    });
  }

  async putManifest(manifest: SnapshotManifest): Promise<void> {
    await this.#put(`${MANIFESTS}${manifest.round}.json`, encodeManifest(manifest));
  }

  async putHead(head: SnapshotHead): Promise<void> {
    await this.#put(`${ROUNDS}${head.round}/head.json`, encodeManifest(head));
  }

  /** The newest round that was begun and is not whole; null when a newer one is whole. */
  async unfinished(newest: string | undefined): Promise<SnapshotHead | null> {
    const heads = (await this.#list(ROUNDS, `${ROUNDS}${newest ?? ""}/~`)).filter(({ key }) =>
      key.endsWith("/head.json"),
    );
    const last = heads.at(-1);
    const bytes = last === undefined ? null : await this.get(last.key);
    return bytes === null ? null : decodeHead(bytes, last!.key);
  }

  /** Objects that a round has written, one a bucket. */
  async objects(round: string): Promise<SnapshotObject[]> {
    const byBucket = new Map<number, SnapshotObject>();
    for (const { key, bytes } of await this.#list(`${ROUNDS}${round}/`)) {
      const named = /\/(\d{4})-(\d+)-([0-9a-f]{16})$/.exec(key);
      if (named === null) continue;
      const bucket = Number(named[1]);
      byBucket.set(bucket, { bucket, key, bytes, records: Number(named[2]), state: named[3] });
    }
    return [...byBucket.values()];
  }

  /** Keys of all objects of some buckets, of whatever round, whole or not. Sorted. */
  async objectsOf(buckets: ReadonlySet<number>): Promise<string[]> {
    return (await this.#list(ROUNDS)).flatMap(({ key }) => {
      const named = /\/(\d{4})-\d+-[0-9a-f]{16}$/.exec(key);
      return named !== null && buckets.has(Number(named[1])) ? [key] : [];
    });
  }

  async putObject(
    round: string,
    object: Pick<SnapshotObject, "bucket" | "records" | "state">,
    bytes: Buffer,
  ): Promise<SnapshotObject> {
    const { bucket, records, state } = object;
    const key = `${ROUNDS}${round}/${String(bucket).padStart(4, "0")}-${records}-${state}`;
    await this.#put(key, bytes);
    return { bucket, key, bytes: bytes.length, records, state };
  }

  /** @returns null when there is none */
  async get(key: string): Promise<Buffer | null> {
    return durably("snapshots_unavailable", `reading bucket ${this.bucket}`, async () => {
      try {
        const { Body } = await this.#s3.send(new GetObjectCommand({ Bucket: this.bucket, Key: key }));
        return Buffer.from(await Body!.transformToByteArray());
      } catch (error) {
        if (error instanceof NoSuchKey) return null;
        throw error;
      }
    });
  }

  /** Which of the objects are not there, or not of their size. */
  async missing(objects: readonly SnapshotObject[]): Promise<SnapshotObject[]> {
    const kept = objects.flatMap(({ key }) => (key === null ? [] : [key]));
    const folders = new Set(kept.map((key) => key.slice(0, key.lastIndexOf("/") + 1)));
    const sizes = new Map<string, number>();
    for (const folder of folders) for (const { key, bytes } of await this.#list(folder)) sizes.set(key, bytes);
    return objects.filter(({ key, bytes }) => key !== null && sizes.get(key) !== bytes);
  }

  /**
   * Removes rounds before `keepFrom`, a round's name: manifests first, then what no manifest that stays names. Of rounds that
   * were never whole likewise.
   * @returns objects removed
   */
  async prune(keepFrom: string): Promise<number> {
    const rounds = await this.rounds();
    const gone = rounds.filter((round) => round < keepFrom).map((round) => `${MANIFESTS}${round}.json`);
    const old = (await this.#list(ROUNDS)).filter(({ key }) => key < `${ROUNDS}${keepFrom}`);
    if (gone.length === 0 && old.length === 0) return 0;
    const named = new Set<string | null>();
    for (const round of rounds.filter((each) => each >= keepFrom))
      for (const { key } of (await this.manifest(round)).objects) named.add(key);
    await this.#remove(gone);
    const unnamed = old.map(({ key }) => key).filter((key) => !named.has(key));
    await this.#remove(unnamed);
    return gone.length + unnamed.length;
  }

  async #remove(keys: readonly string[]): Promise<void> {
    for (let at = 0; at < keys.length; at += DELETES) {
      const Objects = keys.slice(at, at + DELETES).map((Key) => ({ Key }));
      await durably("snapshots_unavailable", `removing from bucket ${this.bucket}`, () =>
        this.#s3.send(new DeleteObjectsCommand({ Bucket: this.bucket, Delete: { Objects, Quiet: true } })),
      );
    }
  }

  async #put(key: string, bytes: Buffer): Promise<void> {
    await durably("snapshots_unavailable", `writing bucket ${this.bucket}`, () =>
      this.#s3.send(new PutObjectCommand({ Bucket: this.bucket, Key: key, Body: bytes })),
    );
  }

  async #list(prefix: string, after?: string): Promise<StoredObject[]> {
    const failure = { code: "snapshots_unavailable", what: `listing bucket ${this.bucket}` };
    const { objects } = await listObjects({ s3: this.#s3, bucket: this.bucket }, { prefix, after }, failure);
    return objects;
  }
}
