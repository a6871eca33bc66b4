/** Times as Feast writes and reads them. */
import { typeName } from "../../../core/errors.ts";
import { parseIsoOrDay } from "../../../core/iso-time.ts";
import { Problem, shorten } from "../problems.ts";

const DAY_MS = 86_400_000;
/** Days that times are written of: those of the newest events and a few before them. */
const KEPT_DAYS = 1_000;
const days = new Map<number, string>();
const TWO_DIGITS = Array.from({ length: 60 }, (_, n) => String(n).padStart(2, "0"));

/**
 * As JSON: RFC 3339 in UTC with no fraction or milliseconds; the epoch for no time. An answer has one for each row at least, and each
 * takes `Date` as long as twenty values.
 */
export function feastTime(ms: number | null): string {
  if (ms === null) return '"1970-01-01T00:00:00Z"';
  const day = Math.floor(ms / DAY_MS);
  const seconds = Math.floor((ms - day * DAY_MS) / 1_000);
  const minutes = Math.floor(seconds / 60);
  const clock = `${TWO_DIGITS[Math.floor(minutes / 60)]}:${TWO_DIGITS[minutes % 60]}:${TWO_DIGITS[seconds % 60]}`;
  const fraction = ms - day * DAY_MS - seconds * 1_000;
  return `"${dayOf(day)}T${clock}${fraction === 0 ? "" : `.${String(fraction).padStart(3, "0")}`}Z"`;
}

function dayOf(day: number): string {
  let text = days.get(day);
  if (text === undefined) {
    [text] = new Date(day * DAY_MS).toISOString().split("T");
    if (days.size >= KEPT_DAYS) days.clear();
    days.set(day, text);
  }
  return text;
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
