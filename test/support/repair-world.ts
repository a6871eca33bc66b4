/** Repair over a world of build-world.ts: its late queue, and ports that may die. */
import { ArchiveWriter } from "../../adapters/archive/archive.ts";
import { LateQueue } from "../../adapters/late-queue/late-queue.ts";
import { LateWork, type PendingItem } from "../../adapters/late-queue/late-work.ts";
import { findEvents } from "../../adapters/offline/late-rows.ts";
import { StoreApplier } from "../../adapters/valkey/applier.ts";
import { bucketOf, entityKey } from "../../adapters/valkey/layout.ts";
import { readMendTokens } from "../../adapters/valkey/mend.ts";
import type { compile } from "../../core/compile/compile.ts";
import type { BuildPorts } from "../../functions/shared/build/bulk-build.ts";
import { type RepairPorts, repairPass } from "../../functions/shared/repair/repair.ts";
import { type RoundReport, repairRound } from "../../functions/shared/repair/repair-round.ts";
import { createTable } from "../harness/emulator.ts";
import { NOW, type Payment, type WorldStream } from "./build-world.ts";

export class Repairs {
  readonly late: LateQueue;
  readonly work: LateWork;
  private readonly stream: WorldStream;
  private readonly build: BuildPorts;
  readonly failures: unknown[] = [];

  private constructor(stream: WorldStream, build: BuildPorts, table: string) {
    this.stream = stream;
    this.build = build;
    this.late = new LateQueue({ table, dynamodb: stream.dynamodb });
    this.work = new LateWork({ table, dynamodb: stream.dynamodb });
  }

  static async open(
    world: { readonly emulatorUrl: string },
    stream: WorldStream,
    of: ReturnType<typeof compile>,
  ): Promise<Repairs> {
    const table = `late-${stream.tableName}`;
    await createTable(world.emulatorUrl, table);
    return new Repairs(stream, stream.ports(of), table);
  }

  ports(more: Partial<RepairPorts> = {}): RepairPorts {
    const { plan, connection, mirror, duck, table } = this.build;
    return {
      ...{ plan, late: this.late, work: this.work, clock: Date.now },
      tokens: (keys) => readMendTokens(connection, keys),
      applier: new StoreApplier(connection, plan, 1),
      holder: async (stream) => {
        const lease = await table.getLease(stream);
        return lease !== null && lease.expiresMs > Date.now() ? lease.holder : null;
      },
      find: (of) => findEvents({ plan, mirror, duck }, of),
      archiveFromMs: async () => 0,
      archive: new ArchiveWriter({ bucket: "archive", s3: this.stream.s3 }),
      onFailure: (_, error) => this.failures.push(error),
      ...more,
    };
  }

  /** Queues an event for each of its entities, as the aggregate function does for those that were sealed. */
  async queue(tenant: string, payments: readonly Payment[]): Promise<void> {
    await this.late.put(payments.flatMap((payment) => this.items(tenant, payment)));
  }

  items(tenant: string, payment: Payment): PendingItem[] {
    const { id: eventId, timeMs: eventTimeMs } = payment;
    const identity = this.stream.identityOf(tenant, payment);
    const groups = this.build.plan.groups.map(({ entity }) => entity as "card" | "shop");
    return groups.flatMap((entity) => {
      const id = payment[entity];
      if (id === null) return [];
      const baseIndex = Math.floor(eventTimeMs / 60_000);
      const of = { tenant, entity, id, stream: "payments", baseIndex, identity, eventId, eventTimeMs };
      return [{ ...of, arrivalMs: eventTimeMs + 5, attempts: 0, notBeforeMs: 0 }];
    });
  }

  async pending(): Promise<number> {
    return (await this.late.count("payments")).pending;
  }

  async round(ports: RepairPorts = this.ports()): Promise<RoundReport> {
    const pass = (...[stream, items]: Parameters<typeof repairPass> extends [unknown, ...infer R] ? R : never) =>
      repairPass(ports, stream, items);
    const onBlocked = (_: string, error: unknown) => {
      throw error;
    };
    const { streams } = await repairRound(
      { plan: ports.plan, pass, onBlocked, clock: () => NOW },
      this.work.pages(),
      Number.POSITIVE_INFINITY,
    );
    return streams["payments"]!;
  }

  /** What an entity's hash says of repairs that are not settled. */
  async unsettled(tenant: string, entity: string, id: string) {
    const key = entityKey(bucketOf(tenant, entity, id), tenant, entity, "payments", id);
    const [token] = await readMendTokens(this.stream.connection, [key]);
    return token!.unsettled;
  }

  /** Ports that are killed at the `nth` step: before a call is made, or after it was. */
  dying(nth: number): { ports: RepairPorts; died: () => boolean } {
    let steps = 0;
    const step = () => {
      if (++steps === nth) throw new Error("killed");
      if (steps > nth) throw new Error("dead");
    };
    const mortal =
      <A extends unknown[], R>(call: (...args: A) => Promise<R>) =>
      async (...args: A): Promise<R> => {
        step();
        const answer = await call(...args);
        step();
        return answer;
      };
    const alive = this.ports();
    const ports: RepairPorts = {
      ...alive,
      tokens: mortal(alive.tokens),
      applier: { mend: mortal((calls) => alive.applier.mend(calls)) },
      holder: mortal(alive.holder),
      find: mortal(alive.find),
      archive: { write: mortal((rows, context) => alive.archive.write(rows, context)) },
      late: { put: mortal((items) => alive.late.put(items)) },
      work: { ...alive.work, remove: mortal((items) => alive.work.remove(items)), putOff: alive.work.putOff },
    };
    return { ports, died: () => steps >= nth };
  }
}
