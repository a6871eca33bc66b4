/**
 * What builds and erasures ask of the archive, answered by the model instead of a query: test/adapters/offline/build.test.ts holds one against
 * the other, byte for byte. `hooks.ts` puts these in the place of the product's functions of the same names. A build gives each event with all of its
 * fields, also those that an erasure of another entity has taken out of its row: what is computed from an erased key is either (docs/erasure.md).
 */
import type { ArchiveRow } from "../../adapters/archive/archive.ts";
import type { StreamErasure } from "../../adapters/erasure/erase-archive.ts";
import type { RewriteReport, WalkOptions } from "../../adapters/erasure/rewrite.ts";
import { hash64 } from "../../adapters/hash.ts";
import type { BuildOptions, BuiltEntity } from "../../adapters/offline/build.ts";
import { bucketOf } from "../../adapters/valkey/layout.ts";
import { rowEraser } from "../../core/erasure.ts";
import { compileGroups } from "../../core/event.ts";
import type { Group, Plan } from "../../core/plan.ts";
import { EntityTiles } from "../../core/tiles/tiles.ts";
import { fieldsOf } from "../support/model-build.ts";
import { type SimulatedEvent, visibleIds } from "./events.ts";
import { STREAM } from "./plans.ts";

/** What a run's archive gives to a build, as of when it is listed. */
export interface ListedArchive {
  list(): Promise<readonly (readonly ArchiveRow[])[]>;
  readonly plan: Plan;
  eventOf(identity: string): SimulatedEvent;
  /** Told what each entity was built from. */
  built(group: Group, entity: BuiltEntity, events: readonly SimulatedEvent[]): void;
}

interface Session {
  archive: ListedArchive;
  objects: readonly (readonly ArchiveRow[])[];
}

export const fakeSession = () => ({
  run: async () => {},
  // How many events are older than the entity: the model asks each row itself.
  rows: async () => [{ rows: 0 }],
  close: () => {},
});

export async function mountArchive(session: Session, mirror: ListedArchive): Promise<void> {
  session.archive = mirror;
  session.objects = await mirror.list();
}

export async function* buildEntities(
  session: Session,
  { group, sources, sealMs, buckets }: BuildOptions,
  onEvents?: (count: number) => void,
): AsyncGenerator<BuiltEntity> {
  const { archive } = session;
  const tenants = new Set(sources.map(({ tenant }) => tenant));
  const entities = new Map<string, { tenant: string; id: string; events: Set<SimulatedEvent> }>();
  for (const row of session.objects.flat()) {
    if (row.tenant === null || row.identity === null || row.reason !== undefined || !tenants.has(row.tenant)) continue;
    if (row.eventTimeMs! >= sealMs) continue;
    for (const id of visibleIds(row, group.entity)) {
      const key = `${row.tenant}/${id}`;
      const entity = entities.get(key) ?? { tenant: row.tenant, id, events: new Set() };
      entities.set(key, entity);
      entity.events.add(archive.eventOf(row.identity));
    }
  }
  onEvents?.([...entities.values()].reduce((sum, { events }) => sum + events.size, 0));
  const wanted = buckets === undefined ? null : new Set(buckets);
  const found = [...entities.values()].map((own) => ({ ...own, bucket: bucketOf(own.tenant, group.entity, own.id) }));
  found.sort((a, b) => a.bucket - b.bucket || (`${a.tenant}/${a.id}` < `${b.tenant}/${b.id}` ? -1 : 1));
  for (const { tenant, id, bucket, events } of found) {
    if (wanted !== null && !wanted.has(bucket)) continue;
    const newestMs = Math.max(...[...events].map(({ timeMs }) => timeMs));
    const entity = { bucket, tenant, id, newestMs, fields: fieldsOf(modelOf(archive.plan, group, events, sealMs)) };
    archive.built(group, entity, [...events]);
    yield entity;
  }
}

/** An archive from which rows can be taken. */
export interface RewritableArchive {
  /** Keys of a tenant's objects, in order. */
  list(tenant: string): Promise<readonly string[]>;
  get(keys: readonly string[]): Promise<readonly (readonly ArchiveRow[])[]>;
  put(key: string, rows: readonly ArchiveRow[]): Promise<void>;
  remove(key: string): Promise<void>;
}

const STEP = 32;

/** As `rewriteObjects` goes through objects, over rows instead of bytes. Nothing is compacted in a run. */
export async function eraseStream(
  { plan, tenant, stream, subjects, beforeMs, mirror }: StreamErasure,
  kind: "raw" | "compacted",
  { after = "", outOfTime, onStep }: WalkOptions,
): Promise<boolean> {
  if (kind === "compacted") return true;
  const { rewriter } = mirror as unknown as { readonly rewriter: RewritableArchive };
  const erase = rowEraser(plan, stream, { subjects, beforeMs });
  const keys = (await rewriter.list(tenant)).filter((key) => key > after);
  for (let from = 0; from < keys.length; from += STEP) {
    if (from > 0 && outOfTime?.()) return false;
    const step = keys.slice(from, from + STEP);
    const report: RewriteReport = { looked: step.length, rewritten: 0, rows: 0, unreadable: [] };
    for (const [i, rows] of (await rewriter.get(step)).entries()) {
      const left = rows.map((row) => erase(row));
      const changed = left.filter((row, r) => row !== rows[r]).length;
      if (changed === 0) continue;
      const kept = left.filter((row) => row !== null);
      if (kept.length > 0) await rewriter.put(step[i].replace(".ndjson", "x.ndjson"), kept);
      await rewriter.remove(step[i]);
      report.rewritten++;
      report.rows += changed;
    }
    await onStep?.(step[step.length - 1], report);
  }
  return true;
}

function modelOf(plan: Plan, group: Group, events: ReadonlySet<SimulatedEvent>, sealMs: number): EntityTiles {
  const { channels } = compileGroups(plan, STREAM, hash64).find((reader) => reader.group.id === group.id)!;
  const oldest = Math.min(...[...events].map(({ timeMs }) => timeMs));
  const model = new EntityTiles(group, Math.floor(oldest / group.baseMs) * group.baseMs);
  for (const { identity, timeMs, fields } of events) {
    model.apply({ identity, timeMs, contributions: channels.map((channel) => channel(fields)) }, 0, 1);
  }
  model.fold(sealMs);
  return model;
}
