/** What goes on beside the events: rounds of snapshots, restores, pushes, erasures, and those who look after a store that is not whole. */

import { readValues, VALUES_PREFIX } from "../../adapters/pushed/values-format.ts";
import { readBulk } from "../../adapters/snapshot/bulk-format.ts";
import type { SnapshotManifest } from "../../adapters/snapshot/bulk-manifest.ts";
import { type KeyParts, parseEntityKey, parsePushedKey } from "../../adapters/valkey/layout.ts";
import { RecordError } from "../../core/errors.ts";
import type { SimulatedServer } from "./connection.ts";
import { tombstoneOf } from "./copies.ts";
import type { Dice } from "./dice.ts";
import type { SimulatedEvent } from "./events.ts";
import { invocation, type Operated, recover, restore } from "./operator.ts";
import { JOIN_KEYS } from "./plans.ts";
import { comparePushed, pushesOf, type SimulatedPush } from "./pushes.ts";
import type { SideStores } from "./side-stores.ts";

const MINUTE = 60_000;
/** Longest lives. */
const SNAPSHOT_MS = MINUTE;
const ERASE_MS = 3 * MINUTE;
const PUSH_MS = 10_000;
const PUSH_AGAIN_MS = 2 * MINUTE;
const MANIFESTS = "manifests/";
/** An object of a bucket in a round of bulk snapshots. */
const ROUND_OBJECT = /^rounds\/([^/]+)\/(\d{4})-/;

/** Entities of an object that are in it as of before their erasure. None of one that was damaged: nobody can read it. */
function namedIn(body: Buffer, erasedBefore: (tenant: string, entity: string, id: string) => number): KeyParts[] {
  const named: KeyParts[] = [];
  try {
    for (const { key, fields } of [...readBulk(body)].flat()) {
      const name = Buffer.from(key);
      const parts = parseEntityKey(name) ?? parsePushedKey(name)!;
      if (tombstoneOf(fields) < erasedBefore(parts.tenant, parts.entity, parts.id)) named.push(parts);
    }
    return named;
  } catch (error) {
    if (error instanceof RecordError) return [];
    throw error;
  }
}

export interface World extends Operated {
  readonly server: SimulatedServer;
  readonly side: SideStores;
  readonly traffic: {
    readonly events: number;
    readonly durationMs: number;
    readonly tenants: number;
    readonly cards: number;
  };
  readonly startMs: number;
  readonly isOver: () => boolean;
}

export class Operations {
  private readonly world: World;
  private readonly dice: Dice;
  private readonly pushes: readonly SimulatedPush[];
  /** By tenant, entity and id: time before which nothing may be known. */
  private readonly erasedMs = new Map<string, number>();
  private recovering = false;
  /** Restores of a live store, pushes and requests to erase that are not over. */
  private open = 0;
  private count = 0;

  constructor(world: World) {
    this.world = world;
    this.dice = world.scheduler.dice;
    const { events, durationMs, tenants } = world.traffic;
    const count = Math.min(400, Math.ceil(events / 60));
    this.pushes = pushesOf(this.dice, { count, startMs: world.startMs, durationMs, tenants });
  }

  begin(): void {
    const { scheduler, traffic, startMs } = this.world;
    const { dice } = this;
    const sometime = (what: string) => MINUTE + dice.unit(`when ${what}`) * traffic.durationMs;
    for (let i = 0; i < 2; i++) {
      if (dice.fault("live restore", `v${i}`, 0.3))
        scheduler.after(sometime(`live ${i}`), () => this.restoreLive(`live#${i}`));
      if (dice.fault("erasure", `x${i}`, 0.25))
        this.after(sometime(`erasure ${i}`), () => this.askErasure(`erasure#${i}`));
      if (dice.fault("snapshot to be damaged", `z${i}`, 0.2))
        scheduler.after(sometime(`damage ${i}`), () => this.damage(`damage ${i}`));
    }
    for (const push of this.pushes)
      if (dice.fault("push", push.name, 0.9)) this.after(push.atMs - startMs, () => this.push(push, 0));
  }

  /** Each minute. */
  tick(number: number): void {
    const { scheduler, keepers, controlled } = this.world;
    const { dice } = this;
    const snapshot = `snapshot#${number}`;
    if (!scheduler.calm && dice.fault("snapshot", snapshot, 0.5)) {
      const work = () =>
        this.call(snapshot, (actor) => keepers.snapshot(controlled(), actor, SNAPSHOT_MS / 2), SNAPSHOT_MS);
      scheduler.after(dice.between(snapshot, 0, MINUTE), () => {
        work().then(
          ({ outcome }) => dice.happened(`round of snapshots ${outcome}`),
          () => {},
        );
      });
    }
    if (number % 5 === 3) {
      this.call(
        `materialize#${number}`,
        (actor) => keepers.pushAgain(controlled(), actor, MINUTE),
        PUSH_AGAIN_MS,
      ).catch(() => {});
    }
    if (number % 5 === 4 || (scheduler.calm && number % 2 === 0)) this.erase(`erase#${number}`);
  }

  /** Somebody looks after a store that isn't ok, sooner or later, and again where it didn't help. */
  alarm(): void {
    if (this.recovering) return;
    this.recovering = true;
    const name = `recover#${++this.count}`;
    const { scheduler } = this.world;
    scheduler.after(this.dice.between(name, 1_000, 8 * MINUTE), () => this.recover(name));
  }

  get isBusy(): boolean {
    const asked = [...this.world.keepers.erasures.records.values()];
    return this.recovering || this.open > 0 || asked.some(({ confirmedMs }) => confirmedMs === null);
  }

  isErased({ tenant, timeMs, fields }: SimulatedEvent, entity: string): boolean {
    const id = fields[JOIN_KEYS[entity as keyof typeof JOIN_KEYS]];
    return timeMs < this.erasedBefore(tenant, entity, String(id));
  }

  /** Whether features that are computed from a card's id may count one fewer. */
  get hasErasedCards(): boolean {
    return [...this.erasedMs.keys()].some((name) => name.includes("/card/"));
  }

  /** What was pushed, of a store that is whole. */
  comparePushed(): Promise<{ compared: number; wrong: string[] }> {
    return comparePushed(this.world.server, this.pushes, (tenant, id) => this.erasedBefore(tenant, "card", id));
  }

  /** Of whom nothing may be known any more: where something is. */
  leftovers(): string[] {
    const { side } = this.world;
    const left: string[] = [];
    for (const rows of side.objects.values()) {
      for (const { tenant, eventTimeMs, fields, fates, identity, reason } of rows) {
        // A refused record asks the store for nothing: one that is delivered after the erasure is named by it (docs/erasure.md, where it ends).
        if (reason !== undefined) continue;
        for (const [entity, joinKey] of Object.entries(JOIN_KEYS)) {
          const ids = new Set([
            fields?.[joinKey],
            ...fates.filter((fate) => fate.entity === entity).map(({ id }) => id),
          ]);
          for (const id of ids)
            if (eventTimeMs !== null && eventTimeMs < this.erasedBefore(tenant, entity, String(id)))
              left.push(`the archive names ${tenant} ${entity} ${id} in event ${identity}`);
        }
      }
    }
    for (const [key, body] of side.values.objects) {
      if (!key.startsWith(VALUES_PREFIX)) continue;
      for (const { tenant, entity, id, eventTimeMs } of readValues(body))
        if (eventTimeMs < this.erasedBefore(tenant, entity, id)) left.push(`${key} names ${tenant} ${entity} ${id}`);
    }
    for (const [key, body] of side.snapshots.objects)
      if (ROUND_OBJECT.test(key))
        for (const { tenant, entity, id } of namedIn(Buffer.from(body), (...of) => this.erasedBefore(...of)))
          left.push(`${key} holds ${tenant} ${entity} ${id} as of before`);
    for (const { tenant, entity, id, baseIndex, identity } of side.late.values())
      if (baseIndex * MINUTE < this.erasedBefore(tenant, entity, id))
        left.push(`event ${identity} of ${tenant} ${entity} ${id} waits for repair`);
    return left;
  }

  private erasedBefore(tenant: string | null, entity: string, id: string): number {
    return this.erasedMs.get(`${tenant}/${entity}/${id}`) ?? 0;
  }

  private recover(name: string): void {
    const { scheduler, isOver } = this.world;
    // The command has failed: whoever gave it does again.
    const again = () => {
      if (!isOver()) scheduler.after(this.dice.between(`${name} again`, 1_000, MINUTE), () => this.recover(`${name}'`));
    };
    const choice = this.dice.unit(`${name} from`);
    const from = choice < 0.2 ? "none" : (rounds: readonly string[]) => this.chosen(name, rounds);
    recover(this.world, name, from).then(() => {
      this.recovering = false;
    }, again);
  }

  /** `freshet restore --replace-live`, of some buckets or all. */
  private restoreLive(name: string): void {
    const { scheduler, side } = this.world;
    const isThere = [...side.snapshots.objects.keys()].some((key) => key.startsWith(MANIFESTS));
    if (this.recovering || !isThere) {
      if (!scheduler.calm) scheduler.after(MINUTE, () => this.restoreLive(name));
      return;
    }
    this.recovering = true;
    const all = Array.from({ length: this.world.server.store.buckets }, (_, bucket) => bucket);
    const some = all.filter((bucket) => this.dice.unit(`${name} of ${bucket}`) < 0.3);
    const buckets = this.dice.unit(`${name} all`) < 0.4 || some.length === 0 ? undefined : some;
    const over = () => {
      this.recovering = false;
    };
    // Somebody finishes what was begun.
    restore(this.world, name, { buckets, replaceLive: true }, (rounds) => this.chosen(name, rounds)).then(over, () =>
      this.recover(`${name} recover`),
    );
  }

  /** The newest as a rule. */
  private chosen(name: string, rounds: readonly string[]): string {
    return this.dice.unit(`${name} newest`) < 0.6 ? rounds[0] : this.dice.pick(`${name} round`, rounds);
  }

  /** An object of the newest round is damaged, where an older round has another one for its bucket. */
  private damage(name: string): void {
    const { objects } = this.world.side.snapshots;
    const names = [...objects.keys()].filter((key) => key.startsWith(MANIFESTS)).sort();
    const [newest, ...older] = names.reverse().map((key) => JSON.parse(String(objects.get(key))) as SnapshotManifest);
    const ofBoth = (newest?.objects ?? []).flatMap(({ bucket, key }) => {
      const hasOther = key !== null && objects.has(key) && older.some((round) => round.objects[bucket].key !== key);
      return hasOther ? [key] : [];
    });
    if (ofBoth.length === 0) return;
    const key = this.dice.pick(name, ofBoth);
    const bytes = Buffer.from(objects.get(key)!);
    bytes[bytes.length >> 1] ^= 0xff;
    objects.set(key, this.dice.unit(`${name} cut`) < 0.5 ? bytes : bytes.subarray(0, bytes.length - 5));
    this.dice.happened("object of a snapshot damaged");
  }

  /** A client that asks again until it is told that it is done, or has had enough. */
  private async push(push: SimulatedPush, tries: number): Promise<void> {
    const { scheduler, keepers, controlled } = this.world;
    const name = `${push.name}#${tries}`;
    push.sent = true;
    const { id, eventTimeMs, values } = push;
    try {
      const outcome = await this.call(
        name,
        (actor) => keepers.push(controlled(), actor, push.tenant, [{ id, eventTimeMs, values }]),
        PUSH_MS,
      );
      push.acknowledged = outcome.accepted === 1;
    } catch {
      if (tries > 3 && this.dice.fault("client gives up", name, 0.1)) return;
      await scheduler.sleep(this.dice.between(`${name} again`, 200, 20_000));
      await this.push(push, tries + 1);
    }
  }

  private async askErasure(name: string): Promise<void> {
    const { keepers, controlled, traffic, scheduler } = this.world;
    const { dice } = this;
    const tenant = `t${dice.below(`${name} tenant`, traffic.tenants)}`;
    const isCard = dice.unit(`${name} entity`) < 0.7;
    const subject = isCard
      ? { entity: "card", id: `c${dice.below(`${name} card`, Math.min(6, traffic.cards))}` }
      : { entity: "merchant", id: `m${dice.below(`${name} merchant`, 2)}` };
    for (let tries = 0; ; tries++) {
      try {
        await this.call(
          `${name}.${tries}`,
          (actor) => keepers.askErasure(controlled(), actor, tenant, [subject]),
          PUSH_MS,
        );
        break;
      } catch {
        await scheduler.sleep(5_000);
      }
    }
    // The table's change wakes the function, which may be away.
    if (!dice.fault("erasure is late", name, 0.3)) this.erase(`${name} woken`);
  }

  private erase(name: string): void {
    const { keepers, controlled } = this.world;
    this.call(name, (actor) => keepers.erase(controlled(), actor, ERASE_MS / 2, false), ERASE_MS).catch(() => {});
  }

  /** What has been asked for, however it was answered. */
  learn(): void {
    for (const { tenant, subjects, beforeMs } of this.world.keepers.erasures.records.values())
      for (const { entity, id } of subjects ?? []) {
        const name = `${tenant}/${entity}/${id}`;
        this.erasedMs.set(name, Math.max(beforeMs, this.erasedMs.get(name) ?? 0));
      }
  }

  private after(delayMs: number, work: () => Promise<void>): void {
    this.open++;
    const over = () => {
      this.open--;
    };
    this.world.scheduler.after(delayMs, () => {
      work().then(over, over);
    });
  }

  private call<T>(name: string, work: Parameters<typeof invocation<T>>[2], livesMs: number): Promise<T> {
    return invocation(this.world.scheduler, name, work, livesMs);
  }
}
