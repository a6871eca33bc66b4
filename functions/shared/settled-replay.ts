/**
 * The part of a replay (archive-replay.ts) whose raw objects compaction has taken away or may take away meanwhile: what it has not come to yet, then
 * hour by hour of event time. Nearly all of it is sealed and visible, and only counted.
 */
import { randomUUID } from "node:crypto";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { type ArchiveRow, readArchive } from "../../adapters/archive.ts";
import type { StoredObject } from "../../adapters/object-list.ts";
import { type DuckOptions, DuckSession } from "../../adapters/offline/duckdb.ts";
import { archiveRow } from "../../adapters/offline/late-rows.ts";
import { ArchiveMirror } from "../../adapters/offline/mirror.ts";
import { type Arrivals, listSettled, mountHour } from "../../adapters/offline/settled-archive.ts";
import {
  type ArchiveReplay,
  type ArchiveReplayReport,
  isOpen,
  NOTHING_COUNTED,
  paceOf,
  type ReplayCounts,
  type RowPorts,
  replayRows,
} from "./archive-replay.ts";

export interface SettledReplayPorts {
  readonly rows: RowPorts;
  readonly archive: Omit<ConstructorParameters<typeof ArchiveMirror>[0], "folder">;
  readonly duck: DuckOptions;
  readonly tenants: (stream: string) => Promise<readonly string[]>;
}

interface Step {
  /** Raw objects before hours: one that is compacted meanwhile is in an hour that is still to come. */
  readonly name: string;
  readonly of: Arrivals;
  readonly what: { readonly key: string } | { readonly hourMs: number; readonly objects: readonly StoredObject[] };
}

const BATCH_EVENTS = 500;

/** @param replay `after` is a step's name here. @throws as `replayArchive` */
export async function replaySettled(
  ports: SettledReplayPorts,
  replay: ArchiveReplay,
  isOutOfTime: () => boolean,
): Promise<ArchiveReplayReport> {
  const { stream } = ports.rows;
  const steps: Step[] = [];
  // Of its own: what it has brought is removed when it is read, and nobody else's is.
  const folder = join(ports.duck.folder, `replay-${randomUUID()}`);
  const mirror = new ArchiveMirror({ ...ports.archive, folder });
  for (const tenant of await ports.tenants(stream.name)) {
    const of = { tenant, stream, fromMs: replay.fromMs, toMs: replay.toMs };
    const { raw, hours } = await listSettled(mirror, of);
    for (const key of raw) steps.push({ name: `0 ${key}`, of, what: { key } });
    for (const [hourMs, objects] of hours)
      steps.push({ name: `1 ${String(hourMs).padStart(15, "0")} ${tenant}`, of, what: { hourMs, objects } });
  }
  steps.sort((a, b) => (a.name < b.name ? -1 : 1));
  const due = steps.filter(({ name }) => replay.after === null || name > replay.after);
  let { after } = replay;
  let objectsDone = steps.length - due.length;
  const counts = { ...NOTHING_COUNTED };
  const pace = paceOf(replay.ratePerS);
  let session: DuckSession | null = null;
  try {
    for (const { name, of, what } of due) {
      if (isOutOfTime()) return { state: "more", after, objects: steps.length, objectsDone, ...counts };
      const done =
        "key" in what
          ? ofObject(mirror, what.key, replay)
          : ofHour((session ??= await DuckSession.open(ports.duck)), mirror, of, what, replay);
      for await (const { events, open } of done) {
        counts.events += events;
        counts.sealed += events - open.length;
        if (!replay.dryRun && open.length > 0) {
          const applied = await replayRows(ports.rows, open);
          for (const key of ["applied", "duplicates", "late", "refused"] as const) counts[key] += applied[key];
        }
        await pace(counts.events);
      }
      after = name;
      objectsDone++;
    }
    return { state: "done", after, objects: steps.length, objectsDone, ...counts };
  } finally {
    session?.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Events of the range, and those that are open or were late. */
interface Part extends Pick<ReplayCounts, "events"> {
  readonly open: readonly ArchiveRow[];
}

async function* ofObject(mirror: ArchiveMirror, key: string, replay: ArchiveReplay): AsyncGenerator<Part> {
  const { fromMs, toMs } = replay;
  const bytes = await mirror.get(key);
  // Taken away since it was listed: its rows are in an hour that comes.
  if (bytes === null) return;
  const rows = [...readArchive(bytes)].filter(
    ({ arrivalMs, reason }) => reason === undefined && arrivalMs >= fromMs && arrivalMs < toMs,
  );
  for (let at = 0; at < rows.length; at += BATCH_EVENTS) {
    const part = rows.slice(at, at + BATCH_EVENTS);
    yield { events: part.length, open: part.filter((row) => isOpen(row, replay.sealMs)) };
  }
}

async function* ofHour(
  session: DuckSession,
  mirror: ArchiveMirror,
  of: Arrivals,
  { hourMs, objects: listed }: { readonly hourMs: number; readonly objects: readonly StoredObject[] },
  { sealMs }: ArchiveReplay,
): AsyncGenerator<Part> {
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
