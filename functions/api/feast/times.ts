/** Times as Feast writes and reads them. */
import { parseIsoOrDay } from "../../../core/iso-time.ts";
import { Problem } from "../problems.ts";
import { shorten, typeName } from "../reading/selection.ts";
/** As JSON: RFC 3339 in UTC with no fraction or milliseconds; the epoch for no time. */
export function feastTime(ms: number | null): string {
  if (ms === null) return '"1970-01-01T00:00:00Z"';
  const text = new Date(ms).toISOString();
  return text.endsWith(".000Z") ? `"${text.slice(0, -5)}Z"` : `"${text}"`;
}

const ZONED = /^\d{4}-\d\d-\d\d[T ]([\d:.]+)(?:Z|([+-]\d\d):?(\d\d)?)?$/;

/**
 * ISO 8601, with a blank for the T as pandas writes it; without a zone it is UTC, as in Feast. Finer than milliseconds is cut.
 * @returns epoch ms
 * @throws Problem `wrong_type`
 */
export function parseTime(given: unknown, field: string): number {
  const ms = typeof given === "string" ? parseIsoOrDay(inFull(given)) : Number.NaN;
  if (!Number.isNaN(ms)) return ms;
  const told = typeof given === "string" ? `"${shorten(given)}"` : typeName(given);
  throw new Problem("wrong_type", `${field} is a time, given ${told}`, {
    field,
    repair: "send ISO 8601, as 2026-01-31T10:00:00Z; without a zone it is UTC",
  });
}

function inFull(text: string): string {
  const match = ZONED.exec(text);
  if (match === null) return text;
  const [, clock, hours, minutes = "00"] = match;
  return `${text.slice(0, 10)}T${clock}${hours === undefined ? "Z" : `${hours}:${minutes}`}`;
}
