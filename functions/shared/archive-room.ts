/** How much of the archive a job may bring to its machine (docs/decisions/0052-jobs-run-duckdb.md). */
import { statfsSync } from "node:fs";

/** What a function gets through in its 15 minutes, in bytes as stored: thirty million events that wait for compaction, or twice as many compacted. */
export const FUNCTION_BYTES = 2_000_000_000;

/** Half of the disk that is free, in bytes: the rest is for what DuckDB spills, and for what the job makes. @param folder the job's */
export function archiveRoom(folder: string): number {
  const { bavail, bsize } = statfsSync(folder);
  return (bavail * bsize) / 2;
}
