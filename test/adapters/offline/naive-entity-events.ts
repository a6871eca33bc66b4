/** What `entity_events` has to say, by the words of DESIGN §10: no index, no SQL. */
import type { ArchiveRow } from "../../../adapters/archive-format.ts";

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

export function naiveEntityEvents(rows: readonly ArchiveRow[], entity: string, joinKey: string): EntityEvent[] {
  const accepted = rows.filter(({ reason, identity }) => reason === undefined && identity !== null);
  const winners: { id: string; claim: Claim }[] = [];
  for (const identity of new Set(accepted.map((row) => row.identity!))) {
    const own = accepted.filter((row) => row.identity === identity);
    const fates = own.flatMap((row) => row.fates.map((fate) => ({ row, fate })));
    const claims = fates
      .filter(({ fate }) => isVisible(fate.fate) && fate.visibleMs !== null)
      .map(({ row, fate }) => ({
        fate,
        claim: { row, visibleMs: fate.visibleMs!, rank: fate.fate === "duplicate" ? 1 : 0 },
      }));
    if (fates.some(({ fate }) => fate.entity === entity)) {
      const mine = claims.filter(({ fate }) => fate.entity === entity);
      for (const id of new Set(mine.map(({ fate }) => fate.id))) {
        const [first] = mine
          .filter(({ fate }) => fate.id === id)
          .map(({ claim }) => claim)
          .sort(compare);
        winners.push({ id, claim: first! });
      }
    } else {
      const untouched = (fates.length === 0 ? own : []).map((row) => ({ row, visibleMs: row.arrivalMs, rank: 0 }));
      const [first] = [...claims.map(({ claim }) => claim), ...untouched].sort(compare);
      const id = first?.row.fields?.[joinKey] ?? "";
      if (first !== undefined && id !== "") winners.push({ id: String(id), claim: first });
    }
  }
  return winners
    .map(({ id, claim: { row, visibleMs } }) => ({
      id,
      identity: row.identity!,
      event_time_ms: row.eventTimeMs!,
      visible_ms: visibleMs,
      fields: row.fields!,
    }))
    .sort((a, b) => (a.identity + a.id < b.identity + b.id ? -1 : 1));
}
