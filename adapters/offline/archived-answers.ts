/**
 * What the archive says that reads of single entities had to answer, at their instants: the point-in-time join over their own events
 * alone, and which reads raced with an event.
 */
import { FUTURE_LIMIT_MS } from "../../core/event.ts";
import type { Group, Plan, Stream } from "../../core/plan.ts";
import { type PushedFeature, versionedName } from "../../core/pushed-feature.ts";
import { mountArchive } from "./archive-view.ts";
import { type DuckOptions, DuckSession, sqlName, sqlText } from "./duckdb.ts";
import { entityEventsSql } from "./entity-events.ts";
import type { ArchiveMirror } from "./mirror.ts";
import { type FeatureColumn, groupsOf, joinPointInTime, seenRange } from "./point-in-time.ts";
import { keyColumn } from "./point-in-time-sql.ts";
import { joinPushed, joinRegistered, type MountValues, valuesMount } from "./pushed-in-time.ts";
import { leanArchiveSql } from "./tile-states.ts";

/** A read of an entity: it saw what was visible before `asOfMs`, and maybe what became visible until `untilMs`, by the store's clock. */
export interface Instant {
  readonly id: string;
  readonly asOfMs: number;
  readonly untilMs: number;
}

export interface ArchivedAnswers {
  /** In the order of `features`, then those of `registered`; rows are those of the instants. */
  readonly columns: readonly FeatureColumn[];
  /** Reads that an event of their entity became visible beside. */
  readonly racing: ReadonlySet<number>;
  /** When the newest event of each became visible; null without any. */
  readonly newestVisibleMs: readonly (number | null)[];
  readonly objects: number;
  readonly bytes: number;
}

interface Place {
  readonly plan: Plan;
  readonly mirror: ArchiveMirror;
  readonly duck: DuckOptions;
}

export interface Asked {
  readonly tenant: string;
  readonly entity: string;
  /** Full names, all of this entity, of events or of batch views. */
  readonly features: readonly string[];
  /** Of this entity, that the tenant has registered. */
  readonly registered: readonly PushedFeature[];
}

/** @throws FreshetError of reading the archive */
export async function archivedAnswers(
  { plan, mirror, duck }: Place,
  of: Asked,
  instants: readonly Instant[],
): Promise<ArchivedAnswers> {
  const times = instants.map(({ asOfMs }) => asOfMs);
  const spine = { relation: "spine", rows: instants.length, fromMs: min(times), toMs: max(times) };
  const session = await DuckSession.open(duck);
  try {
    await session.run(
      `CREATE TABLE spine ("row id" BIGINT, "as of" BIGINT, "until" BIGINT, ${keyColumn(of.entity)} VARCHAR)`,
    );
    await session.append("spine", [
      instants.map((_, i) => BigInt(i)),
      instants.map(({ asOfMs }) => BigInt(asOfMs)),
      instants.map(({ untilMs }) => BigInt(untilMs)),
      instants.map(({ id }) => id),
    ]);
    const events = new Map<Group, string>();
    let [objects, bytes] = [0, 0];
    for (const [group, members] of groupsOf(plan, of.features)) {
      const stream = streamOf(plan, group);
      const range = seenRange(group, members, spine);
      const within = { tenant: of.tenant, stream, fromMs: range.fromMs, toMs: range.toMs + FUTURE_LIMIT_MS };
      const mounted = await mountArchive(session, mirror, within, "archive");
      for (const object of [...mounted.raw, ...mounted.compacted]) bytes += object.bytes;
      objects += mounted.raw.length + mounted.compacted.length;
      const { joinKey } = plan.entities.find(({ name }) => name === of.entity)!;
      // Of these entities alone, once: what follows reads it several times.
      const own = `own_${events.size}`;
      await session.run(
        `CREATE TABLE ${own} AS SELECT * FROM (${leanArchiveSql(group, joinKey, "archive")})
         WHERE CAST(fields.${sqlName(joinKey)} AS VARCHAR) IN (SELECT ${keyColumn(of.entity)} FROM spine)`,
      );
      events.set(group, entityEventsSql(plan, of.entity, { archive: own }));
    }
    const pushes = new Set<string>();
    const mountPushes = valuesMount(session, mirror, of.tenant);
    const mount: MountValues = async (view, toMs) => {
      const relation = await mountPushes(view, toMs + FUTURE_LIMIT_MS);
      pushes.add(`SELECT id, visible_ms FROM ${relation}`);
      return relation;
    };
    const byName = new Map<string, FeatureColumn>();
    const keep = (found: readonly FeatureColumn[]) => {
      for (const column of found) byName.set(column.name, column);
    };
    const names = new Set([...groupsOf(plan, of.features).values()].flat().map(({ feature }) => feature.name));
    const own = of.features.filter((name) => names.has(name));
    if (own.length > 0)
      keep(
        await joinPointInTime(session, { ...{ plan, spine, features: own }, events: (group) => events.get(group)! }),
      );
    keep(await joinPushed(session, { plan, names: of.features, spine, mount }));
    const features = new Map(of.registered.map((feature) => [versionedName(feature), feature]));
    keep(await joinRegistered(session, { features, spine, mount }));
    const columns = [...of.features, ...features.keys()].map((name) => byName.get(name)!);
    const seen = [...[...events.values()].map((sql) => `SELECT id, visible_ms FROM (${sql})`), ...pushes].join(
      " UNION ALL ",
    );
    const [racing, newest] = [new Set<number>(), new Array<number | null>(instants.length).fill(null)];
    if (seen === "") return { columns, racing, newestVisibleMs: newest, objects, bytes };
    const rows = await session.rows(`
SELECT s."row id" AS row, max(e.visible_ms) AS newest, bool_or(e.visible_ms >= s."as of" AND e.visible_ms <= s."until") AS racing
FROM spine AS s JOIN (${seen}) AS e ON e.id = s.${keyColumn(of.entity)} GROUP BY s."row id"`);
    for (const found of rows) {
      newest[Number(found["row"])] = Number(found["newest"]);
      if (found["racing"]) racing.add(Number(found["row"]));
    }
    return { columns, racing, newestVisibleMs: newest, objects, bytes };
  } finally {
    session.close();
  }
}

/** Ids that something was ever pushed for, in some views as the archive names them. */
export async function pushedIds(
  { mirror, duck }: Pick<Place, "mirror" | "duck">,
  { tenant, views }: { readonly tenant: string; readonly views: readonly string[] },
): Promise<string[]> {
  const session = await DuckSession.open(duck);
  const ids = new Set<string>();
  try {
    const mount = valuesMount(session, mirror, tenant);
    for (const view of views) {
      const relation = await mount(view, Number.MAX_SAFE_INTEGER);
      for (const { id } of await session.rows(`SELECT DISTINCT id FROM ${relation}`)) ids.add(id);
    }
    return [...ids];
  } finally {
    session.close();
  }
}

/** Ids of an entity that the archive holds something visible of, of one tenant. @param fromMs of event time */
export async function archivedIds(
  { plan, mirror, duck }: Place,
  of: { readonly tenant: string; readonly entity: string; readonly fromMs: number; readonly toMs: number },
): Promise<string[]> {
  const session = await DuckSession.open(duck);
  const ids = new Set<string>();
  try {
    for (const group of plan.groups.filter(({ entity }) => entity === of.entity)) {
      const range = { tenant: of.tenant, stream: streamOf(plan, group), fromMs: of.fromMs, toMs: of.toMs };
      await mountArchive(session, mirror, range, "archive");
      const sql = `SELECT DISTINCT f.id AS id FROM (SELECT UNNEST(fates) AS f FROM archive WHERE reason IS NULL)
        WHERE f.entity = ${sqlText(of.entity)} AND f.visible_ms IS NOT NULL`;
      for (const { id } of await session.rows(sql)) ids.add(id);
    }
    return [...ids];
  } finally {
    session.close();
  }
}

const streamOf = (plan: Plan, group: Group): Stream => plan.streams.find(({ name }) => name === group.stream)!;
const min = (values: readonly number[]): number => values.reduce((a, b) => Math.min(a, b));
const max = (values: readonly number[]): number => values.reduce((a, b) => Math.max(a, b));
