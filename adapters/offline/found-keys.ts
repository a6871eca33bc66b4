/** How many rows of a spine name someone the archive knows: a share near 0 means that the keys are written otherwise than in events. */
import type { Group, Plan, Service } from "../../core/plan.ts";
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

/** Groups whose events may name entities of a service. @param streams those that were read */
export const groupsOfService = (plan: Plan, service: Service, streams: ReadonlySet<string>): Group[] =>
  plan.groups.filter(({ entity, stream }) => service.entities.includes(entity) && streams.has(stream));

/** Ids that a relation of archive-view.ts names, as SQL with the column `id`. */
export function namedIdsSql(plan: Plan, { entity }: Group, archive: string): string {
  const { joinKey } = plan.entities.find(({ name }) => name === entity)!;
  return `SELECT CAST(fields.${sqlName(joinKey)} AS VARCHAR) AS id FROM ${archive} WHERE reason IS NULL`;
}

/** @param known SQL with the column `id`: ids that events of each group name, at least those of them that the spine names too */
export async function foundKeys(
  session: DuckSession,
  plan: Plan,
  service: Service,
  known: ReadonlyMap<Group, string>,
): Promise<FoundKeys[]> {
  const found: FoundKeys[] = [];
  for (const { name, joinKey } of entitiesOf(plan, service)) {
    const ids = [...known].filter(([group]) => group.entity === name).map(([, sql]) => sql);
    const among =
      ids.length === 0
        ? "CAST(NULL AS BIGINT)"
        : `count(*) FILTER (${keyColumn(name)} IN (SELECT id FROM (${ids.join(" UNION ALL ")}) AS ids WHERE id IS NOT NULL))`;
    const [row] = await session.rows(`SELECT count(${keyColumn(name)}) AS rows, ${among} AS known FROM spine`);
    const rows = Number(row["rows"]);
    const share = rows === 0 || row["known"] === null ? null : Number(row["known"]) / rows;
    found.push({ name, join_key: joinKey, rows_with_key: rows, found_share: share });
  }
  return found;
}
