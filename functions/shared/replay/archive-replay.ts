/**
 * Applies archived events of a range of arrivals once more. What the store has is a duplicate, what it lacks is counted, and what is
 * sealed and was never visible goes to the late queue. The archive has the events: a row is added only where the store holds one as visible that no row says so of.
 */
import type { ArchiveRow, EntityFate } from "../../../adapters/archive/archive.ts";
import type { RawArchive } from "../../../adapters/archive/raw-archive.ts";
import type { LateItem } from "../../../adapters/late-queue/late-queue.ts";
import type { StoreApplier } from "../../../adapters/valkey/applier.ts";
import type { PreparedEvent } from "../../../adapters/valkey/record.ts";
import type { Watermark } from "../../../adapters/valkey/watermark.ts";
import type { Stream } from "../../../core/plan.ts";
import {
  type AggregationPorts,
  asArchived,
  isErased,
  isSealed,
  lateStarts,
  withoutErased,
} from "../aggregation/aggregation.ts";
import { applyAll } from "../aggregation/apply-all.ts";

export interface ArchiveReplay {
  readonly stream: string;
  /** Arrivals, half-open. */
  readonly fromMs: number;
  readonly toMs: number;
  /** The stream's seal, as it was: events below it are not sent, as long as they are visible. */
  readonly sealMs: number;
  /** Key of the last object that is done; null to begin. */
  readonly after: string | null;
  readonly dryRun?: boolean;
  /** Events a second, at most. @default as fast as it goes */
  readonly ratePerS?: number;
}

export interface ReplayCounts {
  /** Events of the range, each row by itself. */
  readonly events: number;
  /** Of these: counted now, were counted, below the seal and counted long ago, and sealed ones that wait for repair now. */
  readonly applied: number;
  readonly duplicates: number;
  readonly sealed: number;
  readonly late: number;
  /** The store's function throws over them, or they lack what an event has. */
  readonly refused: number;
}
export const NOTHING_COUNTED: ReplayCounts = { events: 0, applied: 0, duplicates: 0, sealed: 0, late: 0, refused: 0 };

export interface ArchiveReplayReport extends ReplayCounts {
  readonly state: "done" | "more";
  readonly after: string | null;
  /** Objects of the range, and those that are done. */
  readonly objects: number;
  readonly objectsDone: number;
}

/** Of one call to the store and its rows in memory. */
export const BATCH_EVENTS = 500;
/** No shard has it: nobody else's registrations go with these. */
const REGISTERED_AS = "again-archive";

interface Archived {
  readonly row: ArchiveRow & { readonly tenant: string; readonly eventId: string; readonly identity: string };
  readonly eventTimeMs: number;
  readonly prepared: PreparedEvent;
}

/** Events of the range, and those that are open or were late. */
export interface ReplayPart extends Pick<ReplayCounts, "events"> {
  readonly open: readonly ArchiveRow[];
}

/** What is done as a whole, or once more. */
export interface ReplayStep {
  /** Steps go in the order of their names. */
  readonly name: string;
  parts(): AsyncIterable<ReplayPart>;
}

/** @throws InfrastructureError; RecordError for a damaged object */
export async function replayArchive(
  ports: { readonly archive: Pick<RawArchive, "keys" | "rows">; readonly aggregation: AggregationPorts },
  replay: ArchiveReplay,
  isOutOfTime: () => boolean,
  pause?: (ms: number) => Promise<unknown>,
): Promise<ArchiveReplayReport> {
  const keys = await ports.archive.keys(replay.stream, replay.fromMs, replay.toMs);
  const steps = keys.map((key) => ({
    name: key,
    async *parts() {
      yield* partsOf(await ports.archive.rows(key), replay);
    },
  }));
  return replaySteps(ports.aggregation, replay, steps, isOutOfTime, pause);
}

/** Goes on after `replay.after`, a step's name. @throws as its steps, and InfrastructureError */
export async function replaySteps(
  ports: RowPorts,
  replay: ArchiveReplay,
  steps: readonly ReplayStep[],
  isOutOfTime: () => boolean,
  pause?: (ms: number) => Promise<unknown>,
): Promise<ArchiveReplayReport> {
  const due = steps.filter(({ name }) => replay.after === null || name > replay.after);
  let { after } = replay;
  let objectsDone = steps.length - due.length;
  const counts = { ...NOTHING_COUNTED };
  const pace = paceOf(replay.ratePerS, pause);
  for (const step of due) {
    if (isOutOfTime()) return { state: "more", after, objects: steps.length, objectsDone, ...counts };
    for await (const { events, open } of step.parts()) {
      counts.events += events;
      counts.sealed += events - open.length;
      if (replay.dryRun || open.length === 0) continue;
      const done = await replayRows(ports, open);
      for (const name of ["applied", "duplicates", "late", "refused"] as const) counts[name] += done[name];
      await pace(counts.events);
    }
    after = step.name;
    objectsDone++;
  }
  return { state: "done", after, objects: steps.length, objectsDone, ...counts };
}

/** Of a raw object's rows. */
export function* partsOf(
  rows: readonly ArchiveRow[],
  { fromMs, toMs, sealMs }: ArchiveReplay,
): Generator<ReplayPart, void> {
  const own = rows.filter(({ arrivalMs, reason }) => reason === undefined && arrivalMs >= fromMs && arrivalMs < toMs);
  for (let at = 0; at < own.length; at += BATCH_EVENTS) {
    const part = own.slice(at, at + BATCH_EVENTS);
    yield { events: part.length, open: part.filter((row) => isOpen(row, sealMs)) };
  }
}

/** Whether the store is to be asked: what is sealed and was visible is there, or comes by a build alone. */
const isOpen = ({ eventTimeMs, fates }: ArchiveRow, sealMs: number): boolean =>
  (eventTimeMs ?? sealMs) >= sealMs || fates.some(({ fate }) => fate === "late");

/** Waits where more events are done than may be by now. @param ratePerS @default as fast as it goes */
function paceOf(
  ratePerS: number | undefined,
  pause: (ms: number) => Promise<unknown> = (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
): (events: number) => Promise<void> {
  const startedMs = Date.now();
  return async (events) => {
    if (ratePerS === undefined) return;
    const earlyMs = startedMs + (events / ratePerS) * 1_000 - Date.now();
    if (earlyMs > 0) await pause(earlyMs);
  };
}

/** What applying archived rows needs of the aggregate function's. */
export type RowPorts = Pick<AggregationPorts, "plan" | "stream" | "packer" | "archive" | "late"> & {
  readonly applier: Pick<StoreApplier, "apply">;
  readonly watermark: Pick<Watermark, "register" | "clear">;
};

/** @throws InfrastructureError */
export async function replayRows(ports: RowPorts, rows: readonly ArchiveRow[]) {
  const { stream, watermark } = ports;
  const events = rows.flatMap((row) => archivedOf(ports, row));
  const refused = rows.length - events.length;
  if (events.length === 0) return { applied: 0, duplicates: 0, late: 0, refused };
  const sequence = `${events[0]!.row.sequence}-${events[0]!.row.subSequence}`;
  const arrivals = rows.map(({ arrivalMs }) => arrivalMs);
  const span = {
    ...{ shard: REGISTERED_AS, firstSequence: sequence, lastSequence: sequence },
    firstArrivalMs: Math.min(...arrivals),
  };
  const stamp = await watermark.register(stream.name, span, lateStarts(stream, events));
  const { fates, thrown } = await applyAll(ports.applier, events);
  const visible = visibleIn(rows);
  const counts = { applied: 0, duplicates: 0, late: 0, refused: refused + thrown.length };
  const added: ArchiveRow[] = [];
  const late: LateItem[] = [];
  events.forEach((event, i) => {
    const own = fates[i];
    if (own === null) return;
    const sealed = own.filter((fate) => isSealed(fate) && !visible.has(visibleKey(event.row, fate)));
    late.push(...sealed.map(({ entity, id }) => lateItem(stream, event, entity, id)));
    if (sealed.length > 0) counts.late++;
    else if (own.some(({ fate }) => fate === "applied")) counts.applied++;
    else counts.duplicates++;
    const news = own.some((fate) => fate.visibleMs !== null && !visible.has(visibleKey(event.row, fate)));
    if (!news) return;
    const row = { ...event.row, fates: own.map((fate) => keptVisible(event.row, asArchived(fate))) };
    const left = own.some(isErased) ? withoutErased(ports, row, own) : row;
    if (left !== null) added.push(left);
  });
  await Promise.all([
    added.length > 0 ? ports.archive.write(added, { stream: stream.name, shard: added[0]!.shard }) : undefined,
    late.length > 0 ? ports.late.put(late) : undefined,
  ]);
  await watermark.clear(stream.name, REGISTERED_AS, [sequence], 0, null, stamp);
  return counts;
}

/** None for a row that the packer refuses: its neighbours go on. */
function archivedOf({ packer }: RowPorts, row: ArchiveRow): Archived[] {
  const { tenant, eventId, eventTimeMs, identity, fields } = row;
  if (tenant === null || eventId === null || eventTimeMs === null || identity === null || fields === null) return [];
  try {
    // By the identity that it was counted under: the event's id may have been erased since.
    const prepared = packer.prepare(tenant, eventId, eventTimeMs, fields, identity);
    return [{ row: { ...row, tenant, eventId, identity }, eventTimeMs, prepared }];
  } catch {
    return [];
  }
}

const visibleKey = (
  { identity }: Pick<ArchiveRow, "identity">,
  { entity, id }: { entity: string; id: string },
): string => JSON.stringify([identity, entity, id]);

function visibleIn(rows: readonly ArchiveRow[]): ReadonlySet<string> {
  return new Set(
    rows.flatMap((row) => row.fates.filter(({ visibleMs }) => visibleMs !== null).map((fate) => visibleKey(row, fate))),
  );
}

/** A row speaks for itself (docs/decisions/0037): what the one before it said of an entity that is sealed now, it says again. */
function keptVisible(row: ArchiveRow, fate: EntityFate): EntityFate {
  if (fate.visibleMs !== null) return fate;
  return row.fates.find(({ entity, id }) => entity === fate.entity && id === fate.id) ?? fate;
}

const lateItem = (stream: Stream, { row, eventTimeMs }: Archived, entity: string, id: string): LateItem => ({
  ...{ tenant: row.tenant, entity, id, stream: stream.name, baseIndex: Math.floor(eventTimeMs / stream.baseMs) },
  ...{ identity: row.identity, eventId: row.eventId, eventTimeMs, arrivalMs: row.arrivalMs },
});
