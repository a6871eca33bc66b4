/** What the archive knows of single events: every row of them, and for which entities they are visible. */
import type { FieldType, Plan, Stream } from "../../core/plan.ts";
import type { ArchiveRow } from "../archive/archive-format.ts";
import { joinKeyParts } from "../aws/key-parts.ts";
import { mountArchive } from "./archive-view.ts";
import { type DuckOptions, type DuckRow, DuckSession, sqlText } from "./duckdb.ts";
import { entityEventsSql } from "./entity-events.ts";
import type { ArchiveMirror } from "./mirror.ts";

export interface SoughtEvent {
  readonly entity: string;
  readonly identity: string;
  readonly eventTimeMs: number;
}

export interface FoundEvents {
  /** Rows that are not quarantined, by identity, in the order of their deliveries. */
  readonly rows: ReadonlyMap<string, readonly ArchiveRow[]>;
  /** `visibleKey` of each entity that an event is visible for. */
  readonly visible: ReadonlySet<string>;
}

export const visibleKey = (entity: string, id: string, identity: string): string => joinKeyParts(entity, id, identity);

const HOUR_MS = 3_600_000;

/**
 * Looks events of one tenant and stream up. Compacted objects of their hours are read, and raw ones since the earliest of them.
 * @throws RecordError `archive_corrupt`, `archive_version`; InfrastructureError `archive_unavailable`
 */
export async function findEvents(
  { plan, mirror, duck }: { readonly plan: Plan; readonly mirror: ArchiveMirror; readonly duck: DuckOptions },
  {
    tenant,
    stream,
    events,
  }: { readonly tenant: string; readonly stream: Stream; readonly events: readonly SoughtEvent[] },
): Promise<FoundEvents> {
  const times = events.map(({ eventTimeMs }) => eventTimeMs);
  const hours = new Set(times.map((ms) => Math.floor(ms / HOUR_MS) * HOUR_MS));
  const range = { tenant, stream, fromMs: min(times), toMs: max(times) + 1, hours };
  const session = await DuckSession.open(duck);
  try {
    await mountArchive(session, mirror, range, "archive");
    const identities = [...new Set(events.map(({ identity }) => identity))];
    await session.run(
      `CREATE TEMP TABLE sought AS SELECT * FROM archive WHERE identity IN (${identities.map(sqlText)}) AND reason IS NULL`,
    );
    const rows = new Map<string, ArchiveRow[]>();
    const found = await session.rows(
      `SELECT * FROM sought ORDER BY arrival_ms, shard, length(sequence), sequence, sub_sequence`,
    );
    for (const row of found) {
      const list = rows.get(row["identity"]) ?? [];
      rows.set(row["identity"], list);
      list.push(archiveRow(tenant, stream, row));
    }
    const visible = new Set<string>();
    for (const entity of new Set(events.map((event) => event.entity))) {
      const sql = entityEventsSql(plan, entity, { archive: "sought" });
      for (const { id, identity } of await session.rows(`SELECT id, identity FROM (${sql})`)) {
        visible.add(visibleKey(entity, id, identity));
      }
    }
    return { rows, visible };
  } finally {
    session.close();
  }
}

/** @param row of the archive's relation (archive-view.ts) */
export function archiveRow(tenant: string, stream: Stream, row: DuckRow): ArchiveRow {
  return {
    tenant,
    stream: stream.name,
    eventId: row["event_id"],
    eventTimeMs: Number(row["event_time_ms"]),
    identity: row["identity"],
    arrivalMs: Number(row["arrival_ms"]),
    shard: row["shard"],
    sequence: row["sequence"],
    subSequence: row["sub_sequence"],
    fields: Object.fromEntries(
      Object.entries(stream.fields).map(([name, { type }]) => [name, fieldValue(type, row["fields"]?.[name] ?? null)]),
    ),
    fates: (row["fates"] as DuckRow[]).map((fate) => ({
      entity: fate["entity"],
      id: fate["id"],
      fate: fate["fate"],
      visibleMs: fate["visible_ms"] === null ? null : Number(fate["visible_ms"]),
    })),
  };
}

/** As ingest has decoded it. */
function fieldValue(type: FieldType, value: any): unknown {
  if (value === null) return null;
  if (type === "long") return Number(value);
  if (type !== "map") return value;
  return Object.fromEntries((value as { key: string; value: string }[]).map((entry) => [entry.key, entry.value]));
}

const min = (values: readonly number[]): number => values.reduce((a, b) => Math.min(a, b));
const max = (values: readonly number[]): number => values.reduce((a, b) => Math.max(a, b));
