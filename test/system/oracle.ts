/** What every entity must show: the naive oracle over the events that producers know to be acknowledged. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { hash64 } from "../../adapters/hash.ts";
import { identityText } from "../../core/event.ts";
import type { Group, Value } from "../../core/plan.ts";
import { plan } from "../../features/plan.ts";
import type { SimulatedEvent } from "../../local/generator/simulate.ts";
import { type NaiveEvent, naive } from "../core/naive.ts";
import { deployed } from "../support/deployed.ts";
import { call } from "./app.ts";

const READERS = 8;
const joinKeys = new Map(plan.entities.map(({ name, joinKey }) => [name, joinKey]));
const hash32 = (text: string): number => Number.parseInt(hash64(text).slice(0, 8), 16);

export const identityOf = ({ stream, id, timeMs, fields }: SimulatedEvent): string =>
  hash64(identityText(String(fields["tenant"]), stream, timeMs, id));

export interface EntityId {
  readonly entity: string;
  readonly id: string;
}

/** The entities that an event counts for. */
export const entitiesOf = ({ stream, fields }: SimulatedEvent): EntityId[] =>
  plan.groups
    .filter((group) => group.stream === stream)
    .flatMap(({ entity }) => {
      const id = fields[joinKeys.get(entity)!];
      return typeof id === "string" ? [{ entity, id }] : [];
    });

/** What is true of one tenant: its events, each once, whatever became of its deliveries. */
export class GroundTruth {
  /** By entity and id, then by group. */
  readonly entities = new Map<string, EntityId & { readonly groups: Map<Group, NaiveEvent[]> }>();
  readonly events: ReadonlyMap<string, SimulatedEvent>;

  constructor(events: Iterable<SimulatedEvent>) {
    this.events = new Map([...events].map((event) => [identityOf(event), event]));
    for (const [identity, event] of this.events) {
      for (const { entity, id } of entitiesOf(event)) {
        const name = `${entity}/${id}`;
        let known = this.entities.get(name);
        if (!known) {
          known = { entity, id, groups: new Map() };
          this.entities.set(name, known);
        }
        const group = plan.groups.find((each) => each.entity === entity && each.stream === event.stream)!;
        const list = known.groups.get(group) ?? [];
        known.groups.set(group, list);
        list.push({ identity, timeMs: event.timeMs, fields: event.fields });
      }
    }
  }

  /** Values by full name; a view over a stream in which the entity never was is absent. */
  features({ entity, id }: EntityId, asOfMs: number): Record<string, Value> {
    const groups = this.entities.get(`${entity}/${id}`)?.groups;
    const values: Record<string, Value> = {};
    for (const view of plan.views) {
      const group = plan.groups.find((each) => each.entity === view.entity && each.stream === view.stream)!;
      if (view.entity !== entity) continue;
      const events = groups?.get(group);
      for (const feature of view.features) {
        values[feature.name] = events === undefined ? null : naive(group, feature, events, asOfMs, hash32);
      }
    }
    return values;
  }
}

/** Features of batch views: they come from runs of a query, and have an oracle of their own. */
const materialized = (of: string): string[] =>
  plan.batchViews.filter(({ entity }) => entity === of).flatMap(({ features }) => features.map(({ name }) => name));

/**
 * Reads every entity of the truth through the plain server and holds each value against the oracle at the answer's own
 * instant.
 * @returns how many entities were read
 */
export async function expectFeatures(truth: GroundTruth, key: string): Promise<number> {
  const rest = [...truth.entities.values()];
  const count = rest.length;
  expect(count).toBeGreaterThan(0);
  const wrong: unknown[] = [];
  await Promise.all(
    Array.from({ length: READERS }, async () => {
      for (let next = rest.pop(); next !== undefined; next = rest.pop()) {
        const { entity, id } = next;
        const { status, body } = await wholeRead(`/v1/features/${entity}/${id}`, key);
        expect([status, body.degraded_reason]).toEqual([200, null]);
        const expected = truth.features(next, body.as_of_ms);
        for (const [name, { value }] of Object.entries<{ value: Value }>(body.features)) {
          if (name in expected && !Object.is(value, expected[name]))
            wrong.push({ id, name, value, expected: expected[name] });
        }
        expect(Object.keys(body.features).sort()).toEqual([...Object.keys(expected), ...materialized(entity)].sort());
      }
    }),
  );
  expect(wrong).toEqual([]);
  return count;
}

/** An answer of the store. On a busy machine a read may miss its budget of time: its caller is told, and asks again. */
async function wholeRead(path: string, key: string): ReturnType<typeof call> {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const answer = await call(deployed().serve.url, path, key);
    const isMissed = answer.status === 503 || (answer.status === 200 && answer.body.degraded_reason !== null);
    if (!isMissed || Date.now() > deadline) return answer;
    await sleep(100);
  }
}
