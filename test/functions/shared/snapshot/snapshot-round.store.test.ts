/** Rounds over a real store: what they write and what not, and what they do when they are cut off or the store is not whole. */
import { randomBytes } from "node:crypto";
import { ScanCommand } from "@aws-sdk/client-dynamodb";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { hash64 } from "../../../../adapters/hash.ts";
import { MAX_DATA_BYTES } from "../../../../adapters/snapshot/item-format.ts";
import { birthsOf } from "../../../../adapters/valkey/control.ts";
import { bucketOf, controlKey, entityKey } from "../../../../adapters/valkey/layout.ts";
import { RecordPacker } from "../../../../adapters/valkey/record.ts";
import { compile, EMPTY_LOCK } from "../../../../core/compile/compile.ts";
import { snapshotRound } from "../../../../functions/shared/snapshot/snapshot-round.ts";
import { startEmulator, type TestEmulator } from "../../../harness/emulator.ts";
import { contracts, definitions } from "../../../support/fixture-plan.ts";
import { openSnapshotWorld, type SnapshotWorld } from "../../../support/snapshot-world.ts";
import { startValkey, type TestValkey } from "../../../support/valkey.ts";

const DAY = 86_400_000;
const START = Date.UTC(2026, 0, 5, 22, 17);
const kept = {
  ...definitions,
  entities: definitions.entities.map((entity) => ({ ...entity, fallback: entity.name === "shop" })),
};
const { plan } = compile(kept, contracts, EMPTY_LOCK, hash64);
const packer = new RecordPacker(plan, "payments");
const group = plan.groups.find(({ entity }) => entity === "shop")!;
let valkey: TestValkey;
let emulator: TestEmulator;
let own: SnapshotWorld;
let events = 0;

beforeAll(async () => {
  [valkey, emulator] = await Promise.all([startValkey(), startEmulator()]);
});
beforeEach(async () => {
  own = await openSnapshotWorld(plan, valkey, emulator, START - DAY);
});
afterEach(async () => {
  for (const node of await own.store.connection.primaries()) await node.flushall();
  await own.close();
});
afterAll(async () => {
  await Promise.all([valkey?.stop(), emulator?.stop()]);
});

async function pay(tenant: string, shop: string, amount = 1, timeMs = START): Promise<void> {
  const id = `e${events++}`;
  const fields = { id, at: timeMs, card: "c", shop, amount, country: "NO" };
  await own.store.applier.apply([packer.prepare(tenant, id, timeMs, fields)]);
}
async function items() {
  const { Items = [] } = await own.dynamodb.send(new ScanCommand({ TableName: own.name }));
  return Items.filter(({ pk }) => pk.S !== "#round").map(({ pk, sk, ...rest }) => ({
    name: `${pk.S} ${sk.S}`,
    ...rest,
  }));
}
const total = async (tenant: string, shop: string) => {
  const answer = await own.fallback(tenant, "shop", shop, START);
  const at = plan.views
    .find(({ entity }) => entity === "shop")!
    .features.findIndex(({ name }) => name === "shop_view:total_1h");
  return "values" in answer ? answer.values[at].value : answer.lost;
};

it("writes entities of the declared types alone, each of its tenant's, and tells DynamoDB when they may go", async () => {
  await pay("a", "s1", 5);
  await pay("b", "s1", 7);
  expect(await own.round()).toEqual({
    outcome: "complete",
    scanned: 4,
    written: 2,
    tooLarge: 0,
    coveredMs: expect.any(Number),
  });
  const stored = await items();
  expect(stored.map(({ name }) => name).sort()).toEqual(["1:a4:shop2:s1 payments", "1:b4:shop2:s1 payments"]);
  expect([await total("a", "s1"), await total("b", "s1")]).toEqual([5, 7]);
  // What nothing shows any more: the key's own reach, and a day.
  const expiresMs = Number((stored[0] as any)["expires_at"].N) * 1_000;
  expect(expiresMs).toBeGreaterThan(Date.now() + group.expireMs!);
  expect(expiresMs).toBeLessThan(Date.now() + group.expireMs! + 2 * DAY);
});

it("writes what has changed since the round before, and nothing else", async () => {
  for (const shop of ["s1", "s2", "s3"]) await pay("a", shop, 1);
  expect((await own.round()).written).toBe(3);
  expect((await own.round()).written).toBe(0);
  await pay("a", "s2", 10);
  expect((await own.round()).written).toBe(1);
  expect([await total("a", "s1"), await total("a", "s2")]).toEqual([1, 11]);
});

it("goes on where it was cut off, and tells nobody that it is through before it is", async () => {
  const shops = Array.from({ length: 500 }, (_, i) => `s${i}`);
  const records = shops.map((shop, i) =>
    packer.prepare("a", `cut${i}`, START, { id: `cut${i}`, at: START, card: `c${i}`, shop, amount: 1, country: "NO" }),
  );
  await own.store.applier.apply(records);
  const reports = [];
  do reports.push(await own.round(0));
  while (reports.at(-1)!.outcome === "unfinished");
  expect(reports.length).toBeGreaterThan(1);
  expect(reports.slice(0, -1).every(({ coveredMs }) => coveredMs === null)).toBe(true);
  expect(reports.at(-1)).toMatchObject({ outcome: "complete", coveredMs: expect.any(Number) });
  expect(await items()).toHaveLength(500);
  // A page of keys at most is seen again.
  expect(reports.reduce((sum, { scanned }) => sum + scanned, 0)).toBeLessThan(1_000 + 600);
});

it("begins its walk anew when other primaries answer, or other ones for a bucket, than it began with", async () => {
  const records = Array.from({ length: 500 }, (_, i) =>
    packer.prepare("a", `m${i}`, START, {
      id: `m${i}`,
      at: START,
      card: `c${i}`,
      shop: `s${i}`,
      amount: 1,
      country: "NO",
    }),
  );
  await own.store.applier.apply(records);
  expect((await own.round(0)).outcome).toBe("unfinished");
  const saved = (await own.table.getRound())!;
  expect(saved.cursor).not.toBe("0");
  await own.table.putRound({ ...saved, runs: "another primary's" });
  expect(await own.round()).toMatchObject({ outcome: "complete", scanned: 1_000 });
  // Another one may have a clock that is behind: what was changed within a minute is looked at again.
  const complete = (await own.table.getRound())!;
  await own.table.putRound({ ...complete, runs: "another primary's" });
  expect(await own.round()).toMatchObject({ outcome: "complete", written: 500 });
  expect((await own.round()).written).toBe(0);
});

it("of two at once one goes on, and a slower one never puts an older state over a newer one", async () => {
  await pay("a", "s1", 1);
  const reports = await Promise.all([own.round(), own.round()]);
  expect(reports.map(({ outcome }) => outcome).sort()).not.toEqual(["unfinished", "unfinished"]);
  await own.round();
  const [before] = (await items()) as any[];
  await pay("a", "s1", 2);
  await own.round();
  const older = { tenant: "a", entity: "shop", id: "s1", stream: "payments", epoch: 1, rev: Number(before.rev.N) };
  const put = (changes: object) =>
    own.table.put({
      ...older,
      takenMs: Number(before.taken_ms.N),
      data: Buffer.from(before.data.B),
      expiresMs: null,
      ...changes,
    });
  expect([await put({}), await put({ epoch: 0, rev: 9e15 })]).toEqual([false, false]);
  expect(await total("a", "s1")).toBe(3);
  expect(await put({ epoch: 2 })).toBe(true);
});

it("holds while the store is not whole, and begins anew with another epoch: what an older one held is not taken for its own", async () => {
  await pay("a", "s1", 5);
  await own.round();
  await own.store.controls.setState(1, ["ok"], "restoring");
  expect((await own.round()).outcome).toBe("held");
  const bucket = bucketOf("a", "shop", "gone");
  await own.store.connection.demand([{ key: controlKey(bucket), name: "DEL", args: [controlKey(bucket)] }]);
  expect((await own.round()).outcome).toBe("held");
  // Meanwhile what is there answers.
  expect(await total("a", "s1")).toBe(5);

  for (const node of await own.store.connection.primaries()) await node.flushall();
  const groups = new Map(plan.groups.map((each) => [each.name, { sealMs: START - DAY, births: birthsOf(each, 0) }]));
  await own.store.controls.create(2, groups);
  await own.store.controls.setState(2, ["new"], "ok");
  expect(await own.round()).toMatchObject({ outcome: "complete", written: 0 });
  expect(await total("a", "s1")).toBe("older_epoch");
  expect((await own.fallback("a", "shop", "s2", START)) as any).toHaveProperty("values");
});

it("writes a group's entities again when births change, since they are in each item", async () => {
  await pay("a", "s1", 5);
  await own.round();
  const births = birthsOf(group, 0).map((birth, i) => (i === 0 ? { ...birth, baseIndex: 7 } : birth));
  await own.store.controls.putGroup(group, { sealMs: START - DAY, births });
  expect((await own.round()).written).toBe(1);
  expect((await own.round()).written).toBe(0);
  expect((await own.fallback("a", "shop", "s1", START)) as any).toMatchObject({
    values: await own.live("a", "shop", "s1", START),
  });
});

it("an entity that no item can hold leaves a mark in its place, so that nothing older stands for it", async () => {
  await pay("a", "s1", 5);
  await own.round();
  const key = entityKey(bucketOf("a", "shop", "s1"), "a", "shop", "payments", "s1");
  // Bytes that do not get smaller.
  const noise = randomBytes(MAX_DATA_BYTES + 1_000);
  const field = Buffer.from([0x73, 99, 1, 0, 0, 0, 1]);
  await own.store.connection.demand([{ key, name: "HSET", args: [key, field, noise] }]);
  await pay("a", "s1", 1);
  expect(await own.round()).toMatchObject({ outcome: "complete", written: 1, tooLarge: 1 });
  expect(await total("a", "s1")).toBe("too_large");
});

it("keeps nothing where nothing is declared", async () => {
  const bare = compile(definitions, contracts, EMPTY_LOCK, hash64).plan;
  await pay("a", "s1", 5);
  expect(await snapshotRound({ ...own.ports, plan: bare }, 0)).toMatchObject({
    outcome: "nothing to keep",
    scanned: 0,
  });
});
