const DAY_MS = 86_400_000;
/** Objects expire by the day, and an event's may be a day older than the event's hour. */
const MARGIN_DAYS = 2;

/**
 * Event time before which the archive may have lost something to its retention; 0 while it has everything. No object of a
 * stream is older than the stream, imported ones included, so a stream younger than the retention has lost nothing.
 * @param retentionDays null: nothing expires
 */
export function archiveBeginsMs(createdAtMs: number, retentionDays: number | null, nowMs: number): number {
  if (retentionDays === null || nowMs - createdAtMs < (retentionDays - MARGIN_DAYS) * DAY_MS) return 0;
  return nowMs - (retentionDays - MARGIN_DAYS) * DAY_MS;
}
