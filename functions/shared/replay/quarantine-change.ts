/**
 * Replays or drops what is in the quarantine. A replayed record is read with today's contracts and goes through the whole path
 * with the arrival that it had: register, apply, archive. It is marked when all of that is durable, so a run that is killed
 * is run again; what was applied answers `duplicate` then.
 */

import { quarantineId } from "../../../adapters/quarantine/quarantine.ts";
import {
  type QuarantineFilter,
  type QuarantineIndex,
  type QuarantineItem,
  WAITING,
} from "../../../adapters/quarantine/quarantine-index.ts";
import type { Stream } from "../../../core/plan.ts";
import { type AggregationPorts, aggregateBatch } from "../aggregation/aggregation.ts";
import type { FailedReplayReport } from "./failed-replay.ts";

export interface QuarantineChangePorts {
  readonly index: Pick<QuarantineIndex, "page" | "bytes" | "mark">;
  readonly streams: readonly Stream[];
  readonly portsFor: (stream: Stream) => Promise<AggregationPorts>;
  readonly clock: () => number;
}

export interface QuarantineChange {
  readonly kind: "replay" | "drop";
  readonly filter: Omit<QuarantineFilter, "statuses">;
  /** Of single records, as far as the filter has them. @default all that the filter has */
  readonly ids?: readonly string[];
  /** Epoch milliseconds: what was touched since is left, so that a run that goes on does not begin anew. */
  readonly beganMs: number;
}

export interface QuarantineChangeReport extends Pick<FailedReplayReport, "applied" | "duplicates" | "late"> {
  /** `more`: time was up, run it again with the same `beganMs`. */
  readonly state: "done" | "more";
  readonly replayed: number;
  readonly stillRefused: number;
  readonly dropped: number;
  /** Their bytes are gone, or are not those that were put: they stay as they are. */
  readonly unreadable: number;
}

/** Records of one batch: their objects are read for it, up to 8 MB each. */
const BATCH_RECORDS = 200;

/**
 * @param onProgress told after each page
 * @throws InfrastructureError with nothing marked that was not done
 */
export async function changeQuarantine(
  ports: QuarantineChangePorts,
  change: QuarantineChange,
  isOutOfTime: () => boolean,
  onProgress: (report: QuarantineChangeReport) => Promise<void> = async () => {},
): Promise<QuarantineChangeReport> {
  const { index, streams } = ports;
  const filter = { ...change.filter, statuses: WAITING };
  const wanted = change.ids === undefined ? null : new Set(change.ids);
  let report: QuarantineChangeReport = {
    ...{ state: "done", replayed: 0, stillRefused: 0, dropped: 0, unreadable: 0 },
    ...{ applied: 0, duplicates: 0, late: 0 },
  };
  let after: string | null = null;
  do {
    if (isOutOfTime()) return { ...report, state: "more" };
    const page: Awaited<ReturnType<QuarantineIndex["page"]>> = await index.page(filter, after, BATCH_RECORDS);
    after = page.next;
    const due = page.items.filter(
      ({ id, changedMs }) => (wanted?.has(id) ?? true) && (changedMs === null || changedMs < change.beganMs),
    );
    if (due.length === 0) continue;
    for (const [shardKey, items] of Map.groupBy(due, ({ stream, shard }) => JSON.stringify([stream, shard]))) {
      const stream = streams.find(({ name }) => name === JSON.parse(shardKey)[0]);
      if (stream === undefined) continue;
      const done = change.kind === "drop" ? await dropAll(ports, items) : await replayAll(ports, stream, items);
      report = added(report, done);
    }
    await onProgress(report);
  } while (after !== null);
  return report;
}

type Counts = Partial<Omit<QuarantineChangeReport, "state">>;

function added(report: QuarantineChangeReport, counts: Counts): QuarantineChangeReport {
  const sum = { ...report };
  for (const [name, count] of Object.entries(counts) as [keyof Counts, number][]) sum[name] += count;
  return sum;
}

async function dropAll({ index, clock }: QuarantineChangePorts, items: readonly QuarantineItem[]): Promise<Counts> {
  let dropped = 0;
  for (const item of items) if (await index.mark(item, "dropped", clock())) dropped++;
  return { dropped };
}

/** @param items of one shard */
async function replayAll(
  { index, portsFor, clock }: QuarantineChangePorts,
  stream: Stream,
  items: readonly QuarantineItem[],
): Promise<Counts> {
  const bytes = await index.bytes(items);
  const readable = items
    .filter(({ id }) => bytes.has(id))
    .sort((a, b) => a.arrivalMs - b.arrivalMs || (a.sequence < b.sequence ? -1 : 1));
  const unreadable = items.length - readable.length;
  if (readable.length === 0) return { unreadable };
  const { shard } = readable[0]!;
  const records = readable.map(({ id, sequence, subSequence, arrivalMs }) => ({
    ...{ sequence, subSequence, arrivalMs },
    bytes: bytes.get(id)!,
  }));
  const own = new Set(readable.map(({ id }) => id));
  const refusals = new Map<string, { reason: string; field: string | null; message: string }>();
  const ports = await portsFor(stream);
  const result = await aggregateBatch(
    {
      ...ports,
      // That it was refused is on record. New are parts of a record that did not open before.
      archive: {
        write: async (rows, of) => {
          const fresh = rows.filter((row) => row.reason === undefined || !own.has(quarantineId(row)));
          return fresh.length > 0 ? ports.archive.write(fresh, of) : [];
        },
      },
      quarantine: {
        write: async (refused) => {
          for (const one of refused) refusals.set(quarantineId(one), one);
          const fresh = refused.filter((one) => !own.has(quarantineId(one)));
          if (fresh.length > 0) await ports.quarantine.write(fresh);
        },
      },
    },
    shard,
    records,
    { registeredAs: `again-${shard}` },
  );
  let replayed = 0;
  let stillRefused = 0;
  for (const item of readable) {
    const refusal = refusals.get(item.id) ?? null;
    const marked = await index.mark(item, refusal === null ? "replayed" : "still_refused", clock(), refusal);
    if (!marked) continue;
    if (refusal === null) replayed++;
    else stillRefused++;
  }
  const { applied, duplicates, late } = result;
  return { replayed, stillRefused, unreadable, applied, duplicates, late };
}
