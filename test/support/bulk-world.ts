/** A store on a real Valkey whose events come in order of arrival, as a shard's do, with bulk snapshots of it on a real emulator. */
import { afterAll, afterEach, beforeAll, beforeEach } from "vitest";
import { BatchRuns } from "../../adapters/control-table/batch-runs.ts";
import { BuildProgress } from "../../adapters/control-table/build-progress.ts";
import { ControlTable } from "../../adapters/control-table/control-table.ts";
import { hash64 } from "../../adapters/hash.ts";
import { BulkStore } from "../../adapters/snapshot/bulk-store.ts";
import { StoreApplier } from "../../adapters/valkey/applier.ts";
import { ValkeyConnection } from "../../adapters/valkey/connection.ts";
import { birthsOf, ControlHashes } from "../../adapters/valkey/control.ts";
import { type PushRow, pushRows } from "../../adapters/valkey/push.ts";
import { createReader } from "../../adapters/valkey/reader.ts";
import { RecordPacker } from "../../adapters/valkey/record.ts";
import { Watermark } from "../../adapters/valkey/watermark.ts";
import type { compile } from "../../core/compile/compile.ts";
import { identityText } from "../../core/event.ts";
import type { Plan } from "../../core/plan.ts";
import { accept } from "../../functions/shared/control-loop.ts";
import { repeatPushed } from "../../functions/shared/materialization/restore-pushed.ts";
import { bulkRound } from "../../functions/shared/snapshot/bulk-snapshot.ts";
import { type RestoreRequest, restoreSnapshot } from "../../functions/shared/snapshot/restore-snapshot.ts";
import { type NaiveEvent, naive } from "../core/naive.ts";
import { createBucket, createTable, startEmulator, type TestEmulator, testClients } from "../harness/emulator.ts";
import { startValkey, type TestValkey } from "./valkey.ts";

const MINUTE = 60_000;
/** Lateness, the function's timeout and a minute. */
const LAG_MS = 12 * MINUTE;
const HOUR = 60 * MINUTE;

export interface BulkPayment {
  readonly id: string;
  readonly arrivalMs: number;
  readonly timeMs: number;
  readonly card: string;
  readonly shop: string | null;
  readonly amount: number | null;
  readonly country: string | null;
}

let worlds = 0;

/** An empty store, with its seal where a stream that begins at `startMs` has it. */
export async function openBulkWorld(
  { plan, lock }: ReturnType<typeof compile>,
  valkey: TestValkey,
  emulator: TestEmulator,
  startMs: number,
) {
  const name = `bulk-${worlds++}`;
  await Promise.all([createBucket(emulator.url, name), createTable(emulator.url, name)]);
  const { s3, dynamodb } = testClients(emulator.url);
  const connection = new ValkeyConnection({ host: valkey.host, port: valkey.port, timeoutMs: 20_000 });
  const controls = new ControlHashes(connection, plan);
  const table = new ControlTable({ table: name, dynamodb });
  const progress = new BuildProgress({ table: name, dynamodb });
  const snapshots = new BulkStore({ bucket: name, s3 });
  const seal0 = Math.floor((startMs - LAG_MS) / MINUTE);
  await table.putStream("payments", { createdAtMs: startMs, seal0 });
  await table.beginStore(1);
  const all = new Map(plan.groups.map((g) => [g.name, { sealMs: seal0 * MINUTE, births: birthsOf(g, 0) }]));
  await controls.create(1, all);
  await controls.setState(1, ["new"], "ok");
  await table.finishStore(1);
  const loadFunction = () => new StoreApplier(connection, plan, 0).loadFunction();
  const rounds = { plan, lock, connection, controls, snapshots, progress, keepMs: 48 * HOUR, clock: Date.now };
  const imports = (stream: string) => progress.imports(stream);
  const runs = new BatchRuns({ table: name, dynamodb });
  const restores = {
    ...{ plan, lock, connection, controls, table, snapshots, progress, loadFunction, clock: Date.now },
    repeatPushed: () => repeatPushed(runs),
  };
  const control = {
    ...{ plan, lock, controls, table, imports, loadFunction, timeoutMs: MINUTE },
    watermark: new Watermark(connection),
  };
  const packer = new RecordPacker(plan, "payments");
  const prepare = (tenant: string, { arrivalMs: _, timeMs, ...fields }: BulkPayment) =>
    packer.prepare(tenant, fields.id, timeMs, { tenant, at: timeMs, online: null, ...fields });
  /** Applied to an entity at least once, by its type, then identity: a restored entity may have been sealed further than others. */
  const applied = new Map<string, Map<string, BulkPayment & { readonly tenant: string }>>(
    plan.entities.map(({ name: entity }) => [entity, new Map()]),
  );
  const delivered: { tenant: string; payment: BulkPayment }[] = [];
  const note = (
    tenant: string,
    payments: readonly BulkPayment[],
    fates: readonly (readonly { readonly entity: string; readonly fate: string }[])[],
  ) => {
    payments.forEach((payment, i) => {
      const identity = hash64(identityText(tenant, "payments", payment.timeMs, payment.id));
      for (const { entity, fate } of fates[i])
        if (fate !== "sealed") applied.get(entity)!.set(identity, { ...payment, tenant });
    });
  };
  const epochNow = async () => (await table.getStore())!.epoch;

  return {
    ...{
      name,
      connection,
      controls,
      table,
      snapshots,
      progress,
      runs,
      rounds,
      restores,
      s3,
      dynamodb,
      applied,
      control,
    },
    /** A batch of a shard, and then the seal as far as its last arrival lets it. */
    async deliver(tenant: string, payments: readonly BulkPayment[]): Promise<void> {
      const applier = new StoreApplier(connection, plan, await epochNow());
      note(tenant, payments, (await applier.apply(payments.map((one) => prepare(tenant, one)))).fates);
      for (const payment of payments) delivered.push({ tenant, payment });
    },
    async sealBehind(arrivalMs: number): Promise<void> {
      for (const stream of plan.streams)
        await controls.moveSeal(stream, Math.floor((arrivalMs - LAG_MS) / MINUTE) * MINUTE);
    },
    push: async (rows: readonly PushRow[], replaying = false) =>
      pushRows(new StoreApplier(connection, plan, await epochNow(), { replaying }), rows),
    round: (deadlineMs = Number.POSITIVE_INFINITY, ports: Partial<typeof rounds> = {}) =>
      bulkRound({ ...rounds, ...ports }, deadlineMs),
    async flush(): Promise<void> {
      for (const node of await connection.primaries()) await node.flushall();
    },
    restore: (
      request: Partial<RestoreRequest> = {},
      deadlineMs = Number.POSITIVE_INFINITY,
      ports: Partial<typeof restores> = {},
    ) => restoreSnapshot({ ...restores, ...ports }, { snapshot: "latest", ...request }, deadlineMs),
    /** Replays what arrived since the least seal, less a minute, and opens the store. @returns how many were missing */
    async replayAndOpen(): Promise<number> {
      const seals = await Promise.all(plan.groups.map((group) => controls.group(group)));
      const fromMs = Math.min(...seals.flat().map((one) => one!.sealMs)) - MINUTE;
      const applier = new StoreApplier(connection, plan, await epochNow(), { replaying: true });
      const again = delivered.filter(({ payment }) => payment.arrivalMs >= fromMs);
      const { fates } = await applier.apply(again.map(({ tenant, payment }) => prepare(tenant, payment)));
      for (const [i, { tenant, payment }] of again.entries()) note(tenant, [payment], [fates[i]]);
      await accept(control, undefined, Date.now());
      return fates.filter((own) => own.some(({ fate }) => fate === "applied")).length;
    },
    /** What differs between the online answer and the oracle over all that was ever applied, for every entity at an instant. */
    async differences(t: number, of: Plan = plan): Promise<unknown[]> {
      const reader = createReader(of, { host: valkey.host, port: valkey.port, timeoutMs: 20_000 });
      const wrong: unknown[] = [];
      try {
        for (const { entity, group: index, features } of of.views) {
          const byKey = Map.groupBy(applied.get(entity)!, ([, one]) =>
            JSON.stringify([one.tenant, one[entity as "card" | "shop"]]),
          );
          const known = [...byKey].flatMap(([key, own]) => {
            const [tenant, id] = JSON.parse(key) as [string, string | null];
            return id === null ? [] : [{ tenant, id, own }];
          });
          const names = features.map((feature) => feature.name);
          const answers = await reader.read(
            known.map(({ tenant, id }) => ({ tenant, entity, id, features: names })),
            t,
          );
          known.forEach(({ tenant, id, own }, k) => {
            const events = own.map(
              ([identity, { timeMs, tenant: _, arrivalMs: __, ...fields }]): NaiveEvent => ({
                identity,
                timeMs,
                fields: { ...fields, at: timeMs, online: null },
              }),
            );
            const { values, degraded } = answers[k];
            if (degraded !== null && degraded !== "restoring_pushed") wrong.push({ tenant, id, degraded });
            const reach = Math.max(
              ...features.map(({ window: w }) =>
                w.kind === "hopping" ? w.sizeMs + w.delayMs : Number.POSITIVE_INFINITY,
              ),
            );
            const isFound = own.some(([, { timeMs }]) => timeMs > t - reach && timeMs <= t);
            features.forEach((feature, f) => {
              const expected = !isFound
                ? null
                : naive(of.groups[index], feature, events, t, (v) => Number.parseInt(hash64(v).slice(0, 8), 16));
              if (JSON.stringify(values[f].value) !== JSON.stringify(expected))
                wrong.push({ tenant, id, feature: feature.name, ...values[f], expected });
            });
          });
        }
      } finally {
        await reader.close();
      }
      return wrong;
    },
    reader: () => createReader(plan, { host: valkey.host, port: valkey.port, timeoutMs: 20_000 }),
    async close(): Promise<void> {
      await connection.close();
      dynamodb.destroy();
      s3.destroy();
    },
  };
}

export type BulkWorld = Awaited<ReturnType<typeof openBulkWorld>>;

/** A store and an emulator for a file of tests, and a world of them for each test. @param opened is given what the test has */
export function eachInBulkWorld(
  compiled: ReturnType<typeof compile>,
  startMs: number,
  opened: (of: { readonly world: BulkWorld; readonly valkey: TestValkey; readonly emulator: TestEmulator }) => void,
): void {
  let valkey: TestValkey;
  let emulator: TestEmulator;
  let world: BulkWorld;
  beforeAll(async () => {
    [valkey, emulator] = await Promise.all([startValkey(), startEmulator()]);
  });
  beforeEach(async () => {
    world = await openBulkWorld(compiled, valkey, emulator, startMs);
    opened({ world, valkey, emulator });
  });
  afterEach(async () => {
    await world.flush();
    await world.close();
  });
  afterAll(async () => {
    await Promise.all([valkey?.stop(), emulator?.stop()]);
  });
}
