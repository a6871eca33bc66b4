/**
 * What a round of bulk snapshots has kept: written last, so a round without one never was. It names the object of each bucket,
 * which may be an older round's where nothing of the bucket has changed since, and the state of the store before the first key was read.
 */
import { randomBytes } from "node:crypto";
import type { Lock } from "../../core/compile/lock.ts";
import { RecordError } from "../../core/errors.ts";
import { hash64 } from "../hash.ts";
import { BUCKETS } from "../valkey/layout.ts";

const MANIFEST_VERSION = 1;

export interface SnapshotObject {
  readonly bucket: number;
  /** Null for a bucket that had nothing to keep. */
  readonly key: string | null;
  readonly bytes: number;
  /** Hashes in it: an entity has one for each stream, and one for what was pushed. */
  readonly records: number;
  /** Names the keys and their revs, by `stateOf`: a bucket that is still in it keeps its object. */
  readonly state: string;
}

/** A group as its buckets' control hashes had it: seal and births in hex, by `encodeGroupControl`. */
export interface SnapshotGroup {
  readonly entity: string;
  readonly stream: string;
  readonly base_ms: number;
  /** Of most buckets. */
  readonly control: string;
  /** Of those that differ, by bucket. */
  readonly others: Readonly<Record<string, string>>;
}

export interface SnapshotManifest {
  readonly version: typeof MANIFEST_VERSION;
  readonly round: string;
  readonly epoch: number;
  /** Hash of the plan's layout. */
  readonly layout: string;
  /** Ids that the stored bytes carry. */
  readonly lock: Lock;
  /** Names the primaries, by `ownersOf`: under other ones nothing is carried over. */
  readonly runs: string;
  /** The store's clock before the first key was read, in µs: what was visible 60 s before is in the snapshot. */
  readonly started_us: number;
  /** The writer's clock. */
  readonly completed_ms: number;
  readonly groups: Readonly<Record<string, SnapshotGroup>>;
  /** By stream: imports that the archive had seen, and those that a complete build had put into the store; null for none. */
  readonly streams: Readonly<Record<string, { readonly imports: number; readonly built: number | null }>>;
  /** One for each bucket, in order. */
  readonly objects: readonly SnapshotObject[];
}

/** What is kept of a round while it is under way: all that is read before its first key. */
export type SnapshotHead = Omit<SnapshotManifest, "completed_ms" | "objects">;

/** Of a bucket's hashes. Different each time while one of them has no rev. */
export function stateOf(hashes: readonly { readonly key: string; readonly rev: number | null }[]): string {
  if (hashes.some(({ rev }) => rev === null)) return randomBytes(8).toString("hex");
  const lines = hashes.map(({ key, rev }) => `${key.length}:${key}${rev}`).sort();
  return hash64(lines.join("\n"));
}

export const encodeManifest = (manifest: SnapshotManifest | SnapshotHead): Buffer =>
  Buffer.from(`${JSON.stringify(manifest)}\n`);

/** @throws RecordError `snapshot_manifest` */
export function decodeHead(bytes: Buffer, name: string): SnapshotHead {
  let head: SnapshotHead;
  try {
    head = JSON.parse(bytes.toString()) as SnapshotHead;
  } catch (cause) {
    throw damaged(name, "it is no JSON", cause);
  }
  if (head.version !== MANIFEST_VERSION) {
    throw new RecordError(
      "snapshot_version",
      `${name} has version ${head.version}, this release reads ${MANIFEST_VERSION}`,
      {
        repair: "restore with the release that wrote it, or a newer one",
      },
    );
  }
  return head;
}

/** @throws RecordError `snapshot_manifest` for one that does not name an object for each bucket */
export function decodeManifest(bytes: Buffer, name: string): SnapshotManifest {
  const manifest = decodeHead(bytes, name) as SnapshotManifest;
  const named = (manifest.objects ?? []).filter(
    ({ bucket, key, records }, i) => bucket === i && (records > 0 ? typeof key === "string" : key === null),
  ).length;
  if (named !== BUCKETS) throw damaged(name, `it names objects for ${named} of ${BUCKETS} buckets`);
  return manifest;
}

const damaged = (name: string, what: string, cause?: unknown): RecordError =>
  new RecordError("snapshot_manifest", `snapshot manifest ${name} is damaged: ${what}`, {
    cause,
    repair: "restore another round: `freshet restore --list`",
  });

/** A group's control in one bucket: u32 seal and births. */
export const controlIn = ({ control, others }: SnapshotGroup, bucket: number): Buffer =>
  Buffer.from(others[bucket] ?? control, "hex");

/** @param controls of each bucket, in hex */
export function groupOf(
  { entity, stream, base_ms }: Pick<SnapshotGroup, "entity" | "stream" | "base_ms">,
  controls: readonly string[],
): SnapshotGroup {
  const counts = new Map<string, number>();
  for (const hex of controls) counts.set(hex, (counts.get(hex) ?? 0) + 1);
  const [[control]] = [...counts].sort(([, a], [, b]) => b - a);
  const others = controls.flatMap((hex, bucket) => (hex === control ? [] : [[bucket, hex] as const]));
  return { entity, stream, base_ms, control, others: Object.fromEntries(others) };
}
