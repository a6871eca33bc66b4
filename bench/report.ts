/** Results as one Markdown table and as JSON, with where they were made. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Row, Unit } from "./benchmark.ts";
import type { Surroundings } from "./machine.ts";
import { median } from "./statistics.ts";

export interface Section {
  readonly name: string;
  readonly title: string;
  readonly rows: readonly Row[];
}
export interface Report extends Surroundings {
  readonly version: 1;
  readonly quick: boolean;
  readonly sections: readonly Section[];
}

const DIGITS: Readonly<Record<Unit, number>> = {
  "rows/s": 0,
  "events/s": 0,
  "requests/s": 0,
  µs: 1,
  ms: 3,
  bytes: 0,
  keys: 0,
  calls: 0,
  "×": 3,
  "%": 1,
};

const number = (value: number, unit: Unit): string =>
  value.toLocaleString("en-US", { minimumFractionDigits: DIGITS[unit], maximumFractionDigits: DIGITS[unit] });
const quantity = (value: number, unit: Unit): string => `${number(value, unit)}${unit === "%" ? " %" : ` ${unit}`}`;

function spread(rounds: readonly number[], unit: Unit): string {
  if (rounds.length < 2) return "";
  return ` (${number(Math.min(...rounds), unit)}–${number(Math.max(...rounds), unit)})`;
}

/** Whether a row reaches its target; null when it has none. */
export function reached({ rounds, target }: Row): boolean | null {
  if (target === undefined) return null;
  const value = median(rounds);
  return "atLeast" in target ? value >= target.atLeast : value <= target.atMost;
}

function targetCell(row: Row): string {
  if (row.target === undefined) return "";
  const [sign, value] = "atLeast" in row.target ? ["≥", row.target.atLeast] : ["≤", row.target.atMost];
  return `${sign} ${number(value, row.unit)} ${reached(row) ? "✓" : "✗"}`;
}

function baselineCells({ rounds, unit, baselines = [] }: Row): string[] {
  const value = median(rounds);
  return [
    baselines.map(({ name, rounds: other }) => `${name}: ${quantity(median(other), unit)}`).join("<br>"),
    baselines.map(({ rounds: other }) => `${(value / median(other)).toFixed(2)}×`).join("<br>"),
  ];
}

/** One table for all benchmarks; medians of the rounds, with the least and the greatest round. */
export function renderMarkdown(report: Report): string {
  const { machine, versions, sections } = report;
  const lines = [
    `# ${machine.name}, ${report.commit}${report.modified ? " (modified)" : ""}`,
    "",
    `${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.system}; load before ${machine.loadBefore}. ` +
      `${Object.entries(versions)
        .map(([name, version]) => `${name} ${version}`)
        .join(", ")}. ${report.date}.`,
    "",
  ];
  if (report.quick) lines.push("**Quick run: it shows that the benchmarks work, not what Freshet reaches.**", "");
  lines.push("| what | measured | target | baseline, same run | ratio |", "|---|---|---|---|---|");
  const notes: string[] = [];
  for (const { title, rows } of sections) {
    lines.push(`| **${title}** | | | | |`);
    for (const row of rows) {
      const mark = row.note === undefined ? "" : ` [${notes.push(row.note)}]`;
      const measured = `${quantity(median(row.rounds), row.unit)}${spread(row.rounds, row.unit)}`;
      lines.push(`| ${[row.what + mark, measured, targetCell(row), ...baselineCells(row)].join(" | ")} |`);
    }
  }
  if (notes.length > 0) lines.push("", ...notes.map((note, i) => `[${i + 1}] ${note}  `));
  return `${lines.join("\n")}\n`;
}

/** With the median of each row beside its rounds, so that a script need not compute it. */
export function renderJson(report: Report): string {
  const sections = report.sections.map((section) => ({
    ...section,
    rows: section.rows.map((row) => ({
      ...row,
      median: median(row.rounds),
      reached: reached(row),
      baselines: (row.baselines ?? []).map((baseline) => ({
        ...baseline,
        median: median(baseline.rounds),
        ratio: median(row.rounds) / median(baseline.rounds),
      })),
    })),
  }));
  return `${JSON.stringify({ ...report, sections }, null, 2)}\n`;
}

/** Writes both forms beside each other. @param of a benchmark that is apart from the others @returns the path without its ending */
export function writeReport(report: Report, folder: string, of?: string): string {
  mkdirSync(folder, { recursive: true });
  const parts = [
    report.machine.name,
    report.commit,
    ...(of === undefined ? [] : [of]),
    ...(report.quick ? ["quick"] : []),
  ];
  const path = join(folder, parts.join("-"));
  writeFileSync(`${path}.json`, renderJson(report));
  writeFileSync(`${path}.md`, renderMarkdown(report));
  return path;
}
