/**
 * What the aggregate function does with one batch of one shard (DESIGN §6): decode, register, apply, make every side output
 * durable, clear the registration, acknowledge. Any infrastructure failure stops it before the acknowledgement.
 */
import type { ArchiveRow, ArchiveWriter } from "../../../adapters/archive/archive.ts";
import { type EventReader, isHeartbeat } from "../../../adapters/avro/event-codec.ts";
import { deaggregate } from "../../../adapters/kinesis/kpl.ts";
import type { LateItem, LateQueue } from "../../../adapters/late-queue/late-queue.ts";
import type { DeliveredRecord } from "../../../adapters/mapping/delivery.ts";
import type { QuarantineWriter } from "../../../adapters/quarantine/quarantine.ts";
import type { EntityFate, StoreApplier } from "../../../adapters/valkey/applier.ts";
import type { PreparedEvent, RecordPacker } from "../../../adapters/valkey/record.ts";
import type { StatsUpdate } from "../../../adapters/valkey/stats.ts";
import type { BatchSpan, Watermark } from "../../../adapters/valkey/watermark.ts";
import { rowEraser } from "../../../core/erasure.ts";
import { InfrastructureError, RecordError } from "../../../core/errors.ts";
import { checkEvent } from "../../../core/event.ts";
import type { Plan, Stream } from "../../../core/plan.ts";
import { floorTo } from "../../../core/tiles/window.ts";
import { applyAll } from "./apply-all.ts";
import { archiveRows } from "./archive-rows.ts";
import { type Conflicts, findConflicts } from "./identity-conflicts.ts";
import { type Refused, refuse } from "./refusal.ts";

/** One record as the mapping delivers it, or some of one. */
export interface StreamRecord extends DeliveredRecord {
  /** Index within its KPL-aggregated record, of an event that was taken out of one. @default 0 */
  readonly subSequence?: number;
}

/** Records that the mapping delivers no more: it gave them up, or they were set aside. Their arrival keeps nothing above the seal. */
export interface Again {
  /**
   * What the batch is registered under: its shard, when it is what the mapping gave up, so that the registrations of those
   * deliveries go too; else a name that no shard has, so that nobody else's do.
   */
  readonly registeredAs: string;
}

export interface AggregationPorts {
  readonly plan: Plan;
  readonly stream: Stream;
  readonly codec: EventReader;
  readonly packer: RecordPacker;
  readonly applier: StoreApplier;
  readonly watermark: Watermark;
  readonly archive: Pick<ArchiveWriter, "write">;
  readonly quarantine: Pick<QuarantineWriter, "write">;
  readonly late: Pick<LateQueue, "put">;
}

export interface BatchResult extends StatsUpdate {
  readonly oldestArrivalMs: number;
  readonly failover: boolean;
  readonly archivedBytes: number;
  readonly conflicts: Conflicts;
  /** Events of which an entity has been erased since: they count for the others alone. */
  readonly erased: number;
}

export interface Candidate {
  readonly record: StreamRecord;
  readonly subSequence: number;
  /** Of this event alone. */
  readonly bytes: Buffer;
  readonly tenant: string;
  readonly eventId: string;
  readonly eventTimeMs: number;
  readonly fields: Readonly<Record<string, unknown>>;
  readonly prepared: PreparedEvent;
}

/**
 * @param records of one shard, in order, at least one
 * @throws InfrastructureError when anything is not durable: the whole batch is to be delivered again
 */
export async function aggregateBatch(
  ports: AggregationPorts,
  shard: string,
  records: readonly StreamRecord[],
  again: Again | null = null,
): Promise<BatchResult> {
  const { stream, watermark } = ports;
  const span = spanOf(again?.registeredAs ?? shard, records);
  const protectedMs = again === null ? span.firstArrivalMs - stream.allowedLatenessMs : Number.POSITIVE_INFINITY;
  const { candidates, refused } = await decodeBatch(ports, shard, records).catch(async (error) => {
    // Nobody knows yet what these are: other batches of the shard may go on, the seal may not pass these.
    if (again === null) await watermark.register(stream.name, span, [], protectedMs);
    throw error;
  });
  const stamp = await watermark.register(stream.name, span, lateStarts(stream, candidates, protectedMs), protectedMs);
  const { fates, nowMs, failover, refusedLater, partly } = await applyCandidates(ports, shard, candidates);
  refused.push(...refusedLater);
  const rows: ArchiveRow[] = [];
  const late: LateItem[] = [];
  const counts = { applied: 0, duplicates: 0, late: 0, erased: 0 };
  candidates.forEach((candidate, i) => {
    const own = fates[i];
    if (own === null) return;
    if (own.some(isErased)) {
      const left = withoutErased(ports, archiveRow(stream, shard, candidate, own.map(asArchived)), own);
      if (left !== null) rows.push(left);
      late.push(...waiting(stream, candidate, own, left));
      counts.erased++;
      return;
    }
    if (noneSealed(own)) {
      rows.push(archiveRow(stream, shard, candidate, own));
      if (own.length > 0 && own.every(isDuplicate)) counts.duplicates++;
      else counts.applied++;
      return;
    }
    const row = archiveRow(stream, shard, candidate, own.map(asArchived));
    rows.push(row);
    late.push(...waiting(stream, candidate, own, row));
    counts.late++;
  });
  for (const { event, others } of partly) {
    const row = rowOfAnswered(ports, shard, event, others);
    if (row !== null) rows.push(row);
    late.push(...waiting(stream, event, others, row));
  }
  rows.push(...refused.map(({ row }) => row));
  const [objects] = await Promise.all([
    rows.length > 0 ? archiveRows(ports, shard, rows, candidates) : [],
    late.length > 0 ? ports.late.put(late) : undefined,
    refused.length > 0 ? ports.quarantine.write(refused.map(({ quarantined }) => quarantined)) : undefined,
  ]);
  await watermark.clear(
    stream.name,
    span.shard,
    records.map(({ sequence }) => sequence),
    // Where no record has an arrival, none is committed.
    Math.max(0, ...arrivals(records)),
    null,
    stamp,
  );
  return {
    events: candidates.length + refused.length - refusedLater.length,
    ...counts,
    quarantined: refused.length,
    arrivalMs: Math.max(...records.map(({ arrivalMs }) => arrivalMs)),
    oldestArrivalMs: records[0].arrivalMs,
    visibleMs: nowMs,
    failover,
    conflicts: findConflicts(
      candidates,
      stream.enrich?.map(({ field }) => field),
    ),
    archivedBytes: objects.reduce((total, { bytes }) => total + bytes, 0),
  };
}

export interface ReplayResult {
  /** Events that were missing. */
  readonly applied: number;
  /** Records that the deployed contract cannot read: refused when they first came, too, unless another contract was deployed then. */
  readonly unread: number;
}

/**
 * Applies records once more after a loss. What the store counts by this is archived as visible: its own delivery may have been
 * late, in a store that was sealed further, or may still come, when the seal has passed it. Registers nothing: the seal stands
 * meanwhile. What is sealed by now, or was refused then, is skipped; of an event that counts again, the entities that are sealed
 * further wait for repair, since none of them need have been in the plan that its own delivery knew.
 * @throws InfrastructureError
 */
export async function replayBatch(
  ports: AggregationPorts,
  shard: string,
  records: readonly StreamRecord[],
): Promise<ReplayResult> {
  const { candidates, refused } = await decodeBatch(ports, shard, records);
  const { fates, partly } = await applyCandidates(ports, shard, candidates);
  const late: LateItem[] = [];
  const rows: ArchiveRow[] = [];
  const answered = candidates.map((event, i) => ({ event, own: fates[i] ?? [] }));
  // Its own delivery sets such an event aside; what counts of it may be sealed by then.
  for (const { event, others } of partly) answered.push({ event, own: others });
  for (const { event, own } of answered) {
    if (own.every((fate) => isSealed(fate) || isErased(fate))) continue;
    // The broker holds whoever was erased until its retention ends; the archive may not name them again.
    const row = rowOfAnswered(ports, shard, event, own);
    if (row === null) continue;
    rows.push(row);
    late.push(...waiting(ports.stream, event, own, row));
  }
  await Promise.all([
    rows.length > 0 ? ports.archive.write(rows, { stream: ports.stream.name, shard }) : undefined,
    late.length > 0 ? ports.late.put(late) : undefined,
  ]);
  const applied = fates.filter((own) => own?.some(({ fate }) => fate === "applied")).length;
  return { applied, unread: refused.length };
}

const spanOf = (shard: string, records: readonly StreamRecord[]): BatchSpan => ({
  shard,
  firstSequence: records[0].sequence,
  firstArrivalMs: arrivals(records)[0] ?? records[0].arrivalMs,
  lastSequence: records[records.length - 1].sequence,
});

/** Those that the broker gave. */
const arrivals = (records: readonly StreamRecord[]): number[] =>
  records.filter(({ isArrivalUntrusted }) => !isArrivalUntrusted).map(({ arrivalMs }) => arrivalMs);

/** Base tiles of events that the batch's arrival does not keep above the seal, ascending. Nearly always none. */
export function lateStarts(
  stream: Stream,
  candidates: readonly { readonly eventTimeMs: number }[],
  protectedMs = Number.POSITIVE_INFINITY,
): number[] {
  const starts = new Set<number>();
  for (const { eventTimeMs } of candidates) {
    if (eventTimeMs < protectedMs) starts.add(floorTo(eventTimeMs, stream.baseMs));
  }
  return [...starts].sort((a, b) => a - b);
}

/** Decodes and checks every event. Whatever one record does wrong stays with that record. */
async function decodeBatch(ports: AggregationPorts, shard: string, records: readonly StreamRecord[]) {
  const { opened, refused } = open(ports.stream, shard, records);
  await ports.codec.learn?.(opened.map(({ bytes }) => bytes));
  const candidates: Candidate[] = [];
  for (const { record, subSequence, bytes } of opened) {
    let fields: Record<string, unknown> | null = null;
    try {
      fields = ports.codec.decode(bytes).fields as Record<string, unknown>;
      if (record.isArrivalUntrusted) throw withoutArrival();
      const checked = checkEvent(ports.stream, fields, record.arrivalMs);
      const { tenant, eventId, eventTimeMs } = checked;
      const prepared = ports.packer.prepare(tenant, eventId, eventTimeMs, fields);
      candidates.push({ record, subSequence, bytes, tenant, eventId, eventTimeMs, fields, prepared });
    } catch (error) {
      if (error instanceof InfrastructureError) throw error;
      refused.push(refuse(ports.stream, shard, record, subSequence, bytes, fields, error));
    }
  }
  return { candidates, refused };
}

/** Single events, out of the records that hold several; heartbeats are none. */
function open(stream: Stream, shard: string, records: readonly StreamRecord[]) {
  const opened: Pick<Candidate, "record" | "subSequence" | "bytes">[] = [];
  const refused: Refused[] = [];
  for (const record of records) {
    const from = record.subSequence ?? 0;
    let parts: readonly Buffer[];
    try {
      parts = deaggregate(record.bytes) ?? [record.bytes];
    } catch (error) {
      refused.push(refuse(stream, shard, record, from, record.bytes, null, error));
      continue;
    }
    parts.forEach((bytes, i) => {
      if (!isHeartbeat(bytes)) opened.push({ record, subSequence: from + i, bytes });
    });
  }
  return { opened, refused };
}

/** Its event is counted when somebody who knows the topic replays it out of the quarantine. */
const withoutArrival = (): RecordError =>
  new RecordError("arrival_untrusted", "the topic stamps records with their producer's time, not with their arrival", {
    repair: "set message.timestamp.type=LogAppendTime on the topic, then replay: freshet quarantine replay",
  });

/** Whatever the store's function throws over is set aside; a null in `fates` stands for it. */
async function applyCandidates(ports: AggregationPorts, shard: string, candidates: readonly Candidate[]) {
  const { thrown, ...result } = await applyAll(ports.applier, candidates);
  const refusedLater = thrown.map(({ event: { record, subSequence, bytes, fields }, error }) =>
    refuse(ports.stream, shard, record, subSequence, bytes, fields, error),
  );
  return { ...result, refusedLater, partly: thrown.filter(({ others }) => others.length > 0) };
}

/**
 * What the entities have counted for which the store has answered. Of an event that is set aside because the store's function throws over
 * another entity of it, too: without a row they would be served what the archive does not know, and count the event once more when it is
 * replayed after the seal has passed it.
 */
function rowOfAnswered(
  ports: AggregationPorts,
  shard: string,
  event: Candidate,
  answered: readonly EntityFate[],
): ArchiveRow | null {
  const fates = event.prepared.updates.map(({ entity, id }) => {
    const known = answered.find((fate) => fate.entity === entity && fate.id === id);
    return asArchived(known ?? { entity, id, fate: "sealed", visibleMs: null });
  });
  const row = archiveRow(ports.stream, shard, event, fates);
  return answered.some(isErased) ? withoutErased(ports, row, answered) : row;
}

export const isSealed = ({ fate }: EntityFate): boolean => fate === "sealed";
export const isErased = ({ fate }: EntityFate): boolean => fate === "erased";
const isDuplicate = ({ fate }: EntityFate): boolean => fate === "duplicate";
/** Nearly all events: their fates go into the archive as they are. */
const noneSealed = (fates: readonly EntityFate[]): fates is ArchiveRow["fates"] & typeof fates => !fates.some(isSealed);
/** What is erased leaves no fate behind: `late` stands for it until the row is rid of it. */
export const asArchived = ({ entity, id, fate, visibleMs }: EntityFate): ArchiveRow["fates"][number] => ({
  entity,
  id,
  fate: fate === "sealed" || fate === "erased" ? "late" : fate,
  visibleMs,
});

/** The row as the archive may hold it; null where it told of the erased alone. */
export function withoutErased(
  { plan, stream }: Pick<AggregationPorts, "plan" | "stream">,
  row: ArchiveRow,
  fates: readonly EntityFate[],
) {
  const subjects = fates.filter(isErased).map(({ entity, id }) => ({ entity, id }));
  return rowEraser(plan, stream, { subjects, beforeMs: Number.POSITIVE_INFINITY })(row);
}

const archiveRow = (stream: Stream, shard: string, candidate: Candidate, fates: ArchiveRow["fates"]): ArchiveRow => ({
  stream: stream.name,
  arrivalMs: candidate.record.arrivalMs,
  shard,
  sequence: candidate.record.sequence,
  subSequence: candidate.subSequence,
  tenant: candidate.tenant,
  eventId: candidate.eventId,
  eventTimeMs: candidate.eventTimeMs,
  identity: candidate.prepared.identity,
  fields: candidate.fields,
  fates,
});

/** Of the entities that an event is sealed for: under the name that it goes by in its row, which is another once it names somebody erased. */
const waiting = (
  stream: Stream,
  { tenant, prepared, eventTimeMs, record }: Candidate,
  own: readonly EntityFate[],
  row: ArchiveRow | null,
): LateItem[] =>
  own.filter(isSealed).map(({ entity, id }) => ({
    ...{ tenant, entity, id, stream: stream.name, baseIndex: Math.floor(eventTimeMs / stream.baseMs) },
    ...{ identity: prepared.identity, eventId: row?.eventId ?? prepared.identity },
    ...{ eventTimeMs, arrivalMs: record.arrivalMs },
  }));
