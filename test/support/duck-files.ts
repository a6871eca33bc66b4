import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll } from "vitest";
import { type ArchiveRow, encodeArchive } from "../../adapters/archive/archive-format.ts";
import { DuckSession } from "../../adapters/offline/duckdb.ts";

/** A DuckDB session and a folder of the test file that calls this, from its first test to its last. */
export function duckFiles() {
  let folder: string;
  let session: DuckSession;
  let files = 0;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "freshet-duck-"));
    session = await DuckSession.open({ folder });
  });
  afterAll(() => {
    session?.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const newFile = (ending: string) => join(folder, `${files++}.${ending}`);
  return {
    get folder() {
      return folder;
    },
    get session() {
      return session;
    },
    newFile,
    /** A raw object of the archive, as a file. */
    rawFile(rows: readonly ArchiveRow[]): string {
      const file = newFile("ndjson.zst");
      writeFileSync(file, encodeArchive(rows));
      return file;
    },
  };
}
