/** Values of options. What cannot be read is a usage error: commander names the option, and the command ends with 2. */
import { InvalidArgumentError } from "commander";
import { parseDuration } from "../core/duration.ts";
import { parseIsoOrDay } from "../core/iso-time.ts";

type Parse<T> = (text: string) => T;

export const number =
  (low: number, high: number): Parse<number> =>
  (text) => {
    const value = Number(text);
    if (text.trim() !== "" && value >= low && value <= high) return value;
    throw new InvalidArgumentError(`Give a number from ${low} to ${high}.`);
  };

export const whole =
  (low: number, high: number): Parse<number> =>
  (text) => {
    const value = number(low, high)(text);
    if (Number.isInteger(value)) return value;
    throw new InvalidArgumentError(`Give a whole number from ${low} to ${high}.`);
  };

export const fraction = number(0, 1);

export const port: Parse<number> = whole(1, 65_535);

/** @returns milliseconds */
export const duration: Parse<number> = (text) => {
  try {
    return parseDuration(text);
  } catch {
    throw new InvalidArgumentError("Give a whole number and a unit, as 30s, 5m, 2h or 1d.");
  }
};

export const TIMES =
  "Times: a day, 2026-11-01, which begins at midnight UTC; a time with its zone, 2026-11-01T06:00:00Z or 2026-11-01T06:00+02:00;" +
  "\nepoch milliseconds; or how long ago, 42d. The zone of this machine decides nothing.";

/** Also how long ago. @returns epoch milliseconds */
export const time: Parse<number> = (text) => {
  if (/^\d+[smhd]$/.test(text)) return Date.now() - duration(text);
  const ms = /^\d{12,14}$/.test(text) ? Number(text) : parseIsoOrDay(text);
  if (!Number.isNaN(ms)) return ms;
  throw new InvalidArgumentError(
    "Give a day, as 2026-11-01 (UTC), a time with its zone, as 2026-11-01T06:00:00Z or 2026-11-01T06:00+02:00, epoch milliseconds, or an age, as 42d.",
  );
};

/** Some of `names`, comma-separated, or all of them. */
export const someOf =
  <T extends string>(names: readonly T[]): Parse<T[]> =>
  (text) => {
    const chosen = text === "all" ? names : text.split(",").map((name) => name.trim());
    const unknown = chosen.find((name) => !(names as readonly string[]).includes(name));
    if (unknown === undefined) return [...new Set(chosen as T[])];
    throw new InvalidArgumentError(`Give some of ${names.join(", ")}, with commas between, or all; not "${unknown}".`);
  };
