/**
 * Features as Feast's columns, written as JSON text: of each its values, statuses and times over all rows. An answer has thousands of
 * these, and most are those of the neighbour again: what repeats itself is written once and copied.
 */
import type { FeatureValue, Status, Value } from "../../../core/plan.ts";
import { valuesJson } from "../reading/read-rows.ts";
import type { Column } from "./names.ts";
import { feastTime } from "./times.ts";

/** As JSON. Feast has no word for a window that is still being built: its INVALID is a value that is not set. */
export const STATUSES: Readonly<Record<Status, string>> = {
  PRESENT: '"PRESENT"',
  NULL_VALUE: '"NULL_VALUE"',
  NOT_FOUND: '"NOT_FOUND"',
  OUTSIDE_MAX_AGE: '"OUTSIDE_MAX_AGE"',
  NOT_READY: '"INVALID"',
};
/** The time of what has none. */
export const NEVER = feastTime(null);

/** Each column after a comma. */
export function columnsJson(columns: readonly Column[], rows: readonly (readonly FeatureValue[])[]): string {
  return rows.length === 1 ? ofOneRow(columns, rows[0]) : ofRows(columns, rows);
}

const HEAD = ',{"values":[';

/** Most requests. Columns that share status and time differ by their values alone: these are joined by all that is between two of them. */
function ofOneRow(columns: readonly Column[], row: readonly FeatureValue[]): string {
  const texts = valuesJson(row);
  let json = "";
  let last: FeatureValue | null = null;
  let tail = "";
  let run: string[] = [];
  for (const { position, isDouble } of columns) {
    const feature = row[position];
    const { value, status, eventTimeMs } = feature;
    if (last === null || status !== last.status || eventTimeMs !== last.eventTimeMs) {
      if (last !== null) json += HEAD + run.join(tail + HEAD) + tail;
      tail = `],"statuses":[${STATUSES[status]}],"event_timestamps":[${feastTime(eventTimeMs)}]}`;
      run = [];
    }
    last = feature;
    run.push(isDouble && looksWhole(value) ? `${texts[position]}.0` : texts[position]);
  }
  return last === null ? "" : json + HEAD + run.join(tail + HEAD) + tail;
}

function ofRows(columns: readonly Column[], rows: readonly (readonly FeatureValue[])[]): string {
  const tail = new Tail(rows.length);
  const values: Value[] = rows.map(() => null);
  let json = "";
  for (const { position, isDouble } of columns) {
    let wholes = 0;
    for (let row = 0; row < rows.length; row++) {
      const { value, status, eventTimeMs } = rows[row][position];
      const isWhole = isDouble && looksWhole(value);
      values[row] = isWhole ? `${value}.0` : value;
      if (isWhole) wholes++;
      tail.set(row, status, eventTimeMs);
    }
    const list = JSON.stringify(values);
    // A column of doubles has no other texts than those.
    json += `,{"values":${wholes === 0 ? list : list.replace(/"/g, "")}${tail.json()}`;
  }
  return json;
}

/** What follows the values of a column: as a rule the same as of the one before. */
class Tail {
  private readonly statuses: (Status | null)[];
  private readonly timesMs: (number | null)[];
  private readonly times: string[];
  private text = "";
  private isOld = true;
  /** To write a time costs more than all the rest of a value. */
  private last = { ms: 0, time: feastTime(0) };

  constructor(rows: number) {
    this.statuses = new Array(rows).fill(null);
    this.timesMs = new Array(rows).fill(null);
    this.times = new Array(rows).fill(NEVER);
  }

  set(row: number, status: Status, eventTimeMs: number | null): void {
    if (status !== this.statuses[row]) {
      this.statuses[row] = status;
      this.isOld = true;
    }
    if (eventTimeMs !== this.timesMs[row]) {
      this.timesMs[row] = eventTimeMs;
      this.times[row] = this.timeOf(eventTimeMs);
      this.isOld = true;
    }
  }

  json(): string {
    if (this.isOld) {
      const statuses = this.statuses.map((status) => STATUSES[status!]).join(",");
      this.text = `,"statuses":[${statuses}],"event_timestamps":[${this.times.join(",")}]}`;
      this.isOld = false;
    }
    return this.text;
  }

  private timeOf(ms: number | null): string {
    if (ms === null) return NEVER;
    if (ms !== this.last.ms) this.last = { ms, time: feastTime(ms) };
    return this.last.time;
  }
}

/** Whether JSON writes a number without a point or an exponent. Python writes such doubles with `.0`, from which clients infer their type. */
const looksWhole = (value: Value): boolean => Number.isInteger(value) && Math.abs(value as number) < 1e21;
