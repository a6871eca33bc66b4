/**
 * The part of a replay (archive-replay.ts) whose raw objects compaction has taken away or may take away meanwhile: what it has not come to yet, then
 * hour by hour of event time. Nearly all of it is sealed and visible, and only counted.
 */
import { randomUUID } from "node:crypto";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { type ArchiveRow, readArchive } from "../../../adapters/archive/archive.ts";
import { type DuckOptions, DuckSession } from "../../../adapters/offline/duckdb.ts";
import { archiveRow } from "../../../adapters/offline/late-rows.ts";
import { ArchiveMirror } from "../../../adapters/offline/mirror.ts";
import { type Arrivals, listSettled, mountHour } from "../../../adapters/offline/settled-archive.ts";
import type { StoredObject } from "../../../adapters/s3/object-list.ts";
import {
  type ArchiveReplay,
  type ArchiveReplayReport,
  BATCH_EVENTS,
  partsOf,
  type ReplayPart,
  type ReplayStep,
  type RowPorts,
  replaySteps,
} from "./archive-replay.ts";

export interface SettledReplayPorts {
  readonly rows: RowPorts;
  readonly archive: Omit<ConstructorParameters<typeof ArchiveMirror>[0], "folder">;
  readonly duck: DuckOptions;
  readonly tenants: (stream: string) => Promise<readonly string[]>;
}

/** @param replay `after` is a step's name here. @throws as `replayArchive` */
export async function replaySettled(
  ports: SettledReplayPorts,
  replay: ArchiveReplay,
  isOutOfTime: () => boolean,
): Promise<ArchiveReplayReport> {
  const { stream } = ports.rows;
  let session: DuckSession | null = null;
  // Of its own: what it has brought is removed when it is read, and nobody else's is.
  const folder = join(ports.duck.folder, `replay-${randomUUID()}`);
  const mirror = new ArchiveMirror({ ...ports.archive, folder });
  // Raw objects before hours: one that is compacted meanwhile is in an hour that is still to come.
  const steps: ReplayStep[] = [];
  for (const tenant of await ports.tenants(stream.name)) {
    const of = { tenant, stream, fromMs: replay.fromMs, toMs: replay.toMs };
    const { raw, hours } = await listSettled(mirror, of);
    for (const key of raw) steps.push({ name: `0 ${key}`, parts: () => ofObject(mirror, key, replay) });
    for (const [hourMs, objects] of hours)
      steps.push({
        name: `1 ${String(hourMs).padStart(15, "0")} ${tenant}`,
        async *parts() {
          session ??= await DuckSession.open(ports.duck);
          yield* ofHour(session, mirror, of, { hourMs, objects }, replay);
        },
      });
  }
  steps.sort((a, b) => (a.name < b.name ? -1 : 1));
  try {
    return await replaySteps(ports.rows, replay, steps, isOutOfTime);
  } finally {
    (session as DuckSession | null)?.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function* ofObject(mirror: ArchiveMirror, key: string, replay: ArchiveReplay): AsyncGenerator<ReplayPart> {
  const bytes = await mirror.get(key);
  // Taken away since it was listed: its rows are in an hour that comes.
  if (bytes !== null) yield* partsOf([...readArchive(bytes)], replay);
}

async function* ofHour(
  session: DuckSession,
  mirror: ArchiveMirror,
  of: Arrivals,
  { hourMs, objects: listed }: { readonly hourMs: number; readonly objects: readonly StoredObject[] },
  { sealMs }: ArchiveReplay,
): AsyncGenerator<ReplayPart> {
  const { objects, end } = await mountHour(session, mirror, of, hourMs, listed, "archive");
  try {
    const events = `FROM archive WHERE reason IS NULL AND arrival_ms >= ${of.fromMs} AND arrival_ms < ${of.toMs}`;
    const open = `(event_time_ms >= ${sealMs} OR len(list_filter(fates, fate -> fate.fate = 'late')) > 0)`;
    const [counted] = await session.rows(`SELECT count(*) FILTER (WHERE NOT ${open}) AS sealed ${events}`);
    yield { events: Number(counted!["sealed"]), open: [] };
    let batch: ArchiveRow[] = [];
    const order = "identity, arrival_ms, shard, length(sequence), sequence, sub_sequence";
    // A late row and the one that tells of its repair are looked at together.
    for await (const rows of session.stream(`SELECT * ${events} AND ${open} ORDER BY ${order}`)) {
      for (const row of rows) {
        if (batch.length >= BATCH_EVENTS && batch.at(-1)!.identity !== row["identity"]) {
          yield { events: batch.length, open: batch };
          batch = [];
        }
        batch.push(archiveRow(of.tenant, of.stream, row));
      }
    }
    if (batch.length > 0) yield { events: batch.length, open: batch };
    await mirror.forget(objects);
  } finally {
    end();
  }
}
