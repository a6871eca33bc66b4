/** The quarantine at a glance: records by stream, reason and first bad field. */
import type {
  QuarantineFilter,
  QuarantineIndex,
  QuarantineItem,
  QuarantineStatus,
} from "../../../adapters/quarantine/quarantine-index.ts";

export interface QuarantineGroup {
  readonly stream: string;
  readonly reason: string;
  readonly field: string | null;
  readonly status: QuarantineStatus;
  readonly count: number;
  /** Arrivals. */
  readonly firstMs: number;
  readonly lastMs: number;
  /** The newest one's, and its message. */
  readonly sampleId: string;
  readonly message: string;
}

export const groupJson = ({ firstMs, lastMs, sampleId, ...group }: QuarantineGroup) => ({
  ...group,
  first_arrival_ms: firstMs,
  last_arrival_ms: lastMs,
  sample_id: sampleId,
});

/** Of 500 B an item in the mean, 10 MB. */
const MAX_EXAMINED = 20_000;

/** @returns groups, the largest first; `complete` is false when there was more than could be looked at */
export async function quarantineGroups(
  index: Pick<QuarantineIndex, "page">,
  filter: QuarantineFilter,
): Promise<{ groups: QuarantineGroup[]; complete: boolean }> {
  const groups = new Map<string, QuarantineGroup>();
  let after: string | null = null;
  let examined = 0;
  do {
    const page: Awaited<ReturnType<QuarantineIndex["page"]>> = await index.page(filter, after);
    for (const item of page.items) {
      const key = JSON.stringify([item.stream, item.reason, item.field, item.status]);
      groups.set(key, withItem(groups.get(key), item));
    }
    examined += page.examined;
    after = page.next;
  } while (after !== null && examined < MAX_EXAMINED);
  const largest = [...groups.values()].sort((a, b) => b.count - a.count || b.lastMs - a.lastMs);
  return { groups: largest, complete: after === null };
}

function withItem(group: QuarantineGroup | undefined, item: QuarantineItem): QuarantineGroup {
  const { stream, reason, field, status, arrivalMs, id, message } = item;
  if (group === undefined) {
    const times = { firstMs: arrivalMs, lastMs: arrivalMs };
    return { stream, reason, field, status, count: 1, ...times, sampleId: id, message };
  }
  const newest = arrivalMs >= group.lastMs ? { lastMs: arrivalMs, sampleId: id, message } : {};
  return { ...group, count: group.count + 1, firstMs: Math.min(group.firstMs, arrivalMs), ...newest };
}
