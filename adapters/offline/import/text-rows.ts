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
/** More than any event has, which is 1 MiB when it is encoded. */
const MAX_ROW_CHARS = 8 << 20;

interface Line {
  readonly line: number;
  readonly text: string;
  /** Set where it is none. */
  readonly error?: RecordError;
}

const QUOTE_OPEN = new RecordError("quote_open", "a quote is opened and not closed, or followed by other characters", {
  repair: 'put values with quotes, commas or line breaks into quotes, and double the quotes in them: "say ""hi"""',
});
const ROW_TOO_LONG = new RecordError("row_too_long", `a row has more than ${MAX_ROW_CHARS} characters`, {
  repair: "write one row a line; a JSON array becomes lines by: jq -c '.[]'",
});

/**
 * Cuts text into lines; with `quoted`, a line in which a quote is open goes on in the next one. A quote that is not closed by the end of the
 * file, or of what a row may hold, is the mistake of its own line alone. So time and memory are bounded, whatever a file holds.
 */
class LineCutter {
  readonly #quoted: boolean;
  /** From the beginning of a row on that has not ended. */
  #rest = "";
  /** Where in it the line begins that is looked at next, how many lines come before it, and whether a quote is open there. */
  #from = 0;
  #joined = 0;
  #open = false;
  /** Of the row's first line. */
  #number = 1;
  /** Within a line that was too long. */
  #skips = false;

  constructor(quoted: boolean) {
    this.#quoted = quoted;
  }

  /** @param isLast whether no more text comes. @returns the rows that have ended */
  take(more: string, isLast: boolean): Line[] {
    const text = this.#rest + more;
    const lines: Line[] = [];
    let start = 0;
    const goOn = (end: number) => {
      this.#number += this.#joined + 1;
      this.#joined = 0;
      this.#open = false;
      this.#from = start = end + 1;
    };
    const refuse = (error: RecordError) => lines.push({ line: this.#number, text: "", error });
    const refuseFirst = () => {
      refuse(QUOTE_OPEN);
      this.#joined = 0;
      const end = text.indexOf("\n", start);
      goOn(end < 0 ? text.length : end);
    };
    while (start < text.length) {
      const found = text.indexOf("\n", this.#from);
      if (found < 0 && !isLast) {
        if (text.length - start <= MAX_ROW_CHARS) break;
        if (this.#joined > 0) {
          refuseFirst();
          continue;
        }
        if (!this.#skips) refuse(ROW_TOO_LONG);
        this.#skips = true;
        this.#from = start = text.length;
        break;
      }
      const end = found < 0 ? text.length : found;
      if (this.#skips) {
        this.#skips = false;
        goOn(end);
      } else if (!this.#quoted || this.#open === hasOddQuotes(text.slice(this.#from, end))) {
        if (end - start > MAX_ROW_CHARS) refuse(ROW_TOO_LONG);
        else lines.push({ line: this.#number, text: text.slice(start, text[end - 1] === "\r" ? end - 1 : end) });
        goOn(end);
      } else if (found < 0 || end - start > MAX_ROW_CHARS) {
        refuseFirst();
      } else {
        this.#open = true;
        this.#joined++;
        this.#from = end + 1;
      }
    }
    this.#rest = text.slice(start);
    this.#from = Math.max(0, this.#from - start);
    return lines;
  }
}

async function* linesOf(file: string, options: { readonly quoted: boolean }): AsyncGenerator<Line[]> {
  const decoder = new StringDecoder("utf8");
  const cutter = new LineCutter(options.quoted);
  let begun = false;
  for await (const chunk of createReadStream(file, { highWaterMark: CHUNK_BYTES })) {
    let text = decoder.write(chunk as Buffer);
    if (!begun && text.length > 0) {
      begun = true;
      if (text.charCodeAt(0) === 0xfeff) text = text.slice(1);
    }
    yield cutter.take(text, false);
  }
  yield cutter.take(decoder.end(), true);
}

function hasOddQuotes(text: string): boolean {
  let isOdd = false;
  for (let at = text.indexOf('"'); at >= 0; at = text.indexOf('"', at + 1)) isOdd = !isOdd;
  return isOdd;
}

/** Bytes that are no UTF-8 have been read as U+FFFD, and the value is no longer what the file holds. */
const requireText = (text: string): RecordError | null =>
  text.includes("\ufffd")
    ? new RecordError("text_invalid", "the row holds bytes that are no UTF-8", { repair: "save the file as UTF-8" })
    : null;

/** Blank lines are skipped. */
export async function* jsonRows(file: string): AsyncGenerator<FileRow[]> {
  for await (const lines of linesOf(file, { quoted: false })) {
    yield lines
      .filter(({ text, error }) => error !== undefined || text.trim() !== "")
      .map(({ line, text, error }) => ({ line, value: error ?? jsonRow(text) }));
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

/**
 * The first line names the columns, between commas, semicolons, tabs or bars. Every value is a string; an empty one is undefined, quoted or not.
 * @throws RecordError `header_invalid`, while iterating
 */
export async function* csvRows(file: string): AsyncGenerator<FileRow[]> {
  let columns: string[] | null = null;
  let delimiter = ",";
  for await (const lines of linesOf(file, { quoted: true })) {
    const rows: FileRow[] = [];
    for (const { line, text, error } of lines) {
      if (columns === null) {
        delimiter = delimiterOf(text);
        columns = header(text, delimiter);
      } else if (error !== undefined) rows.push({ line, value: error });
      else if (text !== "") rows.push({ line, value: csvRow(text, columns, delimiter) });
    }
    yield rows;
  }
}

/** The first line's own: names of fields hold none of these. */
const delimiterOf = (header: string): string => [",", ";", "\t", "|"].find((one) => header.includes(one)) ?? ",";

function header(text: string, delimiter: string): string[] {
  const invalid = requireText(text);
  if (invalid !== null) throw invalid;
  const columns = csvValues(text, delimiter)?.map((name) => name.trim());
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

function csvRow(text: string, columns: readonly string[], delimiter: string): Record<string, unknown> | RecordError {
  const invalid = requireText(text);
  if (invalid !== null) return invalid;
  const values = csvValues(text, delimiter);
  if (values === undefined) {
    return told(QUOTE_OPEN, text);
  }
  if (values.length !== columns.length) {
    const message = `the row has ${values.length} values, the first line ${columns.length} columns`;
    return told(
      new RecordError("column_count", message, { repair: `quote values that hold ${JSON.stringify(delimiter)}` }),
      text,
    );
  }
  const row: Record<string, unknown> = {};
  for (let i = 0; i < columns.length; i++) if (values[i] !== "") row[columns[i]!] = values[i];
  return row;
}

/** A mistake of a row, with how far the row goes: a quote too many joins lines. */
function told({ code, message, repair }: RecordError, text: string): RecordError {
  const lines = text.split("\n").length;
  return new RecordError(code, lines === 1 ? message : `${message} (its quotes join ${lines} lines)`, { repair });
}

/** undefined when quotes are not as RFC 4180 has them. */
function csvValues(text: string, delimiter: string): string[] | undefined {
  if (!text.includes('"')) return text.split(delimiter);
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
      if (at < text.length && text[at] !== delimiter) return undefined;
      values.push(value);
    } else {
      const end = text.indexOf(delimiter, at);
      const value = text.slice(at, end < 0 ? text.length : end);
      if (value.includes('"')) return undefined;
      values.push(value);
      at += value.length;
    }
    if (at >= text.length) return values;
    at++;
  }
}
