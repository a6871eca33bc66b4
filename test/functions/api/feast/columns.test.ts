/** Columns are written in runs and copies; each has to be what it would be if it were written cell by cell. Seeded: a failure prints its seed. */
import fc from "fast-check";
import { expect, it } from "vitest";
import type { FeatureValue, Status, Value } from "../../../../core/plan.ts";
import { columnsJson } from "../../../../functions/api/feast/columns.ts";
import { runs } from "../../../support/runs.ts";

interface Cell {
  readonly value: Value;
  readonly isDouble: boolean;
}

const STATUSES: readonly Status[] = ["PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE", "NOT_READY"];
/** Few, so that neighbours share them; with and without a fraction of a second. */
const TIMES = [null, 0, Date.parse("2026-01-31T10:00:00Z"), Date.parse("2026-01-31T10:00:00.120Z")];

function naive(
  columns: readonly (readonly Cell[])[],
  rows: readonly (readonly FeatureValue[])[],
  at: readonly number[],
) {
  return at
    .map((position) => {
      const values = rows.map((row, r) => valueText(row[position].value, columns[position][r].isDouble));
      const statuses = rows.map((row) => (row[position].status === "NOT_READY" ? "INVALID" : row[position].status));
      const times = rows.map((row) => timeText(row[position].eventTimeMs));
      return `,{"values":[${values}],"statuses":${JSON.stringify(statuses)},"event_timestamps":${JSON.stringify(times)}}`;
    })
    .join("");
}

function valueText(value: Value, isDouble: boolean): string {
  const text = JSON.stringify(value);
  return isDouble && /^-?\d+$/.test(text) ? `${text}.0` : text;
}

const timeText = (ms: number | null): string => new Date(ms ?? 0).toISOString().replace(".000Z", "Z");

const number = fc.oneof(
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.integer({ min: -20_000, max: 20_000 }),
  fc.constantFrom(0, -0, 1, -3, 1e20, -1e20, 1e21, -1e21, 2 ** 53, 5e-324, 0.1, 1e-7),
);
const other = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.constantFrom('a,"b"', "[1,2]", "3", ",", ""),
  fc.integer(),
  fc.boolean(),
  fc.array(fc.oneof(fc.string(), fc.integer()), { maxLength: 3 }) as fc.Arbitrary<Value>,
);
const table = fc
  .record({ columns: fc.integer({ min: 1, max: 8 }), rows: fc.integer({ min: 1, max: 6 }) })
  .chain(({ columns, rows }) => {
    const column = fc.boolean().chain((isDouble) => {
      const value: fc.Arbitrary<Value> = fc.oneof(fc.constant(null), isDouble ? number : other);
      return fc.array(fc.record({ value, isDouble: fc.constant(isDouble) }), { minLength: rows, maxLength: rows });
    });
    const mark = fc.record({ status: fc.constantFrom(...STATUSES), eventTimeMs: fc.constantFrom(...TIMES) });
    return fc.record({
      columns: fc.array(column, { minLength: columns, maxLength: columns }),
      // As of a view: most features of an entity share both.
      marks: fc.array(mark, { minLength: rows, maxLength: rows }),
      changes: fc.array(fc.tuple(fc.nat(columns - 1), fc.nat(rows - 1), mark), { maxLength: 6 }),
      at: fc.array(fc.nat(columns - 1), { minLength: 1, maxLength: 10 }),
    });
  });

it("writes what cell by cell would be written", () => {
  fc.assert(
    fc.property(table, ({ columns, marks, changes, at }) => {
      const rows = marks.map((mark, r) => columns.map((column): FeatureValue => ({ ...mark, value: column[r].value })));
      for (const [c, r, mark] of changes) rows[r][c] = { ...rows[r][c], ...mark };
      const asked = at.map((position) => ({ position, isDouble: columns[position][0].isDouble }));
      expect(columnsJson(asked, rows)).toBe(naive(columns, rows, at));
    }),
    { numRuns: runs(300) },
  );
});

it("writes no column for none", () => {
  expect(columnsJson([], [[]])).toBe("");
  expect(columnsJson([], [[], []])).toBe("");
});
