/** A round of repairs: what waits in the late queue, a tenant and stream and some hours at a time, and how much of it is left. */
import type { PendingItem } from "../../../adapters/late-queue/late-work.ts";
import type { Plan, Stream } from "../../../core/plan.ts";
import { ITEMS_PER_PASS, type PassReport } from "./repair.ts";

/** Compacted hours that one pass may need: each is an object or some. */
const HOURS_PER_PASS = 48;
const HOUR_MS = 3_600_000;

export interface RoundPorts {
  readonly plan: Plan;
  readonly pass: (stream: Stream, items: readonly PendingItem[]) => Promise<PassReport>;
  /** A pass that could not be made: its items stay as they are. */
  readonly onBlocked: (stream: string, error: unknown) => void;
  readonly clock: () => number;
}

/** Of one stream. */
export interface RoundReport {
  repaired: number;
  known: number;
  expired: number;
  failed: number;
  /** Passes that could not be made. */
  blocked: number;
  /** Left in the queue, of what the round saw. */
  pending: number;
  /** Arrival of the oldest that is left; null when none is. */
  oldestMs: number | null;
  waiting: Record<string, number>;
}

/**
 * @param pages of items, as the queue has them
 * @param deadlineMs no pass is begun after it; `complete` is false then
 */
export async function repairRound(
  ports: RoundPorts,
  pages: AsyncIterable<readonly PendingItem[]> | Iterable<readonly PendingItem[]>,
  deadlineMs: number,
): Promise<{ readonly complete: boolean; readonly streams: Readonly<Record<string, RoundReport>> }> {
  const { plan, clock } = ports;
  const streams = Object.fromEntries(plan.streams.map(({ name }) => [name, emptyReport()]));
  for await (const page of pages) {
    for (const [, items] of Map.groupBy(page, ({ tenant, stream }) => `${tenant}/${stream}`)) {
      const stream = plan.streams.find(({ name }) => name === items[0]!.stream);
      // Of a stream that the plan has no longer: it stays, for a plan that has it again.
      if (stream === undefined) continue;
      const report = streams[stream.name]!;
      const due = items.filter(({ notBeforeMs }) => notBeforeMs <= clock());
      for (const item of items) if (item.notBeforeMs > clock()) left(report, [item]);
      for (const part of partsOf(due)) {
        if (clock() > deadlineMs) return { complete: false, streams };
        try {
          add(report, await ports.pass(stream, part), part);
        } catch (error) {
          ports.onBlocked(stream.name, error);
          report.blocked++;
          left(report, part);
        }
      }
    }
  }
  return { complete: true, streams };
}

/** In order of time, so that a pass asks for few of the archive's hours. */
function partsOf(items: readonly PendingItem[]): PendingItem[][] {
  const parts: PendingItem[][] = [];
  let hours = new Set<number>();
  for (const item of items.toSorted((a, b) => a.eventTimeMs - b.eventTimeMs)) {
    const hour = Math.floor(item.eventTimeMs / HOUR_MS);
    const open = parts.at(-1);
    if (open === undefined || open.length >= ITEMS_PER_PASS || (hours.size >= HOURS_PER_PASS && !hours.has(hour))) {
      parts.push([item]);
      hours = new Set([hour]);
    } else {
      open.push(item);
      hours.add(hour);
    }
  }
  return parts;
}

const emptyReport = (): RoundReport => ({
  ...{ repaired: 0, known: 0, expired: 0, failed: 0, blocked: 0, pending: 0 },
  oldestMs: null,
  waiting: {},
});

function add(report: RoundReport, pass: PassReport, items: readonly PendingItem[]): void {
  report.repaired += pass.repaired;
  report.known += pass.known;
  report.expired += pass.expired;
  report.failed += pass.failed;
  for (const [reason, count] of Object.entries(pass.waiting)) {
    report.waiting[reason] = (report.waiting[reason] ?? 0) + count;
  }
  const done = new Set(pass.done);
  left(
    report,
    items.filter((item) => !done.has(item)),
  );
}

function left(report: RoundReport, items: readonly PendingItem[]): void {
  report.pending += items.length;
  for (const { arrivalMs } of items) report.oldestMs = Math.min(report.oldestMs ?? arrivalMs, arrivalMs);
}
