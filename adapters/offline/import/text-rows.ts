/** Rows of a text file with the line on which each begins: CSV by RFC 4180, or JSON lines. */
import { createReadStream } from "node:fs";
import { StringDecoder } from "node:string_decoder";
import { RecordError } from "../../../core/errors.ts";

/** A row as the file has it. */
export interface FileRow {
  /** 1-based: the line of a text file, the row of a Parquet file. */
  readonly line: number;
  /** By column. An error when the row cannot be read at all. */
  readonly value: Record<string, unknown> | RecordError;
}

const CHUNK_BYTES = 1 << 20;

interface Line {
  readonly line: number;
  readonly text: string;
}

/** Lines without their ends, many at a time. `whole` says whether a line stands alone or goes on in the next one. */
async function* linesOf(file: string, whole: (text: string) => boolean): AsyncGenerator<Line[]> {
  const decoder = new StringDecoder("utf8");
  let rest = "";
  let number = 1;
  let begun = false;
  const take = (text: string, last: boolean): Line[] => {
    const lines: Line[] = [];
    let start = 0;
    let from = 0;
    for (;;) {
      const end = text.indexOf("\n", from);
      if (end < 0) break;
      const line = text.slice(start, end);
      if (whole(line)) {
        lines.push({ line: number, text: line.endsWith("\r") ? line.slice(0, -1) : line });
        number += countBreaks(line) + 1;
        start = end + 1;
      }
      from = end + 1;
    }
    rest = text.slice(start);
    if (last && rest !== "") lines.push({ line: number, text: rest.endsWith("\r") ? rest.slice(0, -1) : rest });
    return lines;
  };
  for await (const chunk of createReadStream(file, { highWaterMark: CHUNK_BYTES })) {
    let text = rest + decoder.write(chunk as Buffer);
    if (!begun && text.length > 0) {
      begun = true;
      if (text.charCodeAt(0) === 0xfeff) text = text.slice(1);
    }
    yield take(text, false);
  }
  yield take(rest + decoder.end(), true);
}

function countBreaks(text: string): number {
  let breaks = 0;
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) breaks++;
  return breaks;
}

/** Bytes that are no UTF-8 have been read as U+FFFD, and the value is no longer what the file holds. */
const requireText = (text: string): RecordError | null =>
  text.includes("\ufffd")
    ? new RecordError("text_invalid", "the row holds bytes that are no UTF-8", { repair: "save the file as UTF-8" })
    : null;

/** Blank lines are skipped. */
export async function* jsonRows(file: string): AsyncGenerator<FileRow[]> {
  for await (const lines of linesOf(file, () => true)) {
    yield lines.filter(({ text }) => text.trim() !== "").map(({ line, text }) => ({ line, value: jsonRow(text) }));
  }
}

function jsonRow(text: string): Record<string, unknown> | RecordError {
  const invalid = requireText(text);
  if (invalid !== null) return invalid;
  try {
    const value: unknown = JSON.parse(text);
    if (value !== null && typeof value === "object" && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch {
    // Said below, without the parser's message: it quotes the row.
  }
  return new RecordError("not_an_object", "the line is not a JSON object", { repair: "write one JSON object a line" });
}

/** A quote that is open at the end of the line goes on in the next one. */
function quotesAreClosed(text: string): boolean {
  let closed = true;
  for (let at = text.indexOf('"'); at >= 0; at = text.indexOf('"', at + 1)) closed = !closed;
  return closed;
}

/**
 * The first line names the columns. Every value is a string; an empty one is undefined, quoted or not.
 * @throws RecordError `header_invalid`, while iterating
 */
export async function* csvRows(file: string): AsyncGenerator<FileRow[]> {
  let columns: string[] | null = null;
  for await (const lines of linesOf(file, quotesAreClosed)) {
    const rows: FileRow[] = [];
    for (const { line, text } of lines) {
      if (columns === null) columns = header(text);
      else if (text !== "") rows.push({ line, value: csvRow(text, columns) });
    }
    yield rows;
  }
}

function header(text: string): string[] {
  const columns = csvValues(text)?.map((name) => name.trim());
  const twice = columns?.find((name, i) => columns.indexOf(name) !== i);
  if (columns !== undefined && twice === undefined && !columns.includes("")) return columns;
  throw new RecordError(
    "header_invalid",
    twice
      ? `the first line names the column ${JSON.stringify(twice.slice(0, 64))} twice`
      : "the first line is to name every column",
    { repair: "begin the file with a line of column names, the contract's fields" },
  );
}

function csvRow(text: string, columns: readonly string[]): Record<string, unknown> | RecordError {
  const invalid = requireText(text);
  if (invalid !== null) return invalid;
  const values = csvValues(text);
  if (values === undefined) {
    return new RecordError("quote_open", "a quote is opened and not closed, or followed by other characters", {
      repair: 'put values with quotes, commas or line breaks into quotes, and double the quotes in them: "say ""hi"""',
    });
  }
  if (values.length !== columns.length) {
    return new RecordError(
      "column_count",
      `the row has ${values.length} values, the first line ${columns.length} columns`,
      {
        repair: "quote values that hold commas",
      },
    );
  }
  const row: Record<string, unknown> = {};
  for (let i = 0; i < columns.length; i++) if (values[i] !== "") row[columns[i]!] = values[i];
  return row;
}

/** undefined when quotes are not as RFC 4180 has them. */
function csvValues(text: string): string[] | undefined {
  if (!text.includes('"')) return text.split(",");
  const values: string[] = [];
  let at = 0;
  for (;;) {
    if (text[at] === '"') {
      let value = "";
      for (at++; ; ) {
        const end = text.indexOf('"', at);
        if (end < 0) return undefined;
        value += text.slice(at, end);
        at = end + 1;
        if (text[at] !== '"') break;
        value += '"';
        at++;
      }
      if (at < text.length && text[at] !== ",") return undefined;
      values.push(value);
    } else {
      const end = text.indexOf(",", at);
      const value = text.slice(at, end < 0 ? text.length : end);
      if (value.includes('"')) return undefined;
      values.push(value);
      at += value.length;
    }
    if (at >= text.length) return values;
    at++;
  }
}
