/** Files that were made for users, as results of historical jobs: which of them hold an entity. They are the users', and are told of, not changed. */

import { randomUUID } from "node:crypto";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { DuckSession } from "../offline/duckdb.ts";
import { sqlName, sqlText } from "../offline/duckdb.ts";
import { bytesName } from "./other-rows.ts";

export interface OutputLook {
  readonly session: DuckSession;
  readonly folder: string;
  /** Ids by join key. */
  readonly keys: ReadonlyMap<string, ReadonlySet<string>>;
}

/** @throws FreshetError of DuckDB for a file that it cannot read */
export async function holdsEntity(body: Buffer, key: string, { session, folder, keys }: OutputLook): Promise<boolean> {
  if (!key.endsWith(".parquet"))
    return bytesName(
      body,
      [...keys.values()].flatMap((ids) => [...ids]),
    );
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `${randomUUID()}.parquet`);
  try {
    writeFileSync(file, body);
    const columns = await session.rows(`DESCRIBE SELECT * FROM read_parquet(${sqlText(file)})`);
    const named = columns.flatMap(({ column_name: name }) => {
      const ids = keys.get(name as string);
      return ids === undefined ? [] : [`CAST(${sqlName(name)} AS VARCHAR) IN (${[...ids].map(sqlText)})`];
    });
    if (named.length === 0) return false;
    const [{ rows }] = await session.rows(
      `SELECT count(*) AS rows FROM read_parquet(${sqlText(file)}) WHERE ${named.join(" OR ")}`,
    );
    return Number(rows) > 0;
  } finally {
    rmSync(file, { force: true });
  }
}
