/** Archive, late queue, quarantine and control table in memory. Each of their operations can fail, or be done in part. */
import type { ArchiveRow, ArchiveWriter } from "../../adapters/archive/archive.ts";
import type { ControlTable } from "../../adapters/control-table/control-table.ts";
import type { ItemsPort } from "../../adapters/erasure/items.ts";
import { type LateItem, type LateQueue, lateKey } from "../../adapters/late-queue/late-queue.ts";
import type { LateWork, PendingItem } from "../../adapters/late-queue/late-work.ts";
import { type FoundEvents, type SoughtEvent, visibleKey } from "../../adapters/offline/late-rows.ts";
import type { QuarantineWriter } from "../../adapters/quarantine/quarantine.ts";
import { tenantPartition } from "../../adapters/s3/object-path.ts";
import { InfrastructureError } from "../../core/errors.ts";
import { MemoryControlTable } from "../support/memory-control-table.ts";
import type { RewritableArchive } from "./archive-model.ts";
import { SimulatedBucket } from "./bucket.ts";
import { rawIdentity, type SimulatedEvent, visibleIds } from "./events.ts";
import type { Actor, Scheduler } from "./scheduler.ts";
import type { Spec } from "./spec.ts";

type Named = Readonly<Record<string, { readonly S: string }>>;

export class SideStores {
  /** Objects of the archive by their keys, in the order in which they were written. */
  readonly objects = new Map<string, readonly ArchiveRow[]>();
  /** Its rows, by identity. */
  readonly rows = new Map<string, ArchiveRow[]>();
  readonly late = new Map<string, PendingItem>();
  readonly table = new MemoryControlTable();
  /** Of bulk snapshots. */
  readonly snapshots: SimulatedBucket;
  /** What was pushed. */
  readonly values: SimulatedBucket;
  private written = 0;
  private readonly scheduler: Scheduler;
  private readonly spec: Spec;
  private readonly groupOf: (entity: string) => number;
  /** Events of a delivered record, by its sequence. */
  private readonly delivered: (sequence: string) => readonly SimulatedEvent[];

  constructor(
    scheduler: Scheduler,
    spec: Spec,
    groupOf: (entity: string) => number,
    delivered: (sequence: string) => readonly SimulatedEvent[],
  ) {
    this.scheduler = scheduler;
    this.spec = spec;
    this.groupOf = groupOf;
    this.delivered = delivered;
    this.snapshots = new SimulatedBucket(scheduler, "snapshots");
    this.values = new SimulatedBucket(scheduler, "values");
  }

  archiveOf(actor: Actor): Pick<ArchiveWriter, "write"> {
    return {
      write: (rows, { shard }) =>
        this.scheduler.operation(actor, "archive", (share) => {
          // One object for each tenant, written one by one.
          const objects = [...Map.groupBy(rows, ({ tenant }) => tenant).values()];
          for (const object of objects.slice(0, Math.floor(share * objects.length))) this.keep(object, shard);
          return [];
        }),
    };
  }

  lateOf(actor: Actor): Pick<LateQueue, "put"> {
    return {
      put: (items) =>
        this.scheduler.operation(actor, "late queue", (share) => {
          for (const item of items.slice(0, Math.floor(share * items.length))) {
            const { pk, sk } = lateKey(item);
            this.late.set(`${pk} ${sk}`, { ...item, attempts: 0, notBeforeMs: 0 });
            const event = this.eventOf(item.identity);
            event.queued |= 1 << this.groupOf(item.entity);
            event.wasQueued |= event.queued;
          }
        }),
    };
  }

  workOf(actor: Actor) {
    const nameOf = (item: LateItem): string => Object.values(lateKey(item)).join(" ");
    const { scheduler, late } = this;
    return {
      async *pages() {
        yield await scheduler.operation(actor, "scan late", () => [...late.values()]);
      },
      remove: (items: readonly LateItem[]) =>
        scheduler.operation(actor, "late queue", (share) => {
          for (const item of items.slice(0, Math.floor(share * items.length))) this.takeOut(nameOf(item));
        }),
      putOff: (item: PendingItem, _code: string, nowMs: number) =>
        scheduler.operation(actor, "late queue", () => {
          late.set(nameOf(item), { ...item, attempts: item.attempts + 1, notBeforeMs: nowMs + 60_000 });
        }),
    } as unknown as Pick<LateWork, "pages" | "remove" | "putOff">;
  }

  /** What a query over the archive tells of single events (adapters/offline/late-rows.ts), by its words. */
  findOf(actor: Actor) {
    return ({ events }: { readonly events: readonly SoughtEvent[] }): Promise<FoundEvents> =>
      this.scheduler.operation(actor, "query", () => {
        const rows = new Map<string, ArchiveRow[]>();
        const visible = new Set<string>();
        for (const { entity, identity } of events) {
          const own = (this.rows.get(identity) ?? []).toSorted(
            (a, b) =>
              a.arrivalMs - b.arrivalMs ||
              (a.shard < b.shard ? -1 : a.shard > b.shard ? 1 : 0) ||
              Number(a.sequence) - Number(b.sequence) ||
              a.subSequence - b.subSequence,
          );
          rows.set(identity, own);
          for (const row of own)
            for (const id of visibleIds(row, entity)) visible.add(visibleKey(entity, id, identity));
        }
        return { rows, visible };
      });
  }

  /** Of the late queue, for whoever takes all of an entity out. */
  lateItemsOf(actor: Actor): ItemsPort {
    const send = ({ input }: { readonly input: { ExpressionAttributeValues?: Named; Key?: Named } }) =>
      this.scheduler.operation(actor, "late queue", () => {
        const named = ({ pk, sk }: Named): string => `${pk.S} ${sk.S}`;
        if (input.Key !== undefined) {
          this.takeOut(named(input.Key));
          return {};
        }
        const values = input.ExpressionAttributeValues!;
        const [pk, before] = [values[":pk"].S, values[":sk"].S];
        const keys = [...this.late.values()].map(lateKey).filter((key) => key.pk === pk && key.sk < before);
        return { Items: keys.map((key) => ({ pk: { S: key.pk }, sk: { S: key.sk } })) };
      });
    return { table: "late", dynamodb: { send } as unknown as ItemsPort["dynamodb"] };
  }

  /** The archive's objects, for an erasure. */
  rewriterOf(actor: Actor): RewritableArchive {
    const ask = <T>(kind: string, work: () => T): Promise<T> => this.scheduler.operation(actor, kind, work);
    return {
      list: (tenant) => {
        const prefix = `raw/tenant=${tenantPartition(tenant)}/`;
        return ask("list archive", () => [...this.objects.keys()].filter((key) => key.startsWith(prefix)).sort());
      },
      get: (keys) => ask("get object", () => keys.map((key) => this.objects.get(key) ?? [])),
      put: (key, rows) => ask("archive rewritten", () => this.putObject(key, rows)),
      remove: (key) => ask("archive rewritten", () => this.removeObject(key)),
    };
  }

  private takeOut(name: string): void {
    const item = this.late.get(name);
    if (item === undefined) return;
    this.late.delete(name);
    this.eventOf(item.identity).queued &= ~(1 << this.groupOf(item.entity));
  }

  quarantineOf(actor: Actor): Pick<QuarantineWriter, "write"> {
    return {
      write: (records) =>
        this.scheduler.operation(actor, "quarantine", (share) => {
          for (const { sequence, subSequence } of records.slice(0, Math.floor(share * records.length))) {
            this.delivered(sequence)[subSequence].quarantined = true;
          }
        }) as ReturnType<QuarantineWriter["write"]>,
    };
  }

  tableOf(actor: Actor): ControlTable {
    return new Proxy(this.table, {
      get: (table, name) => {
        const method = table[name as "getStore"];
        if (typeof method !== "function") return method;
        return (...args: []) =>
          this.scheduler.operation(actor, `table ${String(name)}`, () => method.apply(table, args));
      },
    }).port;
  }

  eventOf(identity: string): SimulatedEvent {
    return this.spec.events.get(rawIdentity(identity))!;
  }

  isVisible(identity: string, entity: string): boolean {
    return (this.rows.get(identity) ?? []).some((row) => visibleIds(row, entity).length > 0);
  }

  private keep(rows: readonly ArchiveRow[], shard: string): void {
    const [{ tenant, stream }] = rows;
    const number = String(++this.written).padStart(8, "0");
    this.putObject(`raw/tenant=${tenantPartition(tenant)}/stream=${stream}/${number}-${shard}-0.ndjson.zst`, rows);
  }

  removeObject(key: string): void {
    for (const row of this.objects.get(key) ?? []) {
      const known = this.rows.get(row.identity ?? "") ?? [];
      const at = known.indexOf(row);
      if (at >= 0) known.splice(at, 1);
    }
    this.objects.delete(key);
  }

  putObject(key: string, rows: readonly ArchiveRow[]): void {
    this.objects.set(key, rows);
    for (const row of rows) {
      const { identity, fates } = row;
      if (identity === null || row.reason !== undefined) continue;
      const known = this.rows.get(identity);
      if (known) known.push(row);
      else this.rows.set(identity, [row]);
      const event = this.spec.events.get(rawIdentity(identity));
      if (event === undefined)
        throw new InfrastructureError("simulation", `a row of an event that nobody sent: ${identity}`);
      for (const { entity, visibleMs } of fates) {
        const bit = 1 << this.groupOf(entity);
        if (visibleMs === null) event.late |= bit;
        else {
          event.archived |= bit;
          event.visibleMs = Math.min(event.visibleMs, visibleMs);
        }
      }
      // A row names every entity of its plan.
      this.spec.unarchived.delete(event);
    }
  }
}
