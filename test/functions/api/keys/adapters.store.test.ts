/** Keys and publisher against a real emulator: what the SDK sends is what the services take. */
import {
  CreateStreamCommand,
  GetRecordsCommand,
  GetShardIteratorCommand,
  KinesisClient,
} from "@aws-sdk/client-kinesis";
import { afterAll, beforeAll, expect, it } from "vitest";
import { createKinesisPublisher } from "../../../../adapters/kinesis/publisher.ts";
import { createTenantStore, type TenantStore } from "../../../../functions/api/admission/tenants.ts";
import { revokeKey } from "../../../../functions/api/keys/key-changes.ts";
import { createKeyStore } from "../../../../functions/api/keys/key-store.ts";
import { createAuthenticator, createKey, type KeyStore, newKey } from "../../../../functions/api/keys/keys.ts";
import { createKeysTable, startEmulator, type TestEmulator, testClients } from "../../../harness/emulator.ts";

const TABLE = "test-keys";
const STREAM = "test-transactions";
let emulator: TestEmulator;
let keys: KeyStore;
let tenants: TenantStore;
let kinesis: KinesisClient;

beforeAll(async () => {
  emulator = await startEmulator();
  const { dynamodb } = testClients(emulator.url);
  await createKeysTable(emulator.url, TABLE);
  keys = createKeyStore(dynamodb, TABLE);
  tenants = createTenantStore(dynamodb, TABLE);
  const credentials = { accessKeyId: "test", secretAccessKey: "test" };
  kinesis = new KinesisClient({ endpoint: emulator.url, region: "us-east-1", credentials, maxAttempts: 1 });
  await kinesis.send(new CreateStreamCommand({ StreamName: STREAM, ShardCount: 1 }));
});
afterAll(() => emulator?.stop());

it("a key that was put is found, listed, good for a request, and gone when removed", async () => {
  const { key, record } = await createKey(keys, {
    tenant: "team-a",
    name: "tests",
    scopes: ["score", "read"],
    nowMs: 1_000,
    expiresAtMs: 9_000,
  });
  const found = await keys.get(record.id);
  expect({ ...found, scopes: [...found!.scopes].sort(), salt: 0, hash: 0 }).toEqual({
    ...record,
    scopes: ["read", "score"],
    salt: 0,
    hash: 0,
  });
  expect((await keys.list()).map(({ id }) => id)).toEqual([record.id]);
  expect(await createAuthenticator(keys, () => 2_000)(key)).toMatchObject({ tenant: "team-a", keyId: record.id });
  expect(await keys.remove(record.id)).toBe(true);
  expect(await keys.remove(record.id)).toBe(false);
  expect(await keys.get(record.id)).toBeNull();
});

it("a tenant's limits lie beside the keys and are none", async () => {
  const { record } = await createKey(keys, { tenant: "team-l", scopes: ["read"], nowMs: 0 });
  const limit = { perSecond: 5, burst: 10, perDay: null };
  expect(await tenants.get("team-l")).toBeNull();
  await tenants.put({ name: "team-l", limits: { score: limit } });
  expect(await tenants.get("team-l")).toEqual({ name: "team-l", limits: { score: limit } });
  expect(await tenants.list()).toEqual([{ name: "team-l", limits: { score: limit } }]);
  expect((await keys.list()).filter(({ tenant }) => tenant === "team-l").map(({ id }) => id)).toEqual([record.id]);
  // No key can have its id.
  const authenticate = createAuthenticator(keys, () => 0);
  expect(() => authenticate(`fk_tenant:team-l_${"a".repeat(43)}`)).toThrow("the API key is not known");
  expect(await keys.get("tenant:team-l")).toBeNull();
  const by = { keyId: record.id, tenant: "team-l", scopes: new Set(["admin"]) };
  await expect(revokeKey(keys, "tenant:team-l", { by, nowMs: 0 })).rejects.toMatchObject({ code: "key_unknown" });
  expect((await keys.listOf("team-l")).map(({ id }) => id)).toEqual([record.id]);
  await tenants.put({ name: "team-l", limits: {} });
  expect(await tenants.get("team-l")).toBeNull();
  await expect(tenants.put({ name: "Team L", limits: {} })).rejects.toThrow("a tenant is 1 to 64");
});

it("lists hold a tenant's keys alone, and neither salt nor hash", async () => {
  const own = await createKey(keys, { tenant: "listed", scopes: ["read"], nowMs: 2, expiresAtMs: 5_000 });
  const older = await createKey(keys, { tenant: "listed", scopes: ["admin", "read"], name: "n", nowMs: 1 });
  await createKey(keys, { tenant: "listed-too", scopes: ["read"], nowMs: 3 });
  const listed = await keys.listOf("listed");
  const told = ({ salt: _, hash: __, ...rest }: typeof own.record) => rest;
  expect(listed.map((one) => ({ ...one, scopes: [...one.scopes].sort() }))).toEqual([
    told(older.record),
    told(own.record),
  ]);
});

it("a rotation is both or neither: of many at once one wins, and the old key ends when it says", async () => {
  const { record: old } = await createKey(keys, { tenant: "rotating", scopes: ["read"], nowMs: 0 });
  const made = [1, 2, 3].map((nowMs) => newKey({ ...old, rotatedFrom: old.id, nowMs }).record);
  const won = await Promise.all(made.map((next) => keys.rotate(old, 7_000, next)));
  expect(won.filter(Boolean)).toHaveLength(1);
  const winner = made[won.indexOf(true)];
  expect(await keys.get(old.id)).toMatchObject({ expiresAtMs: 7_000, rotatedTo: winner.id });
  expect(await keys.get(winner.id)).toMatchObject({ rotatedFrom: old.id, rotatedTo: null, expiresAtMs: null });
  expect((await keys.listOf("rotating")).map(({ id }) => id).sort()).toEqual([old.id, winner.id].sort());
  await keys.remove(old.id);
  expect(await keys.rotate(old, 1, newKey({ ...old, rotatedFrom: old.id, nowMs: 4 }).record)).toBe(false);
});

it("administrators who revoke each other at once leave one of them, whichever it is", async () => {
  for (const count of [2, 2, 3, 4]) {
    const tenant = `mutual-${crypto.randomUUID()}`;
    const records = await Promise.all(
      Array.from({ length: count }, () => createKey(keys, { tenant, scopes: ["admin"], nowMs: 0 })),
    );
    const ids = records.map(({ record }) => record.id);
    // Each takes its neighbour away.
    const outcomes = await Promise.allSettled(
      ids.map((id, i) => {
        const by = { keyId: id, tenant, scopes: new Set(["admin"]) };
        return revokeKey(keys, ids[(i + 1) % count], { by, nowMs: 1 });
      }),
    );
    const refused = outcomes.flatMap((outcome) => (outcome.status === "rejected" ? [outcome.reason.code] : []));
    const left = (await Promise.all(ids.map((id) => keys.get(id)))).filter((key) => key !== null);
    expect([left.length, refused.length]).toEqual([refused.length, left.length]);
    expect(left.length).toBeGreaterThan(0);
    expect(new Set(refused)).toEqual(new Set(["last_admin_key"]));
  }
});

it("a key that stands beside has to stand: not one that was removed, rotated or has expired", async () => {
  const make = async (expiresAtMs: number | null = null) =>
    (await createKey(keys, { tenant: "beside", scopes: ["admin"], nowMs: 0, expiresAtMs })).record;
  const [first, gone, expired, rotated] = [await make(), await make(), await make(500), await make()];
  await keys.remove(gone.id);
  await keys.rotate(rotated, 9_000, newKey({ ...rotated, rotatedFrom: rotated.id, nowMs: 0 }).record);
  for (const { id } of [gone, expired, rotated])
    expect(await keys.removeBeside(first.id, id, 1_000)).toBe("other_gone");
  expect(await keys.removeBeside(first.id, expired.id, 499)).toBeNull();
  expect(await keys.removeBeside(first.id, expired.id, 499)).toBe("gone");
});

it("an id is never put twice", async () => {
  const { record } = await createKey(keys, { tenant: "a", scopes: ["read"], nowMs: 0 });
  await expect(keys.put(record)).rejects.toThrow("conditional request failed");
});

it("published bytes arrive as they are, under their partition keys", async () => {
  const publisher = createKinesisPublisher(kinesis, { streamNames: { transactions: STREAM } });
  const records = [0, 127, 255].map((byte) => ({ data: Buffer.alloc(3, byte), partitionKey: `kårt-${byte}` }));
  expect(await publisher.publish("transactions", records)).toEqual(["queued", "queued", "queued"]);
  const { ShardIterator } = await kinesis.send(
    new GetShardIteratorCommand({
      StreamName: STREAM,
      ShardId: "shardId-000000000000",
      ShardIteratorType: "TRIM_HORIZON",
    }),
  );
  const { Records } = await kinesis.send(new GetRecordsCommand({ ShardIterator }));
  expect(Records?.map(({ Data, PartitionKey }) => ({ data: Buffer.from(Data!), partitionKey: PartitionKey }))).toEqual(
    records,
  );
});

it("a broker that is gone is an outcome", async () => {
  const client = new KinesisClient({
    endpoint: "http://127.0.0.1:1",
    region: "us-east-1",
    credentials: { accessKeyId: "test", secretAccessKey: "test" },
    maxAttempts: 1,
  });
  const publisher = createKinesisPublisher(client, { streamNames: { transactions: STREAM }, budgetMs: 100 });
  const outcomes = await publisher.publish("transactions", [{ data: Buffer.alloc(1), partitionKey: "a" }]);
  expect(outcomes).toEqual(["unavailable"]);
});
