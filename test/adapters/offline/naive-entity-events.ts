/** What `entity_events` has to say, by the words of DESIGN §10: no index, no SQL. */
import type { ArchiveRow } from "../../../adapters/archive/archive-format.ts";

export interface EntityEvent {
  readonly id: string;
  readonly identity: string;
  readonly event_time_ms: number;
  readonly visible_ms: number;
  readonly fields: Readonly<Record<string, unknown>>;
}

interface Claim {
  readonly row: ArchiveRow;
  readonly visibleMs: number;
  readonly rank: number;
}

const isVisible = (fate: string): boolean => ["applied", "duplicate", "repaired"].includes(fate);

function compare(a: Claim, b: Claim): number {
  if (a.visibleMs !== b.visibleMs) return a.visibleMs - b.visibleMs;
  if (a.rank !== b.rank) return a.rank - b.rank;
  if (a.row.arrivalMs !== b.row.arrivalMs) return a.row.arrivalMs - b.row.arrivalMs;
  if (a.row.shard !== b.row.shard) return a.row.shard < b.row.shard ? -1 : 1;
  const sequence = BigInt(a.row.sequence) - BigInt(b.row.sequence);
  return sequence !== 0n ? Number(sequence > 0n) * 2 - 1 : a.row.subSequence - b.row.subSequence;
}

/** What a row says of an entity: its own fates, or the event's for one that its plan didn't have. */
function claimsOf(row: ArchiveRow, entity: string, joinKey: string): (Claim & { id: string })[] {
  const visible = row.fates
    .filter(({ fate, visibleMs }) => isVisible(fate) && visibleMs !== null)
    .map(({ fate, ...of }) => ({ ...of, row, visibleMs: of.visibleMs!, rank: fate === "duplicate" ? 1 : 0 }));
  if (row.fates.some((fate) => fate.entity === entity)) return visible.filter((claim) => claim.entity === entity);
  const id = String(row.fields?.[joinKey] ?? "");
  if (id === "") return [];
  if (row.fates.length === 0) return [{ row, id, visibleMs: row.arrivalMs, rank: 0 }];
  return visible.map((claim) => ({ ...claim, id }));
}

export function naiveEntityEvents(rows: readonly ArchiveRow[], entity: string, joinKey: string): EntityEvent[] {
  const accepted = rows.filter(({ reason, identity }) => reason === undefined && identity !== null);
  const claims = accepted.flatMap((row) => claimsOf(row, entity, joinKey));
  const of = ({ row, id }: (typeof claims)[number]) => `${row.identity}/${id}`;
  const winners = [...new Set(claims.map(of))].map((key) => {
    const [claim] = claims.filter((each) => of(each) === key).sort(compare);
    return { id: claim!.id, claim: claim! };
  });
  return winners
    .map(({ id, claim: { row, visibleMs } }) => ({
      id,
      identity: row.identity!,
      event_time_ms: row.eventTimeMs!,
      visible_ms: visibleMs,
      fields: row.fields!,
    }))
    .sort((a, b) => Buffer.compare(Buffer.from(a.identity + a.id), Buffer.from(b.identity + b.id)));
}
