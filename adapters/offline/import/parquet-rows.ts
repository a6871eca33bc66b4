import { isUtf8 } from "node:buffer";
import { FreshetError } from "../../../core/errors.ts";
import { type DuckSession, sqlText } from "../duckdb.ts";
import type { FileRow } from "./text-rows.ts";

const ROW_NUMBER = "file_row_number";

/** @throws FreshetError `file_unreadable` */
export async function parquetRowCount(session: DuckSession, file: string): Promise<number> {
  try {
    const [{ total }] = await session.rows(
      `SELECT sum(num_rows) AS total FROM parquet_file_metadata(${sqlText(file)})`,
    );
    return Number(total);
  } catch (cause) {
    throw unreadable(file, cause);
  }
}

/** Rows of a Parquet file in its order. @throws FreshetError `file_unreadable` */
export async function* parquetRows(session: DuckSession, file: string): AsyncGenerator<FileRow[]> {
  await session.run("SET preserve_insertion_order = true");
  const rows = session.stream(
    `SELECT * FROM read_parquet(${sqlText(file)}, ${ROW_NUMBER} = true, hive_partitioning = false)`,
  );
  for (;;) {
    const next = await rows.next().catch((cause) => {
      throw unreadable(file, cause);
    });
    if (next.done) return;
    yield next.value.map((row) => {
      const value: Record<string, unknown> = {};
      // A null is a value that is not there: the contract's default stands in.
      for (const [name, cell] of Object.entries(row)) {
        if (name !== ROW_NUMBER && cell !== null) value[name] = plain(cell);
      }
      return { line: Number(row[ROW_NUMBER]) + 1, value };
    });
  }
}

const unreadable = (file: string, cause: unknown): FreshetError =>
  new FreshetError("file_unreadable", `${file} cannot be read as Parquet: ${(cause as Error).message}`, {
    repair: "name the file's format with --format, or write the file anew",
    cause,
  });

/**
 * As JSON would have it: integers as numbers (one too large for that is refused later), instants in ms, maps as objects, and as texts the bytes of
 * writers that do not mark texts as such. What is left is refused by the contract's check.
 */
function plain(cell: unknown): unknown {
  if (typeof cell === "bigint") return Number(cell);
  if (cell instanceof Date) return cell.getTime();
  if (cell instanceof Uint8Array) return isUtf8(cell) ? Buffer.from(cell).toString() : cell;
  if (Array.isArray(cell) && cell.every(isEntry)) {
    return Object.fromEntries(cell.map(({ key, value }) => [key, plain(value)]));
  }
  return cell;
}

const isEntry = (item: unknown): item is { key: string; value: unknown } =>
  item !== null && typeof item === "object" && Object.keys(item).join() === "key,value";
