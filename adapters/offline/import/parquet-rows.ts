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

/** As JSON would have it: integers as numbers (one too large for that is refused later), instants in ms, maps as objects. */
function plain(cell: unknown): unknown {
  if (typeof cell === "bigint") return Number(cell);
  if (cell instanceof Date) return cell.getTime();
  if (Array.isArray(cell)) return Object.fromEntries(cell.map(({ key, value }) => [key, value]));
  return cell;
}
