import { execFileSync } from "node:child_process";
import { expect, it } from "vitest";

const CASES: readonly [text: string, ms: number | null][] = [
  ["2026-11-01T06:00Z", Date.UTC(2026, 10, 1, 6)],
  ["2026-11-01T06:00:00.25Z", Date.UTC(2026, 10, 1, 6, 0, 0, 250)],
  ["2026-11-01T06:00:00,25+02:00", Date.UTC(2026, 10, 1, 4, 0, 0, 250)],
  ["2026-11-01T06:00:00-05:30", Date.UTC(2026, 10, 1, 11, 30)],
  ["0050-01-01T00:00:00Z", -60_589_296_000_000],
  ["2024-02-29T00:00:00Z", Date.UTC(2024, 1, 29)],
  // No zone, no such day or hour, or another form: the machine would have to guess.
  ["2026-11-01T06:00:00", null],
  ["2026-11-01 06:00:00Z", null],
  ["2026-11-01T06:00:00 Z", null],
  ["2026-02-29T00:00:00Z", null],
  ["2026-13-01T00:00:00Z", null],
  ["2026-11-01T24:00:00Z", null],
  ["2026-11-01T06:00:00+24:00", null],
  ["1 Nov 2026", null],
  ["2026-11", null],
  ["", null],
];
const DAYS: readonly [text: string, ms: number | null][] = [
  ["2026-11-01", Date.UTC(2026, 10, 1)],
  ["2024-02-29", Date.UTC(2024, 1, 29)],
  ["2026-02-29", null],
  ["2026-00-10", null],
  ["2026/11/01", null],
];

it.each(["UTC", "America/New_York", "Asia/Kolkata"])("times are read alike, wherever the machine is: %s", (TZ) => {
  const program = `
    import { parseIso, parseIsoOrDay } from ${JSON.stringify(import.meta.resolve("../../core/iso-time.ts"))};
    const texts = ${JSON.stringify([...CASES, ...DAYS].map(([text]) => text))};
    console.log(JSON.stringify([texts.map(parseIso), texts.map(parseIsoOrDay), new Date(2026, 0, 1).getTimezoneOffset()]));`;
  const printed = execFileSync(process.execPath, ["--input-type=module", "-e", program], {
    env: { ...process.env, TZ },
    encoding: "utf8",
  });
  const [withZone, orDay, offset] = JSON.parse(printed);
  expect(offset === 0).toBe(TZ === "UTC");
  expect(withZone).toEqual([...CASES.map(([, ms]) => ms), ...DAYS.map(() => null)]);
  expect(orDay).toEqual([...CASES, ...DAYS].map(([, ms]) => ms));
});
