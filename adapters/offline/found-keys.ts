/** How many rows of a spine name someone the archive knows: a share near 0 means that the keys are written otherwise than in events. */
import type { Plan, Service } from "../../core/plan.ts";
import { type DuckSession, sqlName } from "./duckdb.ts";
import { keyColumn } from "./point-in-time-sql.ts";
import { entitiesOf } from "./spine.ts";

export interface FoundKeys {
  readonly name: string;
  readonly join_key: string;
  readonly rows_with_key: number;
  /**
   * Of those rows, 0 to 1: with an event of that id among what was read for the features, at any time in it, visible or not. Null
   * without such rows, and for an entity with features of batch views alone.
   */
  readonly found_share: number | null;
}

/** @param archives relation by stream, as archive-view.ts describes it */
export async function foundKeys(
  session: DuckSession,
  plan: Plan,
  service: Service,
  archives: ReadonlyMap<string, string>,
): Promise<FoundKeys[]> {
  const found: FoundKeys[] = [];
  for (const { name, joinKey } of entitiesOf(plan, service)) {
    const ids = plan.groups
      .filter(({ entity, stream }) => entity === name && archives.has(stream))
      .map(
        ({ stream }) =>
          `SELECT CAST(fields.${sqlName(joinKey)} AS VARCHAR) AS id FROM ${archives.get(stream)} WHERE reason IS NULL`,
      );
    const known =
      ids.length === 0
        ? "CAST(NULL AS BIGINT)"
        : `count(*) FILTER (${keyColumn(name)} IN (SELECT id FROM (${ids.join(" UNION ALL ")}) AS ids WHERE id IS NOT NULL))`;
    const [row] = await session.rows(`SELECT count(${keyColumn(name)}) AS rows, ${known} AS known FROM spine`);
    const rows = Number(row["rows"]);
    const share = rows === 0 || row["known"] === null ? null : Number(row["known"]) / rows;
    found.push({ name, join_key: joinKey, rows_with_key: rows, found_share: share });
  }
  return found;
}
