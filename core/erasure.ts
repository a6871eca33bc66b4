/**
 * What stays of an event when an entity in it is erased: what other entities' features are computed from, and nothing by which the event could be
 * brought back to the erased one. The join key is null, as in an event that has none; the event's id is its identity, a hash that
 * tells nothing to who does not know the id; fields that no other entity's feature or query reads are null. Why: docs/decisions/0047-erasure.md.
 */
import type { Plan, Stream, Where } from "./plan.ts";
import { floorTo } from "./tiles/window.ts";

/** Who is erased: an entity of the plan by its id. */
export interface ErasedEntity {
  readonly entity: string;
  readonly id: string;
}

interface Claim {
  readonly entity: string;
  readonly id: string;
}

/** What erasure looks at in a row of the archive. */
export interface ErasableRow {
  readonly eventId: string | null;
  readonly eventTimeMs: number | null;
  readonly identity: string | null;
  readonly reason?: string;
  readonly fields: Readonly<Record<string, unknown>> | null;
  readonly fates: readonly Claim[];
}

/** The same row where nothing of it is erased, another one where something is, null where nothing of it stays. */
export type RowEraser = <R extends ErasableRow>(row: R) => R | null;

export interface ErasureTerms {
  readonly subjects: readonly ErasedEntity[];
  /** Events from then on stay. */
  readonly beforeMs: number;
  /** Event ids that went, by the field that other streams name them by; each with the event's identity. @default none */
  readonly events?: ReadonlyMap<string, ReadonlyMap<string, string>>;
}

/** No event's id: it joins with nothing. */
const erasedEventId = (identity: string): string => `erased:${identity}`;

export function rowEraser(plan: Plan, stream: Stream, { subjects, beforeMs, events }: ErasureTerms): RowEraser {
  const ids = subjectsByKey(plan, subjects);
  const erasedEntities = new Set(subjects.map(({ entity }) => entity));
  const readers = plan.groups.filter((group) => group.stream === stream.name);
  const queried = queriedFields(plan, stream, erasedEntities);
  const references = [...(events ?? [])].filter(([field]) => field in stream.fields && field !== stream.eventId);
  const isErased = (entity: string, id: unknown) =>
    subjects.some((subject) => subject.entity === entity && subject.id === id);
  const textOf = (value: unknown) => (value === null || value === undefined ? null : String(value));

  return (row) => {
    const { fields } = row;
    const own =
      row.fates.some(({ entity, id }) => isErased(entity, id)) ||
      (fields !== null && ids.some(({ joinKey, of }) => of.has(textOf(fields[joinKey]) ?? "")));
    const isHit = own && !(row.eventTimeMs !== null && row.eventTimeMs >= beforeMs);
    const renamed = references.flatMap(([field, identities]) => {
      const identity = identities.get(textOf(fields?.[field]) ?? "");
      return identity === undefined ? [] : [[field, identity] as const];
    });
    if (!isHit && renamed.length === 0) return row;
    // A refused record gave nothing to anybody.
    if (fields === null || row.identity === null || row.reason !== undefined) return null;
    const others = readers.filter(({ entity }) => {
      const key = textOf(fields[joinKeyOf(plan, entity)]);
      return key !== null && key !== "" && !isErased(entity, key);
    });
    if (others.length === 0 && queried === null) return null;
    const kept = new Set(["tenant", stream.eventTime, ...(queried ?? [])]);
    for (const group of others) {
      kept.add(joinKeyOf(plan, group.entity));
      for (const { input } of group.channels) {
        if (input.field !== null) kept.add(input.field);
        if (input.where !== null) for (const field of fieldsOfWhere(input.where)) kept.add(field);
      }
    }
    for (const { joinKey, of } of ids) if (of.has(textOf(fields[joinKey]) ?? "")) kept.delete(joinKey);
    const left = Object.keys(fields).map((name) => [name, kept.has(name) ? fields[name] : null] as const);
    return {
      ...row,
      eventId: erasedEventId(row.identity),
      fields: { ...Object.fromEntries(left), [stream.eventId]: row.identity, ...Object.fromEntries(renamed) },
      fates: row.fates.filter(({ entity, id }) => !isErased(entity, id)),
    };
  };
}

/** Join keys of the erased, each with the ids. */
function subjectsByKey(plan: Plan, subjects: readonly ErasedEntity[]) {
  const byKey = new Map<string, Set<string>>();
  for (const { entity, id } of subjects) {
    const joinKey = joinKeyOf(plan, entity);
    byKey.set(joinKey, (byKey.get(joinKey) ?? new Set()).add(id));
  }
  return [...byKey].map(([joinKey, of]) => ({ joinKey, of }));
}

const joinKeyOf = (plan: Plan, entity: string): string => plan.entities.find(({ name }) => name === entity)!.joinKey;

/** Fields of the stream that queries about other entities may read, which is told by their words alone; null where there is no such query. */
function queriedFields(plan: Plan, stream: Stream, erased: ReadonlySet<string>): string[] | null {
  const views = plan.batchViews.filter(({ entity, streams }) => !erased.has(entity) && streams.includes(stream.name));
  if (views.length === 0) return null;
  const words = new Set(views.flatMap(({ sql }) => sql.match(/\w+/g) ?? []));
  return Object.keys(stream.fields).filter((name) => words.has(name));
}

function fieldsOfWhere(where: Where): string[] {
  if ("field" in where) return [where.field];
  return (where.op === "not" ? [where.of] : where.of).flatMap(fieldsOfWhere);
}

/** A cut-off that nothing comes after: the end of the year 9999. */
export const FOR_EVER_MS = 253_402_300_799_999;

/**
 * The instant before which events of an erased entity count no more: the next base tile of every stream that begins after all that may have
 * happened by then, since an event may be a minute ahead of its arrival. So a tile holds either what is erased or what is not.
 */
export function erasedBeforeMs(plan: Plan, nowMs: number, aheadMs: number): number {
  const stepMs = plan.streams.reduce((step, { baseMs }) => leastCommonMultiple(step, baseMs), 1);
  return floorTo(nowMs + aheadMs, stepMs) + stepMs;
}

function leastCommonMultiple(a: number, b: number): number {
  let [x, y] = [a, b];
  while (y > 0) [x, y] = [y, x % y];
  return (a / x) * b;
}
