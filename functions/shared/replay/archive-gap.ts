/**
 * Events that a restored store lacks and that the broker no longer holds, from the archive, whether compacted or not: into a store that is open for
 * replays alone. By event time: what lies at or above the seal that the store was restored with can be counted once more without being counted twice.
 */
import type { ArchiveRow, ArchiveWriter } from "../../../adapters/archive/archive.ts";
import { mountArchive } from "../../../adapters/offline/archive-view.ts";
import { type DuckOptions, DuckSession, sqlText } from "../../../adapters/offline/duckdb.ts";
import { archiveRow } from "../../../adapters/offline/late-rows.ts";
import type { ArchiveMirror } from "../../../adapters/offline/mirror.ts";
import type { StoreApplier } from "../../../adapters/valkey/applier.ts";
import { RecordPacker } from "../../../adapters/valkey/record.ts";
import { FreshetError } from "../../../core/errors.ts";
import type { Plan } from "../../../core/plan.ts";
import { replayRows } from "./archive-replay.ts";

export interface GapPorts {
  readonly plan: Plan;
  /** One that replays. */
  readonly applier: Pick<StoreApplier, "apply">;
  readonly archive: Pick<ArchiveWriter, "write">;
  readonly mirror: ArchiveMirror;
  readonly duck: DuckOptions;
  readonly tenants: (stream: string) => Promise<readonly string[]>;
  /** Event time before which the archive holds nothing any more; 0 when it is whole. */
  readonly archiveFromMs: (stream: string, nowMs: number) => Promise<number>;
  readonly clock: () => number;
}

export interface ArchiveGap {
  readonly stream: string;
  /** Event times, half-open. An empty range tells whether the archive reaches back to its start. */
  readonly fromMs: number;
  readonly toMs: number;
}

export interface GapReport {
  /** Event time before which all is done: where the next call begins, unless it is the range's end. */
  readonly nextMs: number;
  /** Rows that were read, and events that the store lacked. */
  readonly events: number;
  readonly applied: number;
}

/** Sorted at once. Raw objects have events of any age, so all since its beginning are read for each. */
const PART_MS = 6 * 3_600_000;
const BATCH_ROWS = 500;

/** @throws FreshetError `recovery_incomplete`, `stream_unknown`; what reading the archive and the store throw */
export async function replayGap(ports: GapPorts, gap: ArchiveGap, isOutOfTime: () => boolean): Promise<GapReport> {
  const { plan, clock } = ports;
  const stream = plan.streams.find(({ name }) => name === gap.stream);
  if (stream === undefined)
    throw new FreshetError("stream_unknown", `there is no stream ${gap.stream}`, { field: "stream" });
  const beginsMs = await ports.archiveFromMs(stream.name, clock());
  if (gap.fromMs < beginsMs) {
    const [seal, begin] = [gap.fromMs, beginsMs].map((ms) => new Date(ms).toISOString());
    throw new FreshetError(
      "recovery_incomplete",
      `the archive of stream ${stream.name} is kept since ${begin}, and events since ${seal} have to be replayed`,
      {
        field: "snapshot",
        repair:
          "restore a newer snapshot: `freshet restore --list`; or `freshet recover --snapshot none`, and then `freshet backfill` for what the archive has",
      },
    );
  }
  const rowPorts = {
    ...{ plan, stream, packer: new RecordPacker(plan, stream.name), applier: ports.applier, archive: ports.archive },
    // The seal stands meanwhile, and what is late is queued already.
    watermark: { register: async () => 0, clear: async () => {} },
    late: { put: async () => {} },
  };
  const counts = { events: 0, applied: 0 };
  const tenants = await ports.tenants(stream.name);
  for (let fromMs = gap.fromMs; fromMs < gap.toMs; fromMs += PART_MS) {
    const range = { stream, fromMs, toMs: Math.min(gap.toMs, fromMs + PART_MS) };
    const session = await DuckSession.open(ports.duck);
    try {
      const views: string[] = [];
      for (const [i, tenant] of tenants.entries()) {
        await mountArchive(session, ports.mirror, { tenant, ...range }, `archive_${i}`);
        views.push(`SELECT ${sqlText(tenant)} AS tenant, * FROM archive_${i} WHERE reason IS NULL`);
      }
      if (views.length === 0) continue;
      let [batch, nextMs]: [ArchiveRow[], number] = [[], fromMs];
      const flush = async () => {
        if (batch.length === 0) return;
        const { applied } = await replayRows(rowPorts, batch);
        counts.events += batch.length;
        counts.applied += applied;
        batch = [];
      };
      // Of an event with two payloads the one that was counted comes first.
      const order = `event_time_ms, identity, len(list_filter(fates, fate -> fate.fate IN ('applied', 'repaired'))) DESC, arrival_ms, shard, length(sequence), sequence, sub_sequence`;
      for await (const rows of session.stream(`SELECT * FROM (${views.join(" UNION ALL ")}) ORDER BY ${order}`)) {
        for (const row of rows) {
          const timeMs = Number(row["event_time_ms"]);
          if (timeMs > nextMs) {
            if (batch.length >= BATCH_ROWS) {
              await flush();
              if (isOutOfTime()) return { nextMs: timeMs, ...counts };
            }
            nextMs = timeMs;
          }
          batch.push(archiveRow(row["tenant"], stream, row));
        }
      }
      await flush();
      if (isOutOfTime()) return { nextMs: range.toMs, ...counts };
    } finally {
      session.close();
    }
  }
  return { nextMs: gap.toMs, ...counts };
}
