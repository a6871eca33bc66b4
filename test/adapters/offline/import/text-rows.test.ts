import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { csvRows, type FileRow, jsonRows } from "../../../../adapters/offline/import/text-rows.ts";
import { runs } from "../../../support/runs.ts";

let folder: string;
let files = 0;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "freshet-text-rows-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function rows(read: typeof csvRows, content: string | Buffer): Promise<[number, unknown][]> {
  const file = join(folder, `${files++}`);
  writeFileSync(file, content);
  const found: FileRow[] = [];
  for await (const batch of read(file)) found.push(...batch);
  return found.map(({ line, value }) => [line, value instanceof Error ? (value as any).code : value]);
}

describe("CSV", () => {
  it.each([
    [
      "values by the first line's names",
      "a,b\n1,x\n2,y\n",
      [
        [2, { a: "1", b: "x" }],
        [3, { a: "2", b: "y" }],
      ],
    ],
    [
      "no line end at the end, CRLF, and a byte order mark",
      "\ufeffa,b\r\n1,x\r\n2,y",
      [
        [2, { a: "1", b: "x" }],
        [3, { a: "2", b: "y" }],
      ],
    ],
    ["empty values as none", 'a,b,c\n,"",z\n', [[2, { c: "z" }]]],
    [
      "quoted commas, quotes and line breaks, and lines counted as an editor does",
      'a,b\n"x,""y""","1\n2"\n3,4\n',
      [
        [2, { a: 'x,"y"', b: "1\n2" }],
        [4, { a: "3", b: "4" }],
      ],
    ],
    [
      "semicolons, tabs and bars where the first line has them, quoted ones as text",
      'a;b\n"1;2";3,5\n',
      [[2, { a: "1;2", b: "3,5" }]],
    ],
    ["tabs", "a\tb\n1\t\n", [[2, { a: "1" }]]],
    ["blank lines as nothing", "a\n\n1\n", [[3, { a: "1" }]]],
    [
      "a row of another width as bad, alone",
      "a,b\n1\n1,2,3\n1,2\n",
      [
        [2, "column_count"],
        [3, "column_count"],
        [4, { a: "1", b: "2" }],
      ],
    ],
    [
      "a quote in the middle as bad, alone",
      'a,b\n1,x"y"\n"1"2,3\n1,2\n',
      [
        [2, "quote_open"],
        [3, "quote_open"],
        [4, { a: "1", b: "2" }],
      ],
    ],
    [
      "a quote that stays open as bad, its line alone",
      'a\n"1\n2\n\n3',
      [
        [2, "quote_open"],
        [3, { a: "2" }],
        [5, { a: "3" }],
      ],
    ],
    [
      "an open quote in the last line as bad",
      'a\n1\n"2',
      [
        [2, { a: "1" }],
        [3, "quote_open"],
      ],
    ],
    [
      "bytes that are no UTF-8 as bad, alone",
      Buffer.from([0x61, 10, 0xff, 10, 0x31, 10]),
      [
        [2, "text_invalid"],
        [3, { a: "1" }],
      ],
    ],
    ["an empty file as no rows", "", []],
  ])("has %s", async (_, content, expected) => {
    expect(await rows(csvRows, content)).toEqual(expected);
  });

  it.each([
    ["a,b,a\n", 'the first line names the column "a" twice'],
    ["a,,b\n", "the first line is to name every column"],
    ['"a,b\n1,2\n', "the first line is to name every column"],
  ])("refuses a first line that is no header", async (content, message) => {
    await expect(rows(csvRows, content)).rejects.toMatchObject({ code: "header_invalid", message });
  });

  it("says how many lines a quote too many has joined", async () => {
    const file = join(folder, `${files++}`);
    writeFileSync(file, 'a,b\n1,2"\n3,4\n5,6"\n7,8\n');
    const found: FileRow[] = [];
    for await (const batch of csvRows(file)) found.push(...batch);
    expect(found).toMatchObject([
      { line: 2, value: { code: "quote_open", message: expect.stringMatching(/ \(its quotes join 3 lines\)$/) } },
      { line: 5, value: { a: "7", b: "8" } },
    ]);
  });

  it("finds the one line whose quote is never closed in a large file, in linear time, and every row around it", async () => {
    const row = `${"x".repeat(99)},y\n`;
    const text = `a,b\n${row.repeat(1_000)}"oops,z\n${row.repeat(200_000)}last,"one"\n`;
    const found = await rows(csvRows, text);
    expect(found.length).toBe(201_002);
    expect(found.filter(([, value]) => typeof value === "string")).toEqual([[1_002, "quote_open"]]);
    expect(found.at(-1)).toEqual([201_003, { a: "last", b: "one" }]);
  });

  it("holds no more of a row than one may have", async () => {
    const found = await rows(csvRows, `a\n1\n${"x".repeat(25 << 20)}\n2\n"${"y".repeat(9 << 20)}"\n3\n`);
    expect(found).toEqual([
      [2, { a: "1" }],
      [3, "row_too_long"],
      [4, { a: "2" }],
      [5, "row_too_long"],
      [6, { a: "3" }],
    ]);
  });

  it("reads back whatever was written by the rules, across chunks", async () => {
    const cell = fc.string({ unit: fc.constantFrom("a", ",", '"', "\n", "é", "😀", " ") });
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(cell, cell), { minLength: 1 }), async (table) => {
        // A lone empty first cell would make a blank line of one column; there are two.
        const padding = "x".repeat(1 << 20);
        const all: [string, string][] = [["a", "b"], [padding, "1"], ...table];
        const text = all.map((row) => row.map((value) => `"${value.replaceAll('"', '""')}"`).join(",")).join("\n");
        const found = await rows(csvRows, text);
        const expected = all.slice(1).map(([a, b]) => ({ ...(a === "" ? {} : { a }), ...(b === "" ? {} : { b }) }));
        expect(found.map(([, value]) => value)).toEqual(expected);
      }),
      { numRuns: runs(30), seed: 20261121 },
    );
  });
});

describe("NDJSON", () => {
  it("has no line without an end: a large array is refused as what it is, and a quote joins nothing", async () => {
    const array = `[${'{"a":1},'.repeat(1_500_000)}{}]`;
    expect(await rows(jsonRows, array)).toEqual([[1, "row_too_long"]]);
    expect(await rows(jsonRows, '{"a":"\n{"a":1}\n')).toEqual([
      [1, "not_an_object"],
      [2, { a: 1 }],
    ]);
  });

  it("has an object a line; others are bad, alone, and not quoted", async () => {
    expect(await rows(jsonRows, '{"a":1}\n\n[1]\nnull\n{"a":\n{"a":2}')).toEqual([
      [1, { a: 1 }],
      [3, "not_an_object"],
      [4, "not_an_object"],
      [5, "not_an_object"],
      [6, { a: 2 }],
    ]);
  });
});
