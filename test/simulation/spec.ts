/**
 * What the store must say and hold, in the fewest words: an event counts for an entity the first time that it comes while its
 * base tile is not sealed. Identities are never forgotten here, nothing is folded, and a failover is a copy that is put back.
 */
import type { Batch } from "../../adapters/valkey/calls.ts";
import type { Plan } from "../../core/plan.ts";
import type { Built } from "./builds.ts";
import type { SimulatedEvent } from "./events.ts";
import type { Scheduler } from "./scheduler.ts";
import type { BucketState, SimulatedStore } from "./store.ts";

export interface SpecFate {
  readonly fate: "applied" | "duplicate" | "sealed" | "erased";
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
  /** Base index up to which it came folded out of a snapshot: below it nothing is applied, wherever its bucket is sealed. */
  readonly folded: number;
  /** Nothing that happened before counts any more. */
  readonly erasedMs: number;
}
/** What names an entity's hash. */
export type SpecKey = Omit<SpecEntity, "visible" | "folded" | "erasedMs">;

const SEALED: SpecFate = { fate: "sealed", visibleMs: null };
const ERASED: SpecFate = { fate: "erased", visibleMs: null };
/** States in which a bucket is being filled from a snapshot, whose seal may lie further back. */
const FILLING: ReadonlySet<string | undefined> = new Set(["loading", "restoring"]);

export class Spec {
  entities = new Map<string, SpecEntity>();
  readonly events: ReadonlyMap<string, SimulatedEvent>;
  /** Events that the store holds for an entity for which no row says so yet. */
  readonly unarchived = new Set<SimulatedEvent>();
  updates = 0;
  /** What a put of an entity holds, by its bytes: see builds.ts. */
  readonly built: Built = new Map();
  onSeal: ((bucket: number, group: string, fromIndex: number | null, toIndex: number) => void) | null = null;
  /** What entities held when they were read whole, by key and rev. */
  private readonly copies = new Map<string, ReadonlyMap<SimulatedEvent, number>>();
  private replica: Map<string, SpecEntity> | null = null;
  private seals: readonly (ReadonlyMap<string, number> | null)[] = [];
  private heads: readonly (BucketState | null)[] = [];
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
      const head = this.heads[bucket];
      const isRefilled = state?.restore !== head?.restore || FILLING.has(head?.state);
      for (const [group, index] of state?.seals ?? []) {
        const from = isRefilled ? null : (before?.get(group) ?? null);
        if (from !== index) this.onSeal?.(bucket, group, from, index);
      }
    });
    this.seals = states.map((state) => state?.seals ?? null);
    this.heads = states;
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
        if (update.baseIndex * this.baseMs < (entity?.erasedMs ?? 0)) fate = ERASED;
        else if (update.baseIndex >= Math.max(seal, entity?.folded ?? 0)) {
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
  count(of: SpecKey, event: SimulatedEvent, visibleMs: number): void {
    const entity = this.entityOf(of);
    if (!entity.visible.has(event)) this.add(entity, event, visibleMs);
  }

  /** Below the seal an entity is what was built for it. @param violated told of what counted and counts no more */
  put(of: SpecKey, seal: number, events: readonly SimulatedEvent[], violated: (what: string) => void): void {
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
    for (const event of built) {
      if (event.timeMs < entity.erasedMs)
        violated(`a put brings event ${event.index} back, which was erased, for ${of.key}`);
      if (!entity.visible.has(event)) this.add(entity, event, event.visibleMs);
    }
  }

  /** An entity was read whole. */
  copied(key: string, rev: number): void {
    this.copies.set(`${key} ${rev}`, new Map(this.entities.get(key)?.visible));
  }

  /** An entity's hash is gone. */
  forget(key: string): void {
    const entity = this.entities.get(key);
    if (entity === undefined) return;
    for (const event of entity.visible.keys()) event.counted &= ~(1 << entity.groupId);
    this.entities.delete(key);
  }

  /** An entity is what it was when it was read at this rev. @returns false when nobody has read it */
  load(of: SpecKey, rev: number, folded: number, erasedMs: number): boolean {
    this.forget(of.key);
    const visible = this.copies.get(`${of.key} ${rev}`);
    if (visible === undefined) return false;
    const entity: SpecEntity = { ...of, folded, erasedMs, visible: new Map() };
    this.entities.set(of.key, entity);
    for (const [event, visibleMs] of visible) this.add(entity, event, visibleMs);
    return true;
  }

  /** An entity is erased: what it held is gone, unless it has been erased up to then before. */
  erase(of: SpecKey, beforeMs: number): void {
    if (this.entityOf(of).erasedMs >= beforeMs) return;
    this.forget(of.key);
    this.entities.set(of.key, { ...of, visible: new Map(), folded: 0, erasedMs: beforeMs });
  }

  private entityOf(of: SpecKey): SpecEntity {
    let entity = this.entities.get(of.key);
    if (entity === undefined)
      this.entities.set(of.key, (entity = { ...of, visible: new Map(), folded: 0, erasedMs: 0 }));
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
      for (let u = first; u >= 0; u = batch.next[u])
        if (this.eventOf(batch, u).throws.includes(batch.updates[u].entity)) return true;
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
    this.heads = [];
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
