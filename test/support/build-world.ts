/** A live stream with an archive, a real store and a control table, for tests of bulk builds: an older plan, and a newer one. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "iovalkey";
import { afterAll, afterEach, beforeAll } from "vitest";
import { ArchiveWriter } from "../../adapters/archive/archive.ts";
import { BuildProgress } from "../../adapters/control-table/build-progress.ts";
import { ControlTable } from "../../adapters/control-table/control-table.ts";
import { hash64 } from "../../adapters/hash.ts";
import { compactStream } from "../../adapters/offline/compaction.ts";
import { DuckSession } from "../../adapters/offline/duckdb.ts";
import { ArchiveMirror } from "../../adapters/offline/mirror.ts";
import { StoreApplier } from "../../adapters/valkey/applier.ts";
import { ValkeyConnection } from "../../adapters/valkey/connection.ts";
import { ControlHashes } from "../../adapters/valkey/control.ts";
import { createReader } from "../../adapters/valkey/reader.ts";
import { RecordPacker } from "../../adapters/valkey/record.ts";
import { Watermark } from "../../adapters/valkey/watermark.ts";
import { seededRandom } from "../../bench/workload.ts";
import type { compile } from "../../core/compile/compile.ts";
import { identityText } from "../../core/event.ts";
import type { Plan } from "../../core/plan.ts";
import type { BuildPorts } from "../../functions/shared/build/bulk-build.ts";
import { accept, beginRestore, controlStep } from "../../functions/shared/control-loop.ts";
import { type NaiveEvent, naive } from "../core/naive.ts";
import { createBucket, createTable, startEmulator, testClients } from "../harness/emulator.ts";
import { startValkey } from "./valkey.ts";

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;
export const NOW = Math.floor(Date.now() / MINUTE) * MINUTE;

export interface Payment {
  readonly id: string;
  readonly timeMs: number;
  readonly card: string;
  readonly shop: string | null;
  readonly amount: number | null;
  readonly country: string | null;
}

/** Payments of a few shops, at random times of a range; some lack a shop, an amount or a country. */
export function paymentSource(seed: number, { cards: usual, shops }: { cards: number; shops: number }) {
  const random = seededRandom(seed);
  let ids = 0;
  return (count: number, fromMs: number, toMs: number, cards = usual): Payment[] =>
    Array.from({ length: count }, () => ({
      id: `p${ids++}`,
      timeMs: Math.floor(fromMs + random() * (toMs - fromMs)),
      card: `c${Math.floor(random() * cards)}`,
      shop: random() < 0.1 ? null : `s${Math.floor(random() * shops)}`,
      amount: random() < 0.1 ? null : Math.round((random() - 0.3) * 1e6) / 100,
      country: [null, "NO", "SE"][Math.floor(random() * 3)]!,
    }));
}

type World = Awaited<ReturnType<typeof openWorld>>;
export type WorldStream = Awaited<ReturnType<World["begin"]>>;

/** A world for a test file. Streams are closed behind the test that has begun them. */
export function useWorld(): Omit<World, "close"> {
  let world: World;
  const begun: WorldStream[] = [];
  beforeAll(async () => {
    world = await openWorld();
  });
  afterEach(() => Promise.all(begun.splice(0).map((stream) => stream.close())));
  afterAll(() => world?.close());
  return {
    get valkey() {
      return world.valkey;
    },
    get emulatorUrl() {
      return world.emulatorUrl;
    },
    async begin(tenants) {
      const stream = await world.begin(tenants);
      begun.push(stream);
      return stream;
    },
  };
}

async function openWorld() {
  const emulator = await startEmulator();
  const valkey = await startValkey();
  const { s3, dynamodb } = testClients(emulator.url);
  await createBucket(emulator.url, "archive");
  const folder = mkdtempSync(join(tmpdir(), "freshet-world-"));
  const admin = new Redis({ host: valkey.host, port: valkey.port });
  let tables = 0;

  /** A new stream on an empty store, four days old, with an archive of its own. */
  async function begin(tenants: readonly string[]) {
    await admin.flushall();
    const connection = new ValkeyConnection(valkey);
    const tableName = `control-${tables++}`;
    await createTable(emulator.url, tableName);
    const table = new ControlTable({ table: tableName, dynamodb });
    const archive = new ArchiveWriter({ bucket: "archive", s3 });
    /** What was archived with a visible time, by tenant and identity. */
    const archived = new Map<string, Payment & { tenant: string }>();
    const applied = new Set<string>();
    const controlsOf = (plan: Plan) => new ControlHashes(connection, plan);
    const progress = new BuildProgress({ table: tableName, dynamodb });
    const control = ({ plan, lock }: ReturnType<typeof compile>) => ({
      ...{ plan, lock, table, timeoutMs: MINUTE, imports: (name: string) => progress.imports(name) },
      controls: controlsOf(plan),
      watermark: new Watermark(connection),
      loadFunction: () => new StoreApplier(connection, plan, 0).loadFunction(),
    });
    const deploy = (of: ReturnType<typeof compile>, nowMs: number) =>
      controlStep(control(of), { payments: { createdAtMs: NOW - 4 * DAY, shards: [] } }, nowMs);
    const seal = async (plan: Plan, sealMs: number) => {
      for (const stream of plan.streams) await controlsOf(plan).moveSeal(stream, sealMs);
    };
    const identityOf = (tenant: string, { id, timeMs }: Payment) =>
      hash64(identityText(tenant, "payments", timeMs, id));
    const row = (
      tenant: string,
      payment: Payment,
      fates: readonly { entity: string; id: string; fate: string; visibleMs: number | null }[],
    ) => {
      const { timeMs, ...fields } = payment;
      return {
        tenant,
        stream: "payments",
        eventId: payment.id,
        eventTimeMs: timeMs,
        identity: identityOf(tenant, payment),
        arrivalMs: timeMs + 5,
        shard: "shardId-000000000000",
        sequence: String(timeMs),
        subSequence: 0,
        fields: { tenant, at: timeMs, online: null, ...fields },
        fates: fates as never,
      };
    };
    const write = (rows: ReturnType<typeof row>[]) =>
      archive.write(rows, { stream: "payments", shard: "shardId-000000000000" });

    return {
      connection,
      table,
      tableName,
      dynamodb,
      s3,
      archived,
      identityOf,
      deploy,
      seal,
      progress,
      /** All hashes of entities of a tenant, as the server dumps them. */
      async hashes(tenant: string): Promise<ReadonlyMap<string, Buffer>> {
        const keys = (await admin.keys(`*${tenant.length}:${tenant}*`)).filter((key) => !key.endsWith("ctl"));
        return new Map(await Promise.all(keys.map(async (key) => [key, (await admin.dumpBuffer(key))!] as const)));
      },
      async putBack(hashes: ReadonlyMap<string, Buffer>): Promise<void> {
        for (const [key, dump] of hashes) await admin.restore(key, 0, dump, "REPLACE");
      },
      /**
       * The store is lost with all it held, and begun anew. @param restore brings something back before it is opened
       * @param fromMs as of `beginRestore`
       */
      async lose(
        of: ReturnType<typeof compile>,
        nowMs: number,
        restore?: () => Promise<void>,
        fromMs?: Readonly<Record<string, number>>,
      ): Promise<void> {
        await admin.flushall();
        await beginRestore(control(of), nowMs, fromMs);
        await restore?.();
        await accept(control(of), undefined, nowMs);
      },
      /** As after a failover: the primaries are taken for whole. */
      accept: (of: ReturnType<typeof compile>, repairsSinceMs: number | null = null) =>
        accept(control(of), undefined, Date.now(), repairsSinceMs),
      /** All of a tenant's archive, with nothing raw left. */
      async compacted(plan: Plan, tenant: string): Promise<void> {
        const mirror = new ArchiveMirror({ s3, bucket: "archive", folder });
        const session = await DuckSession.open({ folder, memoryMb: 512 });
        try {
          const own = { session, mirror, s3, folder, tenant, stream: plan.streams[0]!, graceMs: 3_600_000 };
          await compactStream({ ...own, nowMs: Date.now() + 2 * DAY });
          // What it has replaced is removed once the grace is over.
          await compactStream({ ...own, nowMs: Date.now() + 4 * DAY });
          const left = await mirror.list(`raw/tenant=${tenant}/`);
          if (left.length > 0) throw new Error(`${left.length} raw objects are left`);
        } finally {
          session.close();
        }
      },
      /** Streams events through a plan's code: applied, archived. @returns how many were applied to all of their entities */
      async stream(plan: Plan, tenant: string, payments: readonly Payment[]): Promise<number> {
        const packer = new RecordPacker(plan, "payments");
        const applier = new StoreApplier(connection, plan, 1);
        const prepared = payments.map((payment) => {
          const { timeMs, ...fields } = payment;
          return packer.prepare(tenant, payment.id, timeMs, { tenant, at: timeMs, online: null, ...fields });
        });
        const { fates } = await applier.apply(prepared);
        const rows = payments.map((payment, i) =>
          row(
            tenant,
            payment,
            fates[i].map((fate) => ({ ...fate, fate: fate.fate === "sealed" ? "late" : fate.fate })),
          ),
        );
        await write(rows);
        let count = 0;
        payments.forEach((payment, i) => {
          if (fates[i].length === 0 || fates[i].some(({ fate }) => fate === "sealed")) return;
          const name = identityOf(tenant, payment);
          if (!archived.has(name)) archived.set(name, { ...payment, tenant });
          applied.add(name);
          count++;
        });
        return count;
      },
      /** Archives events that never passed the broker, and counts it no import: see `progress`. */
      async imports(tenant: string, payments: readonly Payment[]): Promise<void> {
        await write(
          payments.map((payment) =>
            row(tenant, payment, [
              { entity: "card", id: payment.card, fate: "applied", visibleMs: payment.timeMs + 900 },
            ]),
          ),
        );
        for (const payment of payments) {
          const name = identityOf(tenant, payment);
          if (!archived.has(name)) archived.set(name, { ...payment, tenant });
        }
      },
      ports: ({ plan, lock }: ReturnType<typeof compile>, more: Partial<BuildPorts> = {}): BuildPorts => ({
        plan,
        lock,
        connection,
        controls: controlsOf(plan),
        table,
        progress,
        // Names of an earlier test's tenants are not this one's: a mirror knows objects by their keys.
        mirror: new ArchiveMirror({ s3, bucket: "archive", folder }),
        duck: { folder, memoryMb: 512 },
        tenants: async () => tenants,
        archiveFromMs: async () => 0,
        ...more,
      }),
      /** Reads every entity of a tenant and compares it with the oracle over `visible`. @returns what differs */
      async differences(plan: Plan, tenant: string, visible: (payment: Payment) => boolean, t = NOW) {
        const reader = createReader(plan, { host: valkey.host, port: valkey.port, timeoutMs: 10_000 });
        const all = [...archived].filter(([, payment]) => payment.tenant === tenant && visible(payment));
        const wrong: unknown[] = [];
        try {
          for (const { entity, group: index, features } of plan.views) {
            const group = plan.groups[index];
            const byId = Map.groupBy(all, ([, payment]) => payment[entity as "card" | "shop"]);
            for (const [id, own] of byId) {
              if (id === null) continue;
              const events = own.map(
                ([identity, { timeMs, tenant: _, ...fields }]): NaiveEvent => ({
                  identity,
                  timeMs,
                  fields: { ...fields, at: timeMs },
                }),
              );
              const [{ values }] = await reader.read(
                [{ tenant, entity, id, features: features.map(({ name }) => name) }],
                t,
              );
              features.forEach((feature, f) => {
                const expected = naive(group, feature, events, t, (v) => Number.parseInt(hash64(v).slice(0, 8), 16));
                const { value, status } = values[f];
                if (value !== expected) wrong.push({ tenant, id, feature: feature.name, value, status, expected });
              });
            }
          }
        } finally {
          await reader.close();
        }
        return wrong;
      },
      close: () => connection.close(),
    };
  }

  return {
    valkey,
    emulatorUrl: emulator.url,
    begin,
    async close() {
      admin.disconnect();
      await valkey.stop();
      await emulator.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
