/** Archive, late queue, quarantine and control table in memory. Each of their operations can fail, or be done in part. */
import type { ArchiveRow, ArchiveWriter } from "../../adapters/archive.ts";
import type { ControlTable } from "../../adapters/control-table.ts";
import { type LateItem, type LateQueue, lateKey } from "../../adapters/late-queue.ts";
import type { QuarantineWriter } from "../../adapters/quarantine.ts";
import { InfrastructureError } from "../../core/errors.ts";
import { MemoryControlTable } from "../support/memory-control-table.ts";
import { rawIdentity, type SimulatedEvent } from "./events.ts";
import type { Actor, Scheduler } from "./scheduler.ts";
import type { Spec } from "./spec.ts";

export class SideStores {
  /** Objects of the archive, in the order in which they were written. */
  readonly objects: (readonly ArchiveRow[])[] = [];
  readonly late = new Map<string, LateItem>();
  readonly table = new MemoryControlTable();
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
  }

  archiveOf(actor: Actor): Pick<ArchiveWriter, "write"> {
    return {
      write: (rows) =>
        this.scheduler.operation(actor, "archive", (share) => {
          // One object for each tenant, written one by one.
          const objects = [...Map.groupBy(rows, ({ tenant }) => tenant).values()];
          for (const object of objects.slice(0, Math.floor(share * objects.length))) this.keep(object);
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
            this.late.set(`${pk} ${sk}`, item);
            this.spec.events.get(rawIdentity(item.identity))!.queued |= 1 << this.groupOf(item.entity);
          }
        }),
    };
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

  private keep(rows: readonly ArchiveRow[]): void {
    this.objects.push(rows);
    for (const { identity, fates } of rows) {
      if (identity === null) continue;
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
