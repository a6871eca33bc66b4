/** Times as people write them. Without a zone the machine's own would decide, so there is none without. */

const DAY = /^(\d{4})-(\d{2})-(\d{2})$/;
const CLOCK = /^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d([.,]\d{1,9})?)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$/;

/** ISO 8601 with a zone to epoch ms; NaN for anything else. */
export function parseIso(text: string): number {
  if (text[10] !== "T" || !CLOCK.test(text.slice(11)) || Number.isNaN(dayStart(text.slice(0, 10)))) return Number.NaN;
  return Date.parse(text.replace(",", "."));
}

/** The same, or a day for its beginning in UTC: `2026-11-01`. */
export const parseIsoOrDay = (text: string): number => (text.length === 10 ? dayStart(text) : parseIso(text));

function dayStart(text: string): number {
  const parts = DAY.exec(text);
  if (parts === null) return Number.NaN;
  // Date.parse carries 30 February into March; a day that does not exist is a mistake of the sender.
  const [year, month, day] = [Number(parts[1]), Number(parts[2]), Number(parts[3])];
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day);
  return date.getUTCMonth() === month - 1 && date.getUTCDate() === day ? date.getTime() : Number.NaN;
}
