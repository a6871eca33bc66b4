/**
 * What a build asks of the archive, answered by the model instead of a query: test/adapters/offline/build.test.ts holds one against
 * the other, byte for byte. `hooks.ts` puts these in the place of the product's two functions of the same names.
 */
import type { ArchiveRow } from "../../adapters/archive.ts";
import { hash64 } from "../../adapters/hash.ts";
import type { BuildOptions, BuiltEntity } from "../../adapters/offline/build.ts";
import { bucketOf } from "../../adapters/valkey/layout.ts";
import { compileGroups } from "../../core/event.ts";
import type { Group, Plan } from "../../core/plan.ts";
import { EntityTiles } from "../../core/tiles.ts";
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
