/** Online values against the naive oracle, and what was acknowledged against what was archived and what is counted. */
import { hash64 } from "../../adapters/hash.ts";
import type { Answer } from "../../adapters/valkey/connection.ts";
import { bucketOf, controlKey, decodeGroupControl, groupField } from "../../adapters/valkey/layout.ts";
import { createReader } from "../../adapters/valkey/reader.ts";
import { isObject } from "../../core/operators/accumulators.ts";
import type { FeatureValue, Group, Plan, View } from "../../core/plan.ts";
import { type NaiveEvent, naive } from "../core/naive.ts";
import { SimulatedConnection, type SimulatedServer } from "./connection.ts";
import type { SimulatedEvent } from "./events.ts";
import { JOIN_KEYS } from "./plans.ts";

const hashes = new Map<string, number>();
function hash32(value: string): number {
  let hash = hashes.get(value);
  if (hash === undefined) hashes.set(value, (hash = Number.parseInt(hash64(value).slice(0, 8), 16)));
  return hash;
}

export interface Subject {
  readonly tenant: string;
  readonly entity: string;
  readonly id: string;
  /** Events that must count. */
  readonly events: Iterable<SimulatedEvent>;
}

/** Reads and compares every feature of some entities at some instants. @returns how many values, and what is wrong */
export async function compareValues(
  server: SimulatedServer,
  plan: Plan,
  subjects: readonly Subject[],
  instants: readonly number[],
  isTold: (feature: string) => boolean = () => true,
): Promise<{ compared: number; wrong: string[] }> {
  const reader = createReader(plan, new SimulatedConnection(server, null));
  const wrong: string[] = [];
  let compared = 0;
  for (const view of plan.views) {
    const own = subjects.filter(({ entity }) => entity === view.entity);
    if (own.length === 0) continue;
    const group = plan.groups[view.group];
    const features = view.features.map(({ name }) => name);
    const requests = own.map(({ tenant, entity, id }) => ({ tenant, entity, id, features }));
    const bornMs = await births(server, group, own);
    const lists = own.map(({ events }) => [...events].map(naiveEvent));
    for (const t of instants) {
      const answers = await reader.read(requests, t);
      for (const [s, { values }] of answers.entries()) {
        for (const [f, feature] of view.features.entries()) {
          if (!isTold(feature.name)) continue;
          compared++;
          const expected = expectedValue(group, view, f, lists[s], t, bornMs[s](f, view));
          const given = values[f];
          if (
            expected.status === given.status &&
            Object.is(expected.value, given.value) &&
            expected.eventTimeMs === given.eventTimeMs
          )
            continue;
          const { tenant, entity, id } = own[s];
          wrong.push(`${tenant} ${entity} ${id} ${feature.name} at ${t}: ${told(given)} instead of ${told(expected)}`);
        }
      }
    }
  }
  return { compared, wrong };
}

const told = ({ value, status, eventTimeMs }: FeatureValue): string => `${value} (${status}, ${eventTimeMs})`;
const naiveEvents = new WeakMap<SimulatedEvent, NaiveEvent>();
function naiveEvent(event: SimulatedEvent): NaiveEvent {
  let made = naiveEvents.get(event);
  if (made === undefined) {
    made = { identity: event.identity, timeMs: event.timeMs, fields: event.fields };
    naiveEvents.set(event, made);
  }
  return made;
}

/** By the store's own word a feature may not be ready; whatever it serves must be right. */
function expectedValue(
  group: Group,
  view: View,
  f: number,
  events: readonly NaiveEvent[],
  t: number,
  bornMs: number,
): FeatureValue {
  const feature = view.features[f];
  const { window } = feature;
  const startMs =
    window.kind === "lifetime" ? 0 : Math.floor((t - window.delayMs - window.sizeMs) / window.hopMs) * window.hopMs;
  if (startMs < bornMs) return { value: null, status: "NOT_READY", eventTimeMs: null };
  const end = (Math.floor(t / group.baseMs) + 1) * group.baseMs;
  let newest = Number.NEGATIVE_INFINITY;
  for (const { timeMs } of events) if (timeMs < end && timeMs > newest) newest = timeMs;
  if (newest === Number.NEGATIVE_INFINITY || (view.reachMs !== null && newest <= t - view.reachMs)) {
    return { value: null, status: "NOT_FOUND", eventTimeMs: null };
  }
  // What lies before every window of the feature cannot count, and looking at it is most of the oracle's time.
  const reached = startMs === 0 ? events : events.filter(({ timeMs }) => timeMs >= startMs);
  const value = naive(group, feature, reached, t, hash32);
  return { value, status: value === null ? "NULL_VALUE" : "PRESENT", eventTimeMs: newest };
}

type BornMs = (feature: number, view: View) => number;

/** For each entity, by its bucket's control hash, from when on a feature's slots are filled. */
async function births(server: SimulatedServer, group: Group, subjects: readonly Subject[]): Promise<BornMs[]> {
  const keys = subjects.map(({ tenant, entity, id }) => controlKey(bucketOf(tenant, entity, id)));
  const answers: Answer[] = await server.store.raw.demand(
    keys.map((key) => ({ key, name: "HGET", args: [key, groupField(group.name)] })),
  );
  const byBytes = new Map<string, BornMs>();
  return answers.map((raw) => {
    const bytes = raw === null ? "" : (raw as Buffer).toString("hex");
    let born = byBytes.get(bytes);
    if (born === undefined) {
      const list = raw === null ? [] : decodeGroupControl(raw as Buffer).births;
      born = (feature, view) =>
        Math.max(
          ...view.features[feature].slots.map((index) => {
            const { id, kind } = group.slots[index];
            const birth = list.find((each) => each.slot === id && each.object === isObject(kind));
            return birth === undefined ? Number.POSITIVE_INFINITY : birth.baseIndex * group.baseMs;
          }),
        );
      byBytes.set(bytes, born);
    }
    return born;
  });
}

/** Who must count what, from what was acknowledged alone: an event that is only late waits for repair. */
export function acknowledgedSubjects(plan: Plan, events: Iterable<SimulatedEvent>): Subject[] {
  const subjects = new Map<string, Subject & { events: SimulatedEvent[] }>();
  for (const event of events) {
    if (!event.acknowledged || event.refused) continue;
    for (const { id: groupId, entity } of plan.groups) {
      const id = event.fields[JOIN_KEYS[entity as keyof typeof JOIN_KEYS]];
      if (id === null || event.throws.includes(entity) || (event.late & ~event.archived & (1 << groupId)) !== 0)
        continue;
      const key = `${event.tenant}/${entity}/${id}`;
      const subject = subjects.get(key) ?? { tenant: event.tenant, entity, id: String(id), events: [] };
      subject.events.push(event);
      subjects.set(key, subject);
    }
  }
  return [...subjects.values()];
}

/** Of every entity, the identities of each open tile are the events that count in it. @returns what differs */
export async function compareIdentities(server: SimulatedServer, plan: Plan): Promise<string[]> {
  const { store, spec } = server;
  const states = await store.controlStates();
  const entities = [...spec.entities.values()].filter(({ groupId }) => plan.groups.some(({ id }) => id === groupId));
  const answers = await store.raw.demand(entities.map(({ key }) => ({ key, name: "HGETALL", args: [key] })));
  const wrong: string[] = [];
  for (const [e, { tenant, entity, id, groupId, visible, folded }] of entities.entries()) {
    const group = plan.groups.find((each) => each.id === groupId)!;
    const seal = Math.max(folded, states[bucketOf(tenant, entity, id)]?.seals.get(group.name) ?? 0);
    const stored = identitiesOf(answers[e] as Buffer[], seal);
    const expected = new Map<number, string[]>();
    for (const { identity, timeMs } of visible.keys()) {
      const index = Math.floor(timeMs / group.baseMs);
      if (index < seal) continue;
      const list = expected.get(index);
      if (list) list.push(identity);
      else expected.set(index, [identity]);
    }
    for (const index of new Set([...stored.keys(), ...expected.keys()])) {
      const [given, wanted] = [stored, expected].map((map) => (map.get(index) ?? []).sort().join());
      if (given !== wanted)
        wrong.push(`${tenant} ${entity} ${id} tile ${index}: ${given || "none"} instead of ${wanted || "none"}`);
    }
  }
  return wrong;
}

function identitiesOf(flat: readonly Buffer[], seal: number): Map<number, string[]> {
  const found = new Map<number, string[]>();
  for (let i = 0; i < flat.length; i += 2) {
    const [name, value] = [flat[i], flat[i + 1]];
    if (name[0] !== 0x69 || (name.length !== 5 && name.length !== 6) || value.length === 1) continue;
    const index = name.readUInt32BE(1);
    if (index < seal) continue;
    const list = found.get(index) ?? [];
    for (let at = 0; at < value.length; at += 12) list.push(value.toString("hex", at, at + 8));
    found.set(index, list);
  }
  return found;
}
