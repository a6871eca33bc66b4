import { DefinitionError } from "./errors.ts";

const UNITS = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** `"90s" | "5m" | "24h" | "7d"` as written in definitions. */
export type Duration = `${number}${keyof typeof UNITS}`;

/**
 * Milliseconds of a duration.
 * @param where what it belongs to, for the message
 * @throws DefinitionError `duration_invalid`
 */
export function parseDuration(text: string, field?: string, where?: string): number {
  const match = /^([1-9]\d{0,8})([smhd])$/.exec(text);
  if (!match) {
    const what = field === undefined || where === undefined ? "a duration" : `${field} of ${where}`;
    const given = typeof text === "string" ? `"${text}"` : Array.isArray(text) ? "a list" : String(text);
    throw new DefinitionError("duration_invalid", `${what} is a whole number and s, m, h or d, given ${given}`, {
      field,
      repair: Array.isArray(text)
        ? 'leave the brackets out: .over("5m", "1h")'
        : 'write it as "30s", "5m", "24h" or "7d"',
    });
  }
  return Number(match[1]) * UNITS[match[2] as keyof typeof UNITS];
}

/** The shortest exact way to write a duration: 3600000 gives `1h`, 5400000 gives `90m`. 24h stays `24h`, as people say it. */
export function formatDuration(ms: number): string {
  if (ms % UNITS.d === 0 && ms > UNITS.d) return `${ms / UNITS.d}d`;
  if (ms % UNITS.h === 0) return `${ms / UNITS.h}h`;
  if (ms % UNITS.m === 0) return `${ms / UNITS.m}m`;
  if (ms % UNITS.s === 0) return `${ms / UNITS.s}s`;
  return `${ms}ms`;
}
