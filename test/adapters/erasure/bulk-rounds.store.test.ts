/** An erased entity is in no bulk snapshot any more, every round stays restorable, and whoever restores one does not bring it back. */
import { CopyObjectCommand, PutObjectCommand } from "@aws-sdk/client-s3";
import { describe, expect, it } from "vitest";
import { eraseRounds } from "../../../adapters/erasure/bulk-rounds.ts";
import { added, NOTHING_REWRITTEN } from "../../../adapters/erasure/rewrite.ts";
import { hash64 } from "../../../adapters/hash.ts";
import { readBulk } from "../../../adapters/snapshot/bulk-format.ts";
import { BulkStore } from "../../../adapters/snapshot/bulk-store.ts";
import { StoreApplier } from "../../../adapters/valkey/applier.ts";
import { eraseCall } from "../../../adapters/valkey/erase.ts";
import { bucketOf } from "../../../adapters/valkey/layout.ts";
import { packValues } from "../../../adapters/valkey/packed.ts";
import { compile, EMPTY_LOCK } from "../../../core/compile/compile.ts";
import { type BulkPayment, type BulkWorld, eachInBulkWorld } from "../../support/bulk-world.ts";
import { contracts, definitions } from "../../support/fixture-plan.ts";
import { killedAt } from "../../support/killed-client.ts";

const MINUTE = 60_000;
const START = Date.UTC(2026, 0, 5, 22, 17);
const BEFORE = START + 5 * MINUTE;
const compiled = compile(definitions, contracts, EMPTY_LOCK, hash64);
const erased = { tenant: "a", subjects: [{ entity: "card", id: "c1" }], beforeMs: BEFORE };
const bucket = bucketOf("a", "card", "c1");

let world: BulkWorld;
eachInBulkWorld(compiled, START, (opened) => {
  ({ world } = opened);
});

let events = 0;
const pay = (minute: number, card: string): BulkPayment => ({
  id: `r${events++}`,
  arrivalMs: START + minute * MINUTE,
  timeMs: START + minute * MINUTE - 5_000,
  ...{ card, shop: null, amount: 10, country: "NO" },
});

/** Three rounds of two tenants, each with other events; the card has been erased and has come back before the last. */
async function lived(): Promise<string[]> {
  const cards = ["c1", "c2", "c3", "c4"];
  const packed = packValues([{ id: 0, dtype: "int64", value: 7 }], START);
  const row = { tenant: "a", entity: "card", id: "c1", view: "_pushed", eventTimeMs: START, packed, reachMs: 9e11 };
  await world.push([row]);
  for (const minute of [0, 2]) {
    for (const tenant of ["a", "b"]) {
      const some = cards.slice(minute / 2).map((card) => pay(minute, card));
      await world.deliver(tenant, some);
    }
    await world.deliver("a", [pay(minute, "c1")]);
    expect((await world.round()).outcome).toBe("complete");
  }
  const applier = new StoreApplier(world.connection, compiled.plan, 1);
  const subject = { tenant: "a", entity: "card", id: "c1" };
  await applier.erase([eraseCall(compiled.plan, subject, { beforeMs: BEFORE, keepUntilMs: 4e12, clean: false })]);
  await world.deliver("a", [pay(9, "c1")]);
  expect((await world.round()).outcome).toBe("complete");
  return world.snapshots.rounds();
}

/** Of every object of the card's bucket, named or not: its keys. */
async function held(): Promise<Map<string, string[]>> {
  const found = new Map<string, string[]>();
  for (const key of await world.snapshots.objectsOf(new Set([bucket])))
    found.set(
      key,
      [...readBulk((await world.snapshots.get(key))!)].flat().map((record) => record.key),
    );
  return found;
}
const isCard = (key: string): boolean => key.includes("1:a4:card") && key.endsWith("2:c1");
/** All records of a round but the card's, by key. */
async function others(round: string): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const { key } of (await world.snapshots.manifest(round)).objects) {
    for (const record of key === null ? [] : [...readBulk((await world.snapshots.get(key))!)].flat())
      if (!isCard(record.key)) found.set(record.key, record.bytes.toString("hex"));
  }
  return found;
}

function portsOf(s3: Pick<BulkWorld["s3"], "send"> = world.s3) {
  const objects = { s3, bucket: world.name };
  return { snapshots: new BulkStore(objects), objects };
}
async function erase(ports = portsOf(), more: Partial<Parameters<typeof eraseRounds>[2]> = {}) {
  let report = NOTHING_REWRITTEN;
  const onStep = async (_: string, step: typeof report) => {
    report = added(report, step);
  };
  const isDone = await eraseRounds(ports, erased, { onStep, ...more });
  return { ...report, isDone };
}

async function expectErased(rounds: readonly string[], before: readonly ReadonlyMap<string, string>[]) {
  // In the last round a tombstone, and what came after it.
  const newest = (await world.snapshots.manifest(rounds.at(-1)!)).objects[bucket]!.key;
  const places = [...(await held())].flatMap(([key, keys]) => (keys.some(isCard) ? [key] : []));
  expect(places).toEqual([newest]);
  for (const [i, round] of rounds.entries()) {
    const { objects } = await world.snapshots.manifest(round);
    expect(await world.snapshots.missing(objects)).toEqual([]);
    expect(await others(round)).toEqual(before[i]);
  }
}

describe("bulk snapshots from before an erasure", () => {
  it("are written again without the entity, and a restore of one brings back the others alone", async () => {
    const rounds = await lived();
    const before = await Promise.all(rounds.map(others));
    // A round that was cut off.
    const [old] = [...(await held()).keys()];
    const copy = new CopyObjectCommand({
      ...{ Bucket: world.name, CopySource: `${world.name}/${old}` },
      Key: old!.replace(/rounds\/[^/]+/, "rounds/20260105T000000000Z-e1-cutoff00"),
    });
    await world.s3.send(copy);
    // Windows and pushed values in each of two rounds; the objects of these, and the copy, go.
    expect(await erase()).toMatchObject({ isDone: true, rows: 4, rewritten: 5, unreadable: [] });
    await expectErased(rounds, before);
    expect(await erase()).toMatchObject({ isDone: true, rows: 0, rewritten: 0 });
    await world.flush();
    expect(await world.restore({ snapshot: rounds[0] })).toMatchObject({ state: "loaded", older: {} });
    const keys = await Promise.all((await world.connection.primaries()).map((node) => node.keys("*card*")));
    expect(keys.flat().filter(isCard)).toEqual([]);
    expect(keys.flat().length).toBeGreaterThan(4);
  });

  it("are right however often it is killed, and it goes on where time was up", async () => {
    const rounds = await lived();
    const before = await Promise.all(rounds.map(others));
    let kills = 0;
    for (let n = 1; ; n++) {
      const isDone = await erase(portsOf(killedAt(world.s3, n))).catch((error: Error) => {
        expect(String(error.cause ?? error)).toContain("killed");
        return null;
      });
      // Whatever was done of it, each round can be restored.
      for (const round of rounds)
        expect(await world.snapshots.missing((await world.snapshots.manifest(round)).objects)).toEqual([]);
      if (isDone !== null) break;
      kills++;
    }
    // Each run gets one write further than the one before.
    expect(kills).toBeGreaterThanOrEqual(2);
    await expectErased(rounds, before);
    const first: string[] = [];
    const onStep = async (after: string) => void first.push(after);
    expect(await eraseRounds(portsOf(), erased, { outOfTime: () => true, onStep })).toBe(false);
    expect(first).toEqual([rounds[0]]);
    expect(await erase(portsOf(), { after: first[0] })).toMatchObject({ isDone: true, rows: 0 });
  });

  it("that cannot be read are named, and stay", async () => {
    const rounds = await lived();
    const { key } = (await world.snapshots.manifest(rounds[0]!)).objects[bucket]!;
    await world.s3.send(new PutObjectCommand({ Bucket: world.name, Key: key!, Body: "damaged" }));
    const { unreadable, isDone } = await erase();
    expect(isDone).toBe(true);
    expect(unreadable).toEqual([key]);
  });
});
