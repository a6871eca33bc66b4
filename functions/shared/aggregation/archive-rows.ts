/** Writes the rows of a batch so that one that cannot be made into a line stops nobody else. */
import { type ArchiveObject, type ArchiveRow, encodeArchive } from "../../../adapters/archive/archive.ts";
import { InfrastructureError } from "../../../core/errors.ts";
import type { AggregationPorts, Candidate } from "./aggregation.ts";
import { refuse } from "./refusal.ts";

/**
 * A row over which the writer throws is a bug that its event brings to light. The store has counted the event by then; it is set aside, so
 * that a replay after the bug is mended archives it with the time at which it was counted.
 * @throws InfrastructureError; what the writer throws over no row by itself
 */
export async function archiveRows(
  ports: Pick<AggregationPorts, "archive" | "quarantine" | "stream">,
  shard: string,
  rows: readonly ArchiveRow[],
  candidates: readonly Candidate[],
): Promise<readonly ArchiveObject[]> {
  const context = { stream: ports.stream.name, shard };
  let failure: unknown;
  try {
    return await ports.archive.write(rows, context);
  } catch (error) {
    if (error instanceof InfrastructureError) throw error;
    failure = error;
  }
  const thrown = rows.flatMap((row) => {
    const error = errorOf(row);
    return error === null ? [] : [{ row, error }];
  });
  if (thrown.length === 0) throw failure;
  const refused = thrown.map(({ row, error }) => {
    const { record, subSequence, bytes } = candidates.find(
      (one) => one.record.sequence === row.sequence && one.subSequence === row.subSequence,
    )!;
    // Not its fields: they are what cannot be written.
    const set = refuse(ports.stream, shard, record, subSequence, bytes, null, error);
    return { ...set, quarantined: { ...set.quarantined, tenant: row.tenant }, row: { ...set.row, tenant: row.tenant } };
  });
  await ports.quarantine.write(refused.map(({ quarantined }) => quarantined));
  const bad = new Set(thrown.map(({ row }) => row));
  return ports.archive.write([...rows.filter((row) => !bad.has(row)), ...refused.map(({ row }) => row)], context);
}

/** What the format throws over this row alone; null for nothing. */
function errorOf(row: ArchiveRow): unknown {
  try {
    encodeArchive([row]);
    return null;
  } catch (error) {
    return error ?? new Error("thrown without an error");
  }
}
