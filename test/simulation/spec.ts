/**
 * What the store must say and hold, in the fewest words: an event counts for an entity the first time that it comes while its
 * base tile is not sealed. Identities are never forgotten here, nothing is folded, and a failover is a copy that is put back.
 */
import type { Batch } from "../../adapters/valkey/calls.ts";
import type { Plan } from "../../core/plan.ts";
import type { Built } from "./builds.ts";
import type { SimulatedEvent } from "./events.ts";
import type { Scheduler } from "./scheduler.ts";
import type { SimulatedStore } from "./store.ts";

export interface SpecFate {
  readonly fate: "applied" | "duplicate" | "sealed";
  readonly visibleMs: number | null;
}
/** For each event of an apply, for each of its updates; null where nothing took effect. */
export type Expected = (SpecFate | null)[][];

export interface SpecEntity {
  readonly tenant: string;
  readonly entity: string;
  readonly id: string;
  readonly groupId: number;
  readonly key: string;
  /** Events that count, and since when. */
  readonly visible: Map<SimulatedEvent, number>;
}

const SEALED: SpecFate = { fate: "sealed", visibleMs: null };

export class Spec {
  entities = new Map<string, SpecEntity>();
  readonly events: ReadonlyMap<string, SimulatedEvent>;
  /** Events that the store holds for an entity for which no row says so yet. */
  readonly unarchived = new Set<SimulatedEvent>();
  updates = 0;
  /** What a put of an entity holds, by its bytes: see builds.ts. */
  readonly built: Built = new Map();
  onSeal: ((bucket: number, group: string, fromIndex: number | null, toIndex: number) => void) | null = null;
  private replica: Map<string, SpecEntity> | null = null;
  private seals: readonly (ReadonlyMap<string, number> | null)[] = [];
  private readonly store: SimulatedStore;
  private readonly scheduler: Scheduler;
  private readonly groups = new Map<number, string>();
  private baseMs = 0;

  constructor(store: SimulatedStore, scheduler: Scheduler, events: ReadonlyMap<string, SimulatedEvent>) {
    this.store = store;
    this.scheduler = scheduler;
    this.events = events;
  }

  knows(plan: Plan): void {
    this.baseMs = plan.groups[0].baseMs;
    for (const { id, name } of plan.groups) this.groups.set(id, name);
  }

  /** Reads the seals as they stand in the store, in the step in which something is applied. */
  async refresh(): Promise<void> {
    const states = await this.store.controlStates();
    states.forEach((state, bucket) => {
      const before = this.seals[bucket] ?? null;
      if (state?.seals === before) return;
      for (const [group, index] of state?.seals ?? []) {
        const from = before?.get(group) ?? null;
        if (from !== index) this.onSeal?.(bucket, group, from, index);
      }
    });
    this.seals = states.map((state) => state?.seals ?? null);
  }

  /** One call of the store's function, which has taken effect as a whole. */
  apply(batch: Batch, call: number, expected: Expected): void {
    const nowMs = Math.floor(Math.floor(this.scheduler.nowMs * 1_000) / 1_000);
    const { bucket, keys } = batch.calls[call];
    for (const { key, groupId, first } of keys) {
      const seal = this.sealOf(bucket, groupId);
      let entity = this.entities.get(key);
      for (let u = first; u >= 0; u = batch.next[u]) {
        this.updates++;
        const update = batch.updates[u];
        const event = this.eventOf(batch, u);
        let fate: SpecFate = SEALED;
        if (update.baseIndex >= seal) {
          const since = entity?.visible.get(event);
          fate = { fate: since === undefined ? "applied" : "duplicate", visibleMs: since ?? nowMs };
          const { entity: name, id } = update;
          entity ??= this.entityOf({ tenant: event.tenant, entity: name, id, groupId, key });
          if (since === undefined) this.add(entity, event, nowMs);
        }
        expected[batch.event[u]][batch.place[u]] = fate;
      }
    }
  }

  sealOf(bucket: number, groupId: number): number {
    return this.seals[bucket]?.get(this.groups.get(groupId)!) ?? 0;
  }

  /** An event counts for an entity, from whatever it came. */
  count(of: Omit<SpecEntity, "visible">, event: SimulatedEvent, visibleMs: number): void {
    const entity = this.entityOf(of);
    if (!entity.visible.has(event)) this.add(entity, event, visibleMs);
  }

  /** Below the seal an entity is what was built for it. @param violated told of what counted and counts no more */
  put(
    of: Omit<SpecEntity, "visible">,
    seal: number,
    events: readonly SimulatedEvent[],
    violated: (what: string) => void,
  ): void {
    const entity = this.entityOf(of);
    const built = new Set(events);
    const bit = 1 << of.groupId;
    for (const event of entity.visible.keys()) {
      if (Math.floor(event.timeMs / this.baseMs) >= seal || built.has(event)) continue;
      // A repair that died before its row was durable is done anew; after an hour nothing waits for it any more.
      if ((event.queued & ~event.archived & bit) !== 0) {
        entity.visible.delete(event);
        event.counted &= ~bit;
      } else violated(`a put takes event ${event.index} (${event.identity}) out of ${of.key}`);
    }
    for (const event of built) if (!entity.visible.has(event)) this.add(entity, event, event.visibleMs);
  }

  private entityOf(of: Omit<SpecEntity, "visible">): SpecEntity {
    let entity = this.entities.get(of.key);
    if (entity === undefined) this.entities.set(of.key, (entity = { ...of, visible: new Map() }));
    return entity;
  }

  private add({ visible, groupId }: SpecEntity, event: SimulatedEvent, visibleMs: number): void {
    visible.set(event, visibleMs);
    event.counted |= 1 << groupId;
    if ((event.archived | event.late) === 0) this.unarchived.add(event);
  }

  /** Whether the store's function is made to throw over a call. */
  throwsOver(batch: Batch, call: number): boolean {
    return batch.calls[call].keys.some(({ first }) => {
      for (let u = first; u >= 0; u = batch.next[u]) if (this.eventOf(batch, u).throws) return true;
      return false;
    });
  }

  get hasReplica(): boolean {
    return this.replica !== null;
  }

  checkpoint(): void {
    this.replica = new Map([...this.entities].map(([key, e]) => [key, { ...e, visible: new Map(e.visible) }]));
  }

  failover(): void {
    this.replace(this.replica!);
    this.replica = null;
  }

  lose(): void {
    this.replica = null;
    this.replace(new Map());
  }

  private replace(entities: Map<string, SpecEntity>): void {
    this.entities = entities;
    this.seals = [];
    this.unarchived.clear();
    for (const event of this.events.values()) event.counted = 0;
    for (const { groupId, visible } of entities.values()) {
      for (const event of visible.keys()) {
        event.counted |= 1 << groupId;
        if ((event.archived | event.late) === 0) this.unarchived.add(event);
      }
    }
  }

  private eventOf(batch: Batch, update: number): SimulatedEvent {
    return this.events.get(identityAt(batch, update))!;
  }
}

/** A record begins with its event's identity. */
const identityAt = ({ updates }: Batch, update: number): string => {
  const { bytes, start } = updates[update];
  return bytes.toString("latin1", start, start + 8);
};
