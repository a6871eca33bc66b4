/**
 * One card of one tenant on a real Valkey, under any plan of the fixture's stream, with control of its own bucket alone:
 * births and seals are set in microseconds, so that properties can have many of them.
 */

import { StoreApplier } from "../../adapters/valkey/applier.ts";
import type { ValkeyConnection } from "../../adapters/valkey/connection.ts";
import {
  type Birth,
  bucketOf,
  type ControlState,
  controlKey,
  encodeControl,
  encodeGroupControl,
  entityKey,
  groupField,
} from "../../adapters/valkey/layout.ts";
import { createReader } from "../../adapters/valkey/reader.ts";
import { RecordPacker } from "../../adapters/valkey/record.ts";
import { isObject } from "../../core/operators/accumulators.ts";
import type { FeatureValue, Group, Plan } from "../../core/plan.ts";

export interface RawEvent {
  readonly id: string;
  readonly timeMs: number;
  readonly fields: Readonly<Record<string, unknown>>;
}

export class OneEntity {
  readonly connection: ValkeyConnection;
  readonly at: { readonly host: string; readonly port: number };
  readonly tenant: string;
  readonly bucket: number;
  readonly key: string;

  constructor(connection: ValkeyConnection, at: { host: string; port: number }, tenant: string) {
    this.connection = connection;
    this.at = at;
    this.tenant = tenant;
    this.bucket = bucketOf(tenant, "card", "c");
    this.key = entityKey(this.bucket, tenant, "card", "payments", "c");
  }

  async command<T = unknown>(name: string, ...args: (string | number | Buffer)[]): Promise<T> {
    const [answer] = await this.connection.demand([{ key: this.key, name, args: [this.key, ...args] }]);
    return answer as T;
  }

  /** Replaces the bucket's control hash. Slots without a birth in `births` are not filled. */
  async control(
    groups: readonly { group: Group; sealMs: number; births: readonly Birth[] }[],
    state: ControlState = "ok",
    epoch = 1,
  ): Promise<void> {
    const key = controlKey(this.bucket);
    const run = await this.connection.runId(key);
    const fields = groups.flatMap(({ group, sealMs, births }) => [
      groupField(group.name),
      encodeGroupControl(Math.floor(sealMs / group.baseMs), births),
    ]);
    await this.connection.demand([
      { key, name: "DEL", args: [key] },
      { key, name: "HSET", args: [key, "c", encodeControl(epoch, state, run), ...fields] },
    ]);
  }

  writer(plan: Plan, epoch = 1) {
    const applier = new StoreApplier(this.connection, plan, epoch);
    const packer = new RecordPacker(plan, "payments");
    return {
      applier,
      /** Applies events to the card; the fate of each, and when it became visible. */
      apply: async (events: readonly RawEvent[]) => {
        const prepared = events.map(({ id, timeMs, fields }) =>
          packer.prepare(this.tenant, id, timeMs, { tenant: this.tenant, id, at: timeMs, card: "c", ...fields }),
        );
        const { fates } = await applier.apply(prepared);
        return fates.map((own) => own.find(({ entity }) => entity === "card")!);
      },
      touch: () => applier.touch(this.bucket, [{ key: this.key, groupId: plan.groups[0].id }]),
    };
  }

  async read(plan: Plan, asOfMs: number): Promise<Map<string, FeatureValue>> {
    const reader = createReader(plan, { ...this.at, timeoutMs: 5_000 });
    try {
      const features = plan.views.filter(({ entity }) => entity === "card").flatMap((view) => view.features);
      const names = features.map(({ name }) => name);
      const [{ values }] = await reader.read(
        [{ tenant: this.tenant, entity: "card", id: "c", features: names }],
        asOfMs,
      );
      return new Map(names.map((name, i) => [name, values[i]]));
    } finally {
      await reader.close();
    }
  }

  /** Every field of the hash, as hex. */
  async dump(): Promise<Map<string, Buffer>> {
    const flat = await this.command<Buffer[]>("HGETALL");
    const fields = new Map<string, Buffer>();
    for (let i = 0; i < flat.length; i += 2) fields.set(flat[i].toString("hex"), flat[i + 1]);
    return fields;
  }
}

export const allBorn = (group: Group, baseIndex = 0): Birth[] =>
  group.slots.map(({ id, kind }) => ({ object: isObject(kind), slot: id, baseIndex }));
