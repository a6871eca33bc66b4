/**
 * What a bulk build reads of the archive: all of it at once, or, where the disk has no room for that, in parts of event time. An event is of one
 * time, so a part has all deliveries of each of its events, and together the parts hold every event once.
 */
import { mountArchive } from "../../../adapters/offline/archive-view.ts";
import type { BuildSource } from "../../../adapters/offline/build.ts";
import type { DuckSession } from "../../../adapters/offline/duckdb.ts";
import { entityEventsSql, olderThanEntitySql } from "../../../adapters/offline/entity-events.ts";
import type { ArchiveMirror } from "../../../adapters/offline/mirror.ts";
import { leanArchiveSql, neededFromMs } from "../../../adapters/offline/tile-states.ts";
import { FreshetError } from "../../../core/errors.ts";
import type { Group, Plan, Stream } from "../../../core/plan.ts";
import { floorTo } from "../../../core/tiles/window.ts";

/** Compacted objects hold one of event time. */
const HOUR_MS = 3_600_000;

export interface BuildRange {
  readonly stream: Stream;
  readonly tenants: readonly string[];
  /** Event times, half-open. */
  readonly fromMs: number;
  readonly toMs: number;
}

/** One tenant's archive, mounted. */
interface MountedTenant {
  readonly tenant: string;
  readonly view: string;
}

/** Event times that groups need below their seals. @param fromMs the archive has nothing before */
export function neededRange(groups: readonly Group[], seals: ReadonlyMap<string, number>, fromMs: number) {
  const needed = groups.flatMap((group) => {
    const sealMs = seals.get(group.name);
    return sealMs === undefined ? [] : [neededFromMs(group, sealMs, fromMs)];
  });
  return { fromMs: Math.min(...needed), toMs: Math.max(...seals.values()) };
}

/** Views of the archive, one for each tenant; null where the disk has no room for all. @throws what `mountArchive` throws */
export async function mountWhole(
  session: DuckSession,
  mirror: ArchiveMirror,
  { tenants, ...range }: BuildRange,
): Promise<MountedTenant[] | null> {
  const views: MountedTenant[] = [];
  try {
    for (const [i, tenant] of tenants.entries()) {
      const view = `archive_${i}`;
      await mountArchive(session, mirror, { tenant, ...range }, view);
      views.push({ tenant, view });
    }
  } catch (error) {
    if (isTooLarge(error)) return null;
    throw error;
  }
  return views;
}

/** @returns a query of a group's events for each tenant */
export async function sourcesOf(
  session: DuckSession,
  plan: Plan,
  group: Group,
  archives: readonly MountedTenant[],
): Promise<BuildSource[]> {
  const { joinKey } = plan.entities.find(({ name }) => name === group.entity)!;
  const sources: BuildSource[] = [];
  for (const { tenant, view } of archives) {
    const archive = `lean_${view}`;
    await session.run(`CREATE OR REPLACE VIEW ${archive} AS ${leanArchiveSql(group, joinKey, view)}`);
    const [{ rows }] = await session.rows(olderThanEntitySql(group.entity, { archive }));
    sources.push({ tenant, events: entityEventsSql(plan, group.entity, { archive, older: Number(rows) > 0 }) });
  }
  return sources;
}

interface PartOptions {
  readonly mirror: ArchiveMirror;
  /** Told what a part is refused for, before it is thrown. */
  readonly refused: (error: unknown) => Promise<never>;
}

/**
 * The same, one part after another; each is good until the next is asked for. Raw objects stay on the disk, since they hold events of any time.
 * @throws FreshetError `range_too_large` when there is no room for an hour; what `mountArchive` throws
 */
export async function* partsOf(
  session: DuckSession,
  of: PartOptions & { readonly plan: Plan },
  group: Group,
  { tenants, ...range }: BuildRange,
): AsyncGenerator<BuildSource> {
  // What was fetched before it was known that not all fits may go.
  of.mirror.begin();
  const archive = "archive_part";
  for (const tenant of tenants) {
    for await (const view of mountParts(session, of, { tenant, ...range }, archive)) {
      yield* await sourcesOf(session, of.plan, group, [{ tenant, view }]);
    }
  }
}

/** Mounts one part after the other under one name, each the largest there is room for by halving. What is compacted of it goes before the next. */
async function* mountParts(
  session: DuckSession,
  of: PartOptions,
  part: Omit<BuildRange, "tenants"> & { readonly tenant: string },
  view: string,
): AsyncGenerator<string> {
  const middleMs = floorTo((part.fromMs + part.toMs) / 2, HOUR_MS);
  const mounted = await mountArchive(session, of.mirror, part, view).catch((error: unknown) =>
    isTooLarge(error) && middleMs > part.fromMs ? null : of.refused(error),
  );
  if (mounted === null) {
    yield* mountParts(session, of, { ...part, toMs: middleMs }, view);
    yield* mountParts(session, of, { ...part, fromMs: middleMs }, view);
    return;
  }
  yield view;
  await of.mirror.forget(mounted.compacted);
}

const isTooLarge = (error: unknown): boolean => error instanceof FreshetError && error.code === "range_too_large";
