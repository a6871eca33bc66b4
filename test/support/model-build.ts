/** What a build should put for one entity: the model, given every event below the seal at once. */
import { expect } from "vitest";
import { hash64 } from "../../adapters/hash.ts";
import { ABSORBED_FIELD, absorbedObjectField, objectField, tileField } from "../../adapters/valkey/layout.ts";
import { cellSlots, encodeObject, encodeTile } from "../../adapters/valkey/put.ts";
import { compileGroups, identityText } from "../../core/event.ts";
import { isObject, type State } from "../../core/operators/accumulators.ts";
import type { Group, Plan } from "../../core/plan.ts";
import { EntityTiles } from "../../core/tiles/tiles.ts";
import { floorTo } from "../../core/tiles/window.ts";
import type { OneEntity, RawEvent } from "./one-entity.ts";

const isEmptyObject = (state: State): boolean =>
  state === null || (state instanceof Map ? state.size : (state as { readonly length?: number }).length) === 0;

export const identityOf = (tenant: string, { id, timeMs }: Pick<RawEvent, "id" | "timeMs">): string =>
  hash64(identityText(tenant, "payments", timeMs, id));

/** The model of one card that has seen `events`, each once, and is folded to the seal. */
export function modelOf(plan: Plan, tenant: string, events: readonly RawEvent[], sealMs: number): EntityTiles {
  const [{ group, channels }] = compileGroups(plan, "payments", hash64);
  const first = Math.min(sealMs, ...events.map(({ timeMs }) => timeMs));
  const model = new EntityTiles(group, floorTo(first, group.baseMs));
  for (const event of events) {
    const fields = { tenant, card: "c", id: event.id, at: event.timeMs, ...event.fields };
    const contributions = channels.map((channel) => channel(fields));
    model.apply({ identity: identityOf(tenant, event), timeMs: event.timeMs, contributions }, 0, 1);
  }
  model.fold(sealMs);
  return model;
}

/** The card's features at an instant, as the store answers them, are the model's. */
export async function expectModel(one: OneEntity, plan: Plan, model: EntityTiles, t: number): Promise<void> {
  const view = plan.views.find(({ entity }) => entity === "card")!;
  const served = await one.read(plan, t);
  for (const feature of view.features) {
    const { name } = feature;
    expect({ name, ...served.get(name) }).toEqual({ name, ...model.read(view, feature, t) });
  }
}

export interface BuiltEntity {
  readonly newestMs: number | null;
  /** Names and values in turn. */
  readonly fields: Buffer[];
}

export function buildByModel(plan: Plan, tenant: string, events: readonly RawEvent[], sealMs: number): BuiltEntity {
  const below = events.filter(({ timeMs }) => timeMs < sealMs);
  const fields = fieldsOf(modelOf(plan, tenant, below, sealMs));
  return { newestMs: below.length === 0 ? null : Math.max(...below.map(({ timeMs }) => timeMs)), fields };
}

/** Everything that a folded model holds below its seal, as it is stored: names and values in turn. */
export function fieldsOf(model: EntityTiles): Buffer[] {
  const { group } = model;
  const fields: Buffer[] = [];
  const add = (
    level: number | null,
    states: ReadonlyMap<number, State>,
    tile: Buffer,
    object: (id: number) => Buffer,
  ) => {
    const cells = cellSlots(group, level);
    const stateOf = (id: number) => states.get(group.slots.findIndex((slot) => slot.id === id && !isObject(slot.kind)));
    if (cells.length > 0)
      fields.push(
        tile,
        encodeTile(
          cells,
          cells.map(({ id }) => stateOf(id)),
        ),
      );
    group.slots.forEach(({ id, kind }, slot) => {
      const state = states.get(slot);
      if (state === undefined || !isObject(kind)) return;
      if (!isEmptyObject(state)) fields.push(object(id), encodeObject(kind, state));
    });
  };
  model.levels.forEach((tiles, level) => {
    const { id } = group.levels[level];
    for (const [index, states] of [...tiles].sort(([a], [b]) => a - b)) {
      add(level, states, tileField(id, index), (slot) => objectField(slot, id, index));
    }
  });
  if (group.hasLifetime && model.absorbed.size > 0) add(null, model.absorbed, ABSORBED_FIELD, absorbedObjectField);
  return fields;
}

/** Whether an entity with no field left still has to be known: its newest event may lie within a view's reach. */
export const isKnown = (group: Group, newestMs: number, sealMs: number): boolean =>
  group.expireMs === null || newestMs > sealMs - group.expireMs;
