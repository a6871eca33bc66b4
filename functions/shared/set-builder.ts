/**
 * Training sets in a function: DuckDB within it for what one call gets through, Athena beyond (docs/decisions/0056-large-ranges-on-athena.md). A call that dies, or
 * whose time is up, is gone on with by another.
 */
import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { S3Client } from "@aws-sdk/client-s3";
import { tenantPartition } from "../../adapters/object-path.ts";
import { listArchive } from "../../adapters/offline/archive-view.ts";
import type { AthenaOptions } from "../../adapters/offline/athena.ts";
import { DuckSession } from "../../adapters/offline/duckdb.ts";
import { buildLargeTrainingSet } from "../../adapters/offline/large-training-set.ts";
import { ArchiveMirror } from "../../adapters/offline/mirror.ts";
import { archiveMount } from "../../adapters/offline/mount.ts";
import { valuesMount } from "../../adapters/offline/pushed-in-time.ts";
import type { TrainingManifest } from "../../adapters/offline/training-manifest.ts";
import { buildTrainingSet, type SetOptions } from "../../adapters/offline/training-set.ts";
import { WorkFolder } from "../../adapters/offline/work-folder.ts";
import type { FreshetError } from "../../core/errors.ts";
import { archiveRoom } from "./archive-room.ts";

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

/** What says that one machine is too small, or too slow. */
const TOO_LARGE = ["range_too_large", "offline_memory", "offline_disk"];

/** @returns null when the time was up, and another call is to go on. @throws FreshetError as `buildTrainingSet` and `buildLargeTrainingSet` */
export async function buildSet(ports: SetPorts, set: SetToBuild): Promise<TrainingManifest | null> {
  const { use, athena } = ports.engine;
  if (athena === null || use === "duckdb") return small(ports, set);
  const of = `tenant=${tenantPartition(set.tenant)}/job=${set.job}`;
  const at = { s3: ports.s3, bucket: ports.bucket };
  // Another plan makes other features of the same name.
  const work = new WorkFolder({ ...at, prefix: `athena/${of}/plan=${set.plan.hash}/` });
  const keys = new WorkFolder({ ...at, prefix: `athena-keys/${of}/` });
  // A call that began and is not heard of any more died of what DuckDB had to do.
  if (use === "athena" || (await work.read("begun.json")) !== null) return large(ports, set, athena, { work, keys });
  await work.write("begun.json", {});
  try {
    const manifest = await small(ports, set);
    await work.remove();
    return manifest;
  } catch (error) {
    if (TOO_LARGE.includes((error as FreshetError).code)) return large(ports, set, athena, { work, keys });
    await work.remove();
    throw error;
  }
}

async function small(ports: SetPorts, { folder, put, onProgress, ...set }: SetToBuild): Promise<TrainingManifest> {
  const own = join(folder, "small");
  mkdirSync(own, { recursive: true });
  const session = await DuckSession.open({ folder: own, memoryMb: ports.memoryMb });
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
    for (const name of [...parts.sort(), "manifest.json"]) await put(name, join(out, name));
    return manifest;
  } finally {
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
