/**
 * Training sets in a function: DuckDB within it for what one call gets through, Athena beyond (docs/decisions/0056-large-ranges-on-athena.md). A call that dies, or
 * whose time is up, is gone on with by another.
 */
import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { S3Client } from "@aws-sdk/client-s3";
import { listArchive } from "../../../adapters/offline/archive-view.ts";
import { type AthenaOptions, AthenaSource } from "../../../adapters/offline/athena.ts";
import { stopBegun } from "../../../adapters/offline/athena-unload.ts";
import { DuckSession } from "../../../adapters/offline/duckdb.ts";
import { buildLargeTrainingSet, endedSet, endSet } from "../../../adapters/offline/large-training-set.ts";
import { ArchiveMirror } from "../../../adapters/offline/mirror.ts";
import { archiveMount } from "../../../adapters/offline/mount.ts";
import { valuesMount } from "../../../adapters/offline/pushed-in-time.ts";
import type { TrainingManifest } from "../../../adapters/offline/training-manifest.ts";
import { buildTrainingSet, type SetOptions } from "../../../adapters/offline/training-set.ts";
import { WorkFolder } from "../../../adapters/offline/work-folder.ts";
import { tenantPartition } from "../../../adapters/s3/object-path.ts";
import type { FreshetError } from "../../../core/errors.ts";
import { archiveRoom } from "../archive-room.ts";

export interface QueryEngine {
  /** `auto`: Athena for what DuckDB has not room or time for. */
  readonly use: "auto" | "duckdb" | "athena";
  /** Null where there is none: a laptop. */
  readonly athena: AthenaOptions | null;
}

export interface SetPorts {
  readonly s3: Pick<S3Client, "send">;
  /** Of the archive. */
  readonly bucket: string;
  /** For DuckDB. */
  readonly memoryMb: number;
  /** Of the archive, that DuckDB may read; half of the disk at most. */
  readonly maxBytes: number;
  readonly engine: QueryEngine;
  /** True when the call has to end soon. */
  readonly outOfTime: () => boolean;
  /** Aborted when nobody wants the set any more. @default never */
  readonly signal?: AbortSignal;
}

export interface SetToBuild extends Omit<SetOptions, "mountValues"> {
  /** Names the set among all: another call of the same job goes on with it. */
  readonly job: string;
  /** Of this call alone. */
  readonly folder: string;
  /** Keeps a file; the manifest comes last. */
  readonly put: (name: string, path: string) => Promise<void>;
  /** @param share 0 to 1 */
  readonly onProgress?: (share: number) => void;
}

/** Of a call that has not ended, by DuckDB. */
const BEGUN = "begun.json";
const INTERRUPT_MS = 100;

/** What says that one machine is too small, or too slow. */
const TOO_LARGE = ["range_too_large", "offline_memory", "offline_disk"];

/** @returns null when the time was up, and another call is to go on. @throws FreshetError as `buildTrainingSet` and `buildLargeTrainingSet` */
export async function buildSet(ports: SetPorts, set: SetToBuild): Promise<TrainingManifest | null> {
  const { use, athena } = ports.engine;
  if (athena === null || use === "duckdb") return small(ports, set);
  const { job, keys } = foldersOf(ports, set);
  // Another plan makes other features of the same name.
  const work = new WorkFolder({ s3: ports.s3, bucket: ports.bucket, prefix: `${job.prefix}plan=${set.plan.hash}/` });
  // A call that began and is not heard of any more died of what DuckDB had to do.
  if (use === "athena" || (await work.read(BEGUN)) !== null) return large(ports, set, athena, { work, keys });
  const ended = await endedSet({ work, keys });
  if (ended !== null) return ended;
  await work.write(BEGUN, {});
  try {
    const manifest = await small(ports, set);
    await endSet({ work, keys }, manifest);
    return manifest;
  } catch (error) {
    ports.signal?.throwIfAborted();
    if (TOO_LARGE.includes((error as FreshetError).code)) return large(ports, set, athena, { work, keys });
    await work.remove((name) => name === BEGUN);
    throw error;
  }
}

type SetName = Pick<SetToBuild, "tenant" | "job">;
type SetPlace = Pick<SetPorts, "s3" | "bucket" | "engine">;

/** What lies on the way to a set that goes through Athena: the job's steps, and its ids. */
function foldersOf({ s3, bucket }: Pick<SetPorts, "s3" | "bucket">, { tenant, job }: SetName) {
  const of = `tenant=${tenantPartition(tenant)}/job=${job}/`;
  const folder = (kind: string) => new WorkFolder({ s3, bucket, prefix: `${kind}/${of}` });
  return { job: folder("athena"), keys: folder("athena-keys") };
}

/** Ends the queries of a set that nobody wants any more, and removes what is on the way to it. */
export async function clearSet(place: SetPlace, set: SetName): Promise<void> {
  const { athena } = place.engine;
  if (athena === null) return;
  const { job, keys } = foldersOf(place, set);
  await stopBegun(new AthenaSource(athena), job);
  await keys.remove();
  await job.remove();
}

async function small(ports: SetPorts, { folder, put, onProgress, ...set }: SetToBuild): Promise<TrainingManifest> {
  const { signal } = ports;
  const own = join(folder, "small");
  mkdirSync(own, { recursive: true });
  const session = await DuckSession.open({ folder: own, memoryMb: ports.memoryMb });
  let interrupts: NodeJS.Timeout | undefined;
  // Again and again: between two statements there is nothing to interrupt.
  const stop = () => {
    interrupts = setInterval(() => session.interrupt(), INTERRUPT_MS);
  };
  signal?.addEventListener("abort", stop, { once: true });
  try {
    const maxBytes = Math.min(ports.maxBytes, archiveRoom(own));
    const mirror = new ArchiveMirror({ ...ports, folder: own, maxBytes });
    const out = join(own, "set");
    const manifest = await buildTrainingSet(session, {
      ...set,
      mount: archiveMount(session, mirror, set.tenant),
      mountValues: valuesMount(session, mirror, set.tenant),
      out,
      onProgress: (step, share) => onProgress?.(step === "spine" ? 0.05 * share : 0.05 + 0.9 * share),
    });
    const parts = readdirSync(out).filter((name) => name !== "manifest.json");
    for (const name of [...parts.sort(), "manifest.json"]) {
      signal?.throwIfAborted();
      await put(name, join(out, name));
    }
    return manifest;
  } finally {
    signal?.removeEventListener("abort", stop);
    clearInterval(interrupts);
    session.close();
    rmSync(own, { recursive: true, force: true });
  }
}

async function large(
  ports: SetPorts,
  { folder, ...set }: SetToBuild,
  athena: AthenaOptions,
  { work, keys }: { work: WorkFolder; keys: WorkFolder },
): Promise<TrainingManifest | null> {
  const own = join(folder, "large");
  mkdirSync(join(own, "work"), { recursive: true });
  const session = await DuckSession.open({ folder: own, memoryMb: ports.memoryMb });
  const mirror = new ArchiveMirror({ ...ports, folder: own, maxBytes: Math.min(ports.maxBytes, archiveRoom(own)) });
  try {
    return await buildLargeTrainingSet(session, {
      ...{ ...set, athena, work, keys, folder: join(own, "work"), outOfTime: ports.outOfTime },
      mountValues: valuesMount(session, mirror, set.tenant),
      list: (stream, range) => listArchive(mirror, { tenant: set.tenant, stream, ...range }),
    });
  } finally {
    session.close();
    rmSync(own, { recursive: true, force: true });
  }
}
