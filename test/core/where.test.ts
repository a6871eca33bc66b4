import fc from "fast-check";
import { describe, expect, it } from "vitest";
import * as d from "../../core/definition.ts";
import type { Where } from "../../core/plan.ts";
import { type Condition, compareUtf8, compileWhere, type Fields, literalsOf, whereToSql } from "../../core/where.ts";
import { runs } from "../support/runs.ts";

const holds = ({ where }: Condition, fields: Fields) => compileWhere(where)(fields);

describe("conditions are two-valued: null never equals anything", () => {
  const absent = [{ x: null }, { x: undefined }, {}] as Fields[];
  const CASES: readonly [string, Condition, boolean, Fields, boolean][] = [
    ["eq", d.eq("x", 1), false, { x: 1 }, true],
    ["ne", d.ne("x", 1), true, { x: 1 }, false],
    ["lt", d.lt("x", 1), false, { x: 0.5 }, true],
    ["lte", d.lte("x", 1), false, { x: 1 }, true],
    ["gt", d.gt("x", 1), false, { x: 1.5 }, true],
    ["gte", d.gte("x", 1), false, { x: 1 }, true],
    ["isIn", d.isIn("x", [1, 2]), false, { x: 2 }, true],
    ["isNull", d.isNull("x"), true, { x: 0 }, false],
    ["not lt", d.not(d.lt("x", 1)), true, { x: 0 }, false],
    ["not isIn", d.not(d.isIn("x", [1])), true, { x: 1 }, false],
    ["and", d.and(d.ne("x", 1), d.isNull("x")), true, { x: 2 }, false],
    ["or", d.or(d.eq("x", 1), d.isNull("x")), true, { x: 2 }, false],
    ["and of nothing", d.and(), true, { x: 1 }, true],
    ["or of nothing", d.or(), false, { x: 1 }, false],
    ["isIn of nothing", d.isIn("x", []), false, { x: 1 }, false],
  ];
  it.each(CASES)("%s", (_, condition, ofAbsent, fields, expected) => {
    for (const nothing of absent) expect(holds(condition, nothing)).toBe(ofAbsent);
    expect(holds(condition, fields)).toBe(expected);
  });

  it("and not is always the opposite", () => {
    const value = fc.oneof(
      fc.constantFrom(null, undefined, true, false, "", "a", 0, -0, 1),
      fc.double({ noNaN: true }),
      fc.string(),
    );
    const literal = fc.oneof(fc.boolean(), fc.string({ maxLength: 3 }), fc.integer({ min: -3, max: 3 }));
    const leaf = fc
      .tuple(fc.constantFrom(d.eq, d.ne, d.lt, d.lte, d.gt, d.gte), literal)
      .map(([make, v]): Condition => make("x", v));
    fc.assert(
      fc.property(leaf, value, (condition, x) => {
        expect(holds(d.not(condition), { x })).toBe(!holds(condition, { x }));
      }),
    );
  });

  it("compares -0 as 0, and never text with numbers", () => {
    expect(holds(d.eq("x", 0), { x: -0 })).toBe(true);
    expect(holds(d.isIn("x", [0]), { x: -0 })).toBe(true);
    expect(holds(d.lt("x", 0), { x: -0 })).toBe(false);
    expect(holds(d.gt("x", 1), { x: "2" })).toBe(false);
    expect(holds(d.eq("x", 1), { x: "1" })).toBe(false);
  });
});

describe("text", () => {
  const bytes = (text: string) => Buffer.from(text, "utf8");
  const text = fc.string({ unit: "binary", maxLength: 6 });

  it("compares as its UTF-8 bytes", () => {
    fc.assert(
      fc.property(text, text, (a, b) => {
        expect(Math.sign(compareUtf8(a, b))).toBe(Buffer.compare(bytes(a), bytes(b)));
      }),
      { numRuns: runs(2_000) },
    );
  });

  // JavaScript's own order differs above U+FFFF; the last pairs are where a correction for that may overshoot.
  it.each([
    ["", "a"],
    ["a", "ab"],
    ["ﬀ", "𝄞"],
    ["\uffff", "\u{10000}"],
    ["\ud7ff", "\ue000"],
    ["\ud000", "\ue000"],
    ["\uc000", "\uf7ff"],
    ["\uf7ff", "\uf800"],
  ])("%j comes before %j", (a, b) => {
    expect(Buffer.compare(bytes(a), bytes(b))).toBe(-1);
    expect(compareUtf8(a, b)).toBeLessThan(0);
    expect(compareUtf8(b, a)).toBeGreaterThan(0);
    expect(holds(d.lt("x", b), { x: a })).toBe(true);
  });
});

describe("the SQL of a condition", () => {
  const SQL: readonly [Condition, string][] = [
    [d.eq("status", "declined"), `("status" IS NOT DISTINCT FROM 'declined')`],
    [d.ne("status", "it's"), `("status" IS DISTINCT FROM 'it''s')`],
    [d.eq("online", true), `("online" IS NOT DISTINCT FROM TRUE)`],
    [d.lt("amount", 10), `COALESCE("amount" < 10, FALSE)`],
    [d.lte("amount", 0.1), `COALESCE("amount" <= CAST('0.1' AS double), FALSE)`],
    [d.gt("amount", -0), `COALESCE("amount" > 0, FALSE)`],
    [d.gte("amount", 1e21), `COALESCE("amount" >= CAST('1e+21' AS double), FALSE)`],
    [d.isIn("country", ["NO", "SE"]), `COALESCE("country" IN ('NO', 'SE'), FALSE)`],
    [d.isIn("country", []), "FALSE"],
    [d.isNull('odd"name'), `("odd""name" IS NULL)`],
    [
      d.and(d.eq("a", 1), d.or(d.eq("b", 2), d.not(d.isNull("c")))),
      `(("a" IS NOT DISTINCT FROM 1) AND (("b" IS NOT DISTINCT FROM 2) OR (NOT ("c" IS NULL))))`,
    ],
    [d.and(), "TRUE"],
    [d.not(d.or()), "(NOT FALSE)"],
  ];
  it.each(SQL)("%j", ({ where }, sql) => {
    expect(whereToSql(where)).toBe(sql);
  });

  it("has no operator that could answer null", () => {
    const leaf = fc.constantFrom<Where>(
      { op: "eq", field: "a", value: 1 },
      { op: "ne", field: "a", value: "x" },
      { op: "lt", field: "a", value: 0.5 },
      { op: "in", field: "a", values: [1, 2] },
      { op: "isNull", field: "a" },
    );
    const { where } = fc.letrec<{ where: Where }>((tie) => ({
      where: fc.oneof(
        { maxDepth: 3 },
        leaf,
        fc.record({
          op: fc.constantFrom("and", "or"),
          of: fc.array(tie("where"), { maxLength: 3 }),
        }) as fc.Arbitrary<Where>,
        fc.record({ op: fc.constant("not"), of: tie("where") }) as fc.Arbitrary<Where>,
      ),
    }));
    fc.assert(
      fc.property(where, (condition) => {
        const sql = whereToSql(condition);
        // Every comparison is wrapped, or one of those that never answer null.
        const bare = sql.replaceAll(
          /COALESCE\("a" (<|IN) [^,]*(, \d+\))?, FALSE\)|IS (NOT )?(DISTINCT FROM|NULL)/g,
          "",
        );
        expect(bare).not.toMatch(/[<>=]| IN /);
      }),
    );
  });

  it("names every field and literal for the checks of compile", () => {
    const { where } = d.and(d.eq("a", 1), d.not(d.isIn("b", ["x", "y"])), d.or(d.isNull("c"), d.gt("a", 2)));
    expect(literalsOf(where)).toEqual([
      { field: "a", values: [1] },
      { field: "b", values: ["x", "y"] },
      { field: "c", values: [] },
      { field: "a", values: [2] },
    ]);
  });
});
