/** Registrations and pushes while others do the same and their parts fail, on a real table, store and archive. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type DynamoDBClient,
  PutItemCommand,
  TransactionCanceledException,
  TransactWriteItemsCommand,
} from "@aws-sdk/client-dynamodb";
import { GetObjectCommand, ListObjectsV2Command, type S3Client } from "@aws-sdk/client-s3";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DuckSession } from "../../../../adapters/offline/duckdb.ts";
import { ArchiveMirror } from "../../../../adapters/offline/mirror.ts";
import { featureAt } from "../../../../adapters/offline/point-in-time.ts";
import { joinRegistered, valuesMount } from "../../../../adapters/offline/pushed-in-time.ts";
import { FeatureRegistry, MAX_FEATURES } from "../../../../adapters/pushed/feature-registry.ts";
import { ValuesArchive } from "../../../../adapters/pushed/values-archive.ts";
import { type PackedRow, readValues, valuesFolder } from "../../../../adapters/pushed/values-format.ts";
import { isEpochChange, StoreApplier } from "../../../../adapters/valkey/applier.ts";
import { eraseCall } from "../../../../adapters/valkey/erase.ts";
import { createReader } from "../../../../adapters/valkey/reader.ts";
import type { BatchView, Scalar } from "../../../../core/plan.ts";
import { fullName, type PushedFeature, type Registration, storedView } from "../../../../core/pushed-feature.ts";
import { createPusher, createPushStore, type Pusher } from "../../../../functions/api/registered/pusher.ts";
import { type FaultProxy, startAwsFaultProxy } from "../../../../local/faults/aws-proxy.ts";
import { createBucket, createTable, startEmulator, type TestEmulator, testClients } from "../../../harness/emulator.ts";
import { type NaivePush, naiveRead } from "../../../support/naive-pushed.ts";
import { spineTable } from "../../../support/offline-tables.ts";
import { pushedPlan, riskValues, riskView } from "../../../support/pushed-plan.ts";
import { openStore, type TestStore } from "../../../support/store.ts";
import { startValkey, type TestValkey } from "../../../support/valkey.ts";

const HOUR = 3_600_000;
const folder = mkdtempSync(join(tmpdir(), "freshet-pushed-"));
let emulator: TestEmulator;
let proxy: FaultProxy;
let valkey: TestValkey;
let store: TestStore;
let reader: ReturnType<typeof createReader>;
let registry: FeatureRegistry;
let dynamodb: DynamoDBClient;
let s3: S3Client;
let pusher: Pusher;
let tenants = 0;

beforeAll(async () => {
  [emulator, valkey] = await Promise.all([startEmulator(), startValkey()]);
  await Promise.all([createBucket(emulator.url, "archive"), createTable(emulator.url, "features")]);
  proxy = await startAwsFaultProxy(emulator.url);
  ({ dynamodb } = testClients(emulator.url));
  ({ s3 } = testClients(proxy.url));
  store = await openStore(pushedPlan, valkey, Date.now() - HOUR);
  reader = createReader(pushedPlan, { host: valkey.host, port: valkey.port, timeoutMs: 5_000 });
  registry = new FeatureRegistry({ table: "features", dynamodb });
  pusher = createPusher({
    store: createPushStore(async () => store.applier, isEpochChange),
    archive: new ValuesArchive({ s3, bucket: "archive" }),
    clock: Date.now,
  });
});
afterAll(async () => {
  await proxy?.stop();
  await emulator?.stop();
  await reader?.close();
  await store?.connection.close();
  await valkey?.stop();
  rmSync(folder, { recursive: true });
});

const registration = (key: string, more: Partial<Registration> = {}): Registration => ({
  ...{ view: "risk2", key, version: 1, entity: "shop", dtype: "double", ttlMs: 2 * HOUR },
  ...{ description: "", unit: "", owner: "", tags: [], deprecated: null, ...more },
});
const OPTIONS = { replace: false, current: false, nowMs: 1 };
const register = (tenant: string, key: string, more: Partial<Registration> = {}) =>
  registry.register(tenant, registration(key, more), OPTIONS);

async function archivedRows(tenant: string, view: string): Promise<PackedRow[][]> {
  const Prefix = valuesFolder(tenant, storedView(view));
  const { Contents = [] } = await testClients(emulator.url).s3.send(
    new ListObjectsV2Command({ Bucket: "archive", Prefix }),
  );
  return Promise.all(
    Contents.map(async ({ Key }) => {
      const { Body } = await testClients(emulator.url).s3.send(new GetObjectCommand({ Bucket: "archive", Key }));
      return readValues(await Body!.transformToByteArray()) as PackedRow[];
    }),
  );
}

describe("registrations", () => {
  it("of many at once have ids of their own, which stay; the same one at once is made once", async () => {
    const keys = Array.from({ length: 8 }, (_, i) => `f${i}`);
    const made = await Promise.all([...keys, ...keys].map((key) => register("many", key)));
    expect(made.map(({ outcome }) => outcome).sort()).toEqual([
      ...keys.map(() => "created"),
      ...keys.map(() => "unchanged"),
    ]);
    const loaded = (await registry.load("many", null))!;
    expect(loaded.features.map(({ id }) => id).sort()).toEqual(keys.map((_, i) => i));
    for (const { feature } of made) expect(loaded.features).toContainEqual(feature);
    expect(loaded.revision).toBe(keys.length);
    expect(await registry.load("many", loaded.revision)).toBeNull();
    const next = await register("many", "f0", { version: 2, dtype: "string" });
    expect(next).toMatchObject({ feature: { id: 8 }, current: 1 });
    // Ids are a view's, so another view begins with its own.
    expect(await register("many", "f0", { view: "other" })).toMatchObject({ feature: { id: 0 } });
    expect((await registry.load("none", null))!).toEqual({ revision: 0, features: [], current: new Map() });
  });

  it("of a hundred at once by several hosts are made, all of them", async () => {
    const other = new FeatureRegistry({ table: "features", dynamodb: testClients(emulator.url).dynamodb });
    const made = await Promise.all(
      Array.from({ length: 100 }, (_, i) =>
        (i % 4 === 0 ? other : registry).register("hundred", registration(`f${i}`), OPTIONS),
      ),
    );
    expect(new Set(made.map(({ feature }) => feature.id)).size).toBe(100);
    expect((await registry.load("hundred", null))!.features).toHaveLength(100);
  }, 60_000);

  it("that others come before all the time say so, and nothing of them is made", async () => {
    const taken = new TransactionCanceledException({
      ...{ message: "", $metadata: {}, CancellationReasons: [{ Code: "TransactionConflict" }] },
    });
    const contended = {
      send: (command: object) =>
        command instanceof TransactWriteItemsCommand ? Promise.reject(taken) : dynamodb.send(command as never),
    };
    const busy = new FeatureRegistry({ table: "features", dynamodb: contended as never, patienceMs: 100 });
    const both = ["a", "b"].map((key) => busy.register("busy", registration(key), OPTIONS));
    for (const one of await Promise.allSettled(both)) {
      expect(one).toMatchObject({
        reason: { code: "catalogue_busy", message: "other registrations of the tenant came before this one for 0.1 s" },
      });
    }
    expect((await registry.load("busy", null))!.features).toEqual([]);
  });

  it("end at a limit, which replacing what is there does not need", async () => {
    const { feature } = await register("full", "a");
    await dynamodb.send(
      new PutItemCommand({
        TableName: "features",
        Item: {
          ...{ pk: { S: "full" }, sk: { S: "head" }, revision: { N: "9" } },
          features: { N: String(MAX_FEATURES) },
        },
      }),
    );
    await expect(register("full", "b")).rejects.toMatchObject({
      code: "feature_limit",
      message: `a tenant registers at most ${MAX_FEATURES} features and versions`,
    });
    const replaced = await registry.register("full", { ...feature, owner: "x" }, { ...OPTIONS, replace: true });
    expect(replaced).toMatchObject({ outcome: "changed", feature: { id: feature.id, owner: "x" } });
    expect((await registry.load("full", null))!.revision).toBe(10);
  });

  it("end at a limit of their view, since all of it is one field of an entity", async () => {
    const view = { pk: { S: "wide" }, sk: { S: "view#pushed" } };
    await register("wide", "a", { view: "pushed" });
    await dynamodb.send(new PutItemCommand({ TableName: "features", Item: { ...view, next_id: { N: "499" } } }));
    expect(await register("wide", "b", { view: "pushed" })).toMatchObject({ feature: { id: 499 } });
    await expect(register("wide", "c", { view: "pushed" })).rejects.toMatchObject({
      code: "feature_limit",
      message: "view pushed has 500 features and versions, which is the limit of a view",
    });
    expect(await register("wide", "a", { view: "pushed" })).toMatchObject({ outcome: "unchanged" });
    expect(await register("wide", "c", { view: "another" })).toMatchObject({ outcome: "created" });
  });
});

/** Features like those of the batch view that the naive reader knows. */
async function riskFeatures(tenant: string): Promise<PushedFeature[]> {
  const features: PushedFeature[] = [];
  for (const { name, dtype } of riskView.features) {
    features.push((await register(tenant, name.slice("risk:".length), { dtype })).feature);
  }
  return features;
}
const readNow = async (tenant: string, id: string, features: readonly PushedFeature[], asOfMs: number) => {
  const registered = features.map(({ id: place, view, ttlMs }, position) => ({
    ...{ position, field: storedView(view), id: place, ttlMs, reachMs: ttlMs + 24 * HOUR },
  }));
  const names = features.map(fullName);
  const [{ values }] = await reader.read([{ tenant, entity: "shop", id, features: names, registered }], asOfMs);
  return values;
};
const view: BatchView = riskView;

describe("pushed values", () => {
  it("are at every instant what the naive reader says, online and by the point-in-time join over the archive", async () => {
    const step = fc.array(
      fc.record({ id: fc.constantFrom("s1", "s'2"), ageMs: fc.nat(5).map((n) => n * HOUR), values: riskValues }),
      { minLength: 1, maxLength: 4 },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 4 }), async (steps) => {
        const tenant = `p${tenants++}`;
        const features = await riskFeatures(tenant);
        const keys = features.map(({ key }) => key);
        const start = Date.now();
        const all: Record<string, NaivePush[]> = { s1: [], "s'2": [] };
        const seen: { t: number; id: string; values: unknown }[] = [];
        for (const given of [...steps, steps[0]]) {
          const rows = given.map(({ id, ageMs, values }) => ({
            id,
            eventTimeMs: start - ageMs,
            values: keys.map((key) => (values as Record<string, Scalar | undefined>)[key]),
          }));
          const empty = rows.filter(({ values }) => values.every((value) => value === undefined));
          const outcome = await pusher.push(tenant, features, rows);
          expect(outcome.refusals.map(({ code }) => code)).toEqual(empty.map(() => "row_shape"));
          const visibleMs = outcome.visibleMs ?? start;
          for (const { id, ageMs, values } of given) all[id].push({ eventTimeMs: start - ageMs, visibleMs, values });
          while (Date.now() <= visibleMs) await new Promise((done) => setTimeout(done, 1));
          for (const id of Object.keys(all)) {
            const values = await readNow(tenant, id, features, visibleMs);
            expect(values).toEqual(naiveRead(view, all[id], visibleMs));
            seen.push({ t: visibleMs, id, values });
          }
        }
        const session = await DuckSession.open({ folder });
        try {
          const mirror = new ArchiveMirror({ s3, bucket: "archive", folder: join(folder, tenant) });
          const spine = seen.map(({ t, id }) => ({ t, keys: { shop: id } }));
          await session.run(spineTable("spine", spine));
          const columns = await joinRegistered(session, {
            features: new Map(features.map((feature) => [fullName(feature), feature])),
            spine: { relation: "spine", rows: seen.length, fromMs: start - HOUR, toMs: Date.now() },
            mount: valuesMount(session, mirror, tenant),
          });
          seen.forEach(({ values }, row) => {
            const joined = features.map((each) => columns.find(({ name }) => name === fullName(each))!);
            expect(joined.map((column) => featureAt(column, row))).toEqual(values);
          });
        } finally {
          session.close();
        }
      }),
      { numRuns: 12 },
    );
  });

  it("are not acknowledged while the archive does not take them; pushed again they are, and changed nothing else", async () => {
    const features = [(await register("cut", "n")).feature];
    const now = Date.now();
    const rows = [{ id: "s1", eventTimeMs: now - 1_000, values: [7] }];
    proxy.use(({ operation }) =>
      operation === "PutObject" ? { kind: "error", status: 500, code: "InternalError" } : null,
    );
    await expect(pusher.push("cut", features, rows)).rejects.toMatchObject({
      ...{ code: "archive_unavailable", status: 503, message: "the archive of pushed values does not answer" },
    });
    proxy.use(null);
    // What was pushed stays: a reader may see it before its push was acknowledged.
    expect((await readNow("cut", "s1", features, now))[0].value).toBe(7);
    expect(await archivedRows("cut", "risk2")).toEqual([]);
    for (let i = 0; i < 2; i++) expect(await pusher.push("cut", features, rows)).toMatchObject({ accepted: 1 });
    // Also a push that changes nothing is archived.
    const archived = (await archivedRows("cut", "risk2")).flat();
    expect(archived).toHaveLength(2);
    for (const row of archived) {
      expect(row).toMatchObject({ tenant: "cut", entity: "shop", id: "s1", view: "_risk2", eventTimeMs: now - 1_000 });
      expect(row.visibleMs).toBeGreaterThanOrEqual(now);
    }
  });

  it("of requests that come while an object is written share the next one", async () => {
    const features = [(await register("busy", "n")).feature];
    proxy.use(({ operation }) => (operation === "PutObject" ? { kind: "delay", ms: 150 } : null));
    const pushes = await Promise.all(
      Array.from({ length: 20 }, (_, i) =>
        pusher.push("busy", features, [{ id: `s${i}`, eventTimeMs: Date.now() - 1_000, values: [i] }]),
      ),
    );
    proxy.use(null);
    expect(pushes.every(({ accepted }) => accepted === 1)).toBe(true);
    const objects = await archivedRows("busy", "risk2");
    expect(objects.length).toBeLessThan(10);
    expect(new Set(objects.flat().map(({ id }) => id)).size).toBe(20);
  });

  it("go on under the epoch that a restore has begun", async () => {
    const features = [(await register("epoch", "n")).feature];
    let opened = 0;
    const stale = createPusher({
      store: createPushStore(async () => {
        opened++;
        return opened === 1 ? new StoreApplier(store.connection, pushedPlan, 77) : store.applier;
      }, isEpochChange),
      archive: new ValuesArchive({ s3, bucket: "archive" }),
      clock: Date.now,
    });
    const row = { id: "s1", eventTimeMs: Date.now(), values: [1] };
    expect(await stale.push("epoch", features, [row])).toMatchObject({ accepted: 1 });
    expect(await stale.push("epoch", features, [row])).toMatchObject({ accepted: 1 });
    expect(opened).toBe(2);
  });

  it("are refused for an erased entity where they are of a time before, and not archived", async () => {
    const features = [(await register("erased", "n")).feature];
    const beforeMs = Date.now();
    const terms = { beforeMs, keepUntilMs: beforeMs + HOUR, clean: false };
    const { bucket, keys } = eraseCall(pushedPlan, { tenant: "erased", entity: "shop", id: "s1" }, terms);
    await store.applier.erase([{ bucket, keys, ...terms }]);
    const rows = [beforeMs - 1, beforeMs].map((eventTimeMs) => ({ id: "s1", eventTimeMs, values: [1] }));
    expect(await pusher.push("erased", features, rows)).toMatchObject({
      accepted: 1,
      refusals: [{ index: 0, code: "entity_erased", field: "rows[0].event_time_ms" }],
    });
    expect((await archivedRows("erased", "risk2")).flat().map(({ eventTimeMs }) => eventTimeMs)).toEqual([beforeMs]);
  });
});
