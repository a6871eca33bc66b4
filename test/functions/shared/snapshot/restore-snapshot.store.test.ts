/** Snapshots of a real store, its loss, and what a restore and a replay bring back: the oracle's values for every entity. */
import { PutObjectCommand } from "@aws-sdk/client-s3";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { RESTORE_LEASE } from "../../../../adapters/control-table/control-table.ts";
import { controlKey } from "../../../../adapters/valkey/layout.ts";
import { beginRestore } from "../../../../functions/shared/control-loop.ts";
import { finishRestore } from "../../../../functions/shared/snapshot/restore-snapshot.ts";
import { describeRounds } from "../../../../functions/shared/snapshot/rounds.ts";
import type { TestEmulator } from "../../../harness/emulator.ts";
import { compiled, each, MINUTE, pay, START } from "../../../support/bulk-payments.ts";
import { type BulkPayment, type BulkWorld, eachInBulkWorld, openBulkWorld } from "../../../support/bulk-world.ts";
import type { TestValkey } from "../../../support/valkey.ts";

let events = 0;
const SEED = 20_261_121;

let valkey: TestValkey;
let emulator: TestEmulator;
let world: BulkWorld;
eachInBulkWorld(compiled, START, (opened) => {
  ({ world, valkey, emulator } = opened);
});

/** So much later than it happened that the seal has passed it now and then. */
const payment = fc.record({
  step: fc.integer({ min: 0, max: 4 * MINUTE }),
  delay: fc.oneof(
    { weight: 9, arbitrary: fc.integer({ min: -30_000, max: 9 * MINUTE }) },
    { weight: 1, arbitrary: fc.integer({ min: 9 * MINUTE, max: 40 * MINUTE }) },
  ),
  card: fc.integer({ min: 0, max: 9 }).map((n) => `c${n}`),
  shop: fc.constantFrom(null, "s1", "s2"),
  amount: fc.constantFrom(null, 0.1, 7, 250, -3.5),
  country: fc.constantFrom("NO", "SE", null),
  tenant: fc.constantFrom("a", "b"),
});

describe("a store that is lost", () => {
  it("comes back from a snapshot and a replay with every value, whatever came before, during and after the round", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(payment, { minLength: 20, maxLength: 60 }),
        fc.array(fc.constantFrom("before", "within", "after"), { minLength: 60, maxLength: 60 }),
        async (raws, places) => {
          const own = await openBulkWorld(compiled, valkey, emulator, START);
          let atMs = START;
          const all = raws.map(({ step, delay, tenant, ...fields }) => {
            atMs += step;
            return { tenant, one: { id: `p${events++}`, arrivalMs: atMs, timeMs: atMs - delay, ...fields } };
          });
          const order = { before: 0, within: 1, after: 2 };
          const cut = places
            .slice(0, all.length)
            .map((place) => order[place])
            .sort();
          const parts = [0, 1, 2].map((place) => all.filter((_, i) => cut[i] === place));
          const deliver = async (part: readonly { tenant: string; one: BulkPayment }[]) => {
            for (const batch of [part.slice(0, part.length / 2), part.slice(part.length / 2)]) {
              for (const tenant of ["a", "b"])
                await own.deliver(
                  tenant,
                  batch.flatMap((each) => (each.tenant === tenant ? [each.one] : [])),
                );
              if (batch.length > 0) await own.sealBehind(batch[batch.length - 1].one.arrivalMs);
            }
          };
          try {
            await deliver(parts[0]);
            // A first round, so that the second takes over what has not changed.
            expect((await own.round()).outcome).toBe("complete");
            const within = [...parts[1]];
            const putObject = own.snapshots.putObject.bind(own.snapshots);
            await deliver(within.splice(0, 2));
            let meanwhile = Promise.resolve();
            own.snapshots.putObject = async (...args) => {
              meanwhile = meanwhile.then(() => deliver(within.splice(0, 9)));
              await meanwhile;
              return putObject(...args);
            };
            expect((await own.round()).outcome).toBe("complete");
            own.snapshots.putObject = putObject;
            await deliver(within);
            await deliver(parts[2]);
            expect(await own.differences(atMs)).toEqual([]);
            await own.flush();
            expect(await own.restore()).toMatchObject({ state: "loaded", epoch: 2, bucketsDone: 1024 });
            await own.replayAndOpen();
            expect(await own.differences(atMs)).toEqual([]);
            await own.sealBehind(atMs + 5 * MINUTE);
            await deliver([{ tenant: "a", one: pay((atMs - START) / MINUTE + 6, { card: "c1" }) }]);
            expect(await own.differences(atMs + 70 * MINUTE)).toEqual([]);
          } finally {
            await own.flush();
            await own.close();
          }
        },
      ),
      { seed: SEED, numRuns: 3, endOnFailure: true },
    );
  });

  it("counts nothing twice that was folded while the round went on, which sealed it for the entity and not for its bucket", async () => {
    const cards = Array.from({ length: 40 }, (_, i) => `c${i}`);
    const each = (minute: number) => cards.map((card) => pay(minute, { card, shop: null }));
    // The last of them in base tiles that no coarser tile has taken in at 23:04.
    for (const minute of [0, 12, 44, 46]) await world.deliver("a", each(minute));
    const putObject = world.snapshots.putObject.bind(world.snapshots);
    let meanwhile: Promise<void> | null = null;
    world.snapshots.putObject = async (...args) => {
      // All that was delivered is sealed, and folded where the next event comes. Buckets that are not read yet wait for it.
      meanwhile ??= world.sealBehind(START + 59 * MINUTE).then(() => world.deliver("a", each(60)));
      await meanwhile;
      return putObject(...args);
    };
    expect(await world.round()).toMatchObject({ outcome: "complete", entities: 40 });
    await world.flush();
    await world.restore();
    // Those that were read late are folded up to minute 47, their bucket's seal is still 12 minutes before the first event.
    expect(await world.replayAndOpen()).toBeLessThan(5 * 40);
    expect(await world.differences(START + 61 * MINUTE)).toEqual([]);
  });
});

describe("a round", () => {
  it("takes over what has not changed, and writes the buckets that have", async () => {
    await world.deliver("a", each(0));
    expect(await world.round()).toMatchObject({ outcome: "complete", entities: 12, written: 12 });
    expect(await world.round()).toMatchObject({ outcome: "complete", entities: 12, written: 0, bytes: 0 });
    await world.deliver("a", [pay(1, { card: "c3", shop: "new" })]);
    expect(await world.round()).toMatchObject({ outcome: "complete", entities: 13, written: 2 });
    const [first, , third] = await Promise.all(
      (await world.snapshots.rounds()).map((one) => world.snapshots.manifest(one)),
    );
    const kept = third.objects.filter(({ key }, i) => key !== null && key === first.objects[i].key);
    expect(kept).toHaveLength(11);
    await world.flush();
    await world.restore();
    await world.replayAndOpen();
    expect(await world.differences(START + 2 * MINUTE)).toEqual([]);
  });

  it("that is killed anywhere leaves the one before, and is gone on with", async () => {
    await world.deliver("a", each(0));
    const { round: before } = await world.round();
    await world.deliver("a", each(1));
    const { putObject, putManifest, putHead } = world.snapshots;
    for (const dies of ["head", 1, 7, "manifest"]) {
      let objects = 0;
      const fail = () => Promise.reject(new Error("killed"));
      world.snapshots.putHead = dies === "head" ? fail : putHead.bind(world.snapshots);
      world.snapshots.putManifest = dies === "manifest" ? fail : putManifest.bind(world.snapshots);
      world.snapshots.putObject = (...args) => (++objects === dies ? fail() : putObject.call(world.snapshots, ...args));
      await expect(world.round()).rejects.toThrow("killed");
      expect((await world.snapshots.rounds()).at(-1)).toBe(before);
    }
    Object.assign(world.snapshots, { putObject, putManifest, putHead });
    // All objects are there already.
    expect(await world.round()).toMatchObject({ outcome: "complete", entities: 12, written: 0 });
    expect(await world.round(0)).toMatchObject({ outcome: "unfinished" });
    await world.flush();
    await world.restore();
    await world.replayAndOpen();
    expect(await world.differences(START + 2 * MINUTE)).toEqual([]);
  });

  it("is held while a bucket is not open, and takes nothing for whole that was closed within it", async () => {
    await world.deliver("a", each(0));
    await world.controls.setState(1, ["ok"], "restoring");
    expect(await world.round()).toMatchObject({ outcome: "held", coveredMs: null });
    await world.controls.setState(1, ["restoring"], "ok");
    const putObject = world.snapshots.putObject.bind(world.snapshots);
    world.snapshots.putObject = async (...args) => {
      await world.controls.setState(1, ["ok"], "restoring");
      return putObject(...args);
    };
    expect(await world.round()).toMatchObject({ outcome: "held" });
    expect(await world.snapshots.rounds()).toEqual([]);
  });

  it("removes those that are too old, and no object that a younger one names", async () => {
    await world.deliver("a", each(0));
    const first = await world.round();
    await world.deliver("a", [pay(1, { card: "c3", shop: null })]);
    const second = await world.round(Number.POSITIVE_INFINITY, { keepMs: 0 });
    expect(await world.snapshots.rounds()).toEqual([second.round]);
    await expect(world.snapshots.manifest(first.round!)).rejects.toThrow(`there is no snapshot ${first.round}`);
    const { objects } = await world.snapshots.manifest(second.round!);
    expect(await world.snapshots.missing(objects)).toEqual([]);
    // Of the first, the object of the bucket that has changed since and the head are gone.
    expect(await world.snapshots.objects(first.round!)).toHaveLength(11);
  });
});

describe("a restore", () => {
  const bucketWith = async (round: string) =>
    (await world.snapshots.manifest(round)).objects.find(({ key }) => key !== null)!;
  const put = (key: string, body: Buffer) =>
    world.s3.send(new PutObjectCommand({ Bucket: world.name, Key: key, Body: body }));

  it("of a bucket whose object is damaged or gone takes the round before, and says so", async () => {
    await world.deliver("a", each(0));
    const first = await world.round();
    await world.deliver("a", each(1));
    const second = await world.round();
    const { bucket, key } = await bucketWith(second.round!);
    const bytes = (await world.snapshots.get(key!))!;
    bytes[bytes.length - 20] ^= 0xff;
    await put(key!, bytes);
    await world.flush();
    const report = await world.restore();
    expect(report).toMatchObject({ state: "loaded", snapshot: second.round });
    expect(Object.keys(report.older)).toEqual([String(bucket)]);
    expect(report.older[bucket]).toMatch(/a frame.*restored from round/);
    expect(report.older[bucket]).toContain(`${key}: snapshot object: `);
    expect(report.older[bucket]).toContain(first.round!);
    expect(report.startedMs).toBe(first.coveredMs);
    await world.replayAndOpen();
    expect(await world.differences(START + 2 * MINUTE)).toEqual([]);
  });

  it("of an older round abandons the newer ones of before: late events that were counted since are in none of them", async () => {
    const damages = async () => {
      const rounds = await describeRounds(world.snapshots, 9, await world.table.getAbandoned());
      return new Map(rounds.map(({ round, damage }) => [round, damage]));
    };
    await world.deliver("a", [pay(0)]);
    await world.sealBehind(START);
    const first = (await world.round()).round!;
    await world.deliver("a", [pay(30)]);
    await world.sealBehind(START + 30 * MINUTE);
    const second = (await world.round()).round!;
    expect([...(await damages()).values()]).toEqual([null, null]);
    await world.restore({ snapshot: first, replaceLive: true });
    await world.replayAndOpen();
    // Below the second round's seal, and counted, since the store is sealed less far.
    await world.deliver("a", [pay(31, { timeMs: START + 5 * MINUTE })]);
    expect(await world.differences(START + 31 * MINUTE)).toEqual([]);
    expect(await damages()).toEqual(
      new Map([
        [
          second,
          "an older round was restored since, or the store recovered without one: it lacks late events that were counted then",
        ],
        [first, null],
      ]),
    );
    await world.flush();
    expect(await world.restore()).toMatchObject({ state: "loaded", snapshot: first });
    await world.replayAndOpen();
    expect(await world.differences(START + 31 * MINUTE)).toEqual([]);
    const third = (await world.round()).round!;
    expect((await damages()).get(third)).toBeNull();
    expect((await damages()).get(second)).not.toBeNull();
  });

  it("is of no round from before the broker alone filled the store, sealed less far than any of them", async () => {
    await world.deliver("a", [pay(0), pay(30)]);
    await world.sealBehind(START + 30 * MINUTE);
    const before = (await world.round()).round!;
    await world.flush();
    await beginRestore(world.control, Date.now());
    await world.replayAndOpen();
    // Below the round's seal, and counted.
    await world.deliver("a", [pay(31, { timeMs: START + 5 * MINUTE })]);
    const [told] = await describeRounds(world.snapshots, 9, await world.table.getAbandoned());
    expect(told).toMatchObject({
      round: before,
      damage: expect.stringContaining("or the store recovered without one"),
    });
    await expect(world.restore({ buckets: [0], replaceLive: true })).rejects.toThrow(
      "every snapshot is older than the last recovery without one",
    );
    const after = (await world.round()).round!;
    expect(await world.restore({ replaceLive: true })).toMatchObject({ state: "loaded", snapshot: after });
    await world.replayAndOpen();
    expect(await world.differences(START + 31 * MINUTE)).toEqual([]);
  });

  it("without any whole object of a bucket is refused before anything is dropped, or leaves that bucket blocked", async () => {
    await world.deliver("a", each(0));
    const { round } = await world.round();
    const { bucket, key } = await bucketWith(round!);
    const bytes = (await world.snapshots.get(key!))!;
    await put(key!, bytes.subarray(0, bytes.length - 9));
    // Its size is not that of the manifest.
    await expect(world.restore({ replaceLive: true })).rejects.toThrow(
      `object ${key} of bucket ${bucket} cannot be restored, and no older round has another: it is not there`,
    );
    expect(await world.differences(START + MINUTE)).toEqual([]);
    bytes[bytes.length - 20] ^= 0xff;
    await put(key!, bytes);
    await expect(world.restore({ replaceLive: true })).rejects.toMatchObject({
      code: "snapshot_incomplete",
      message: expect.stringContaining(`object ${key} of bucket ${bucket} cannot be restored`),
    });
    const heads = await world.controls.heads();
    expect(heads.flatMap((head, i) => (head!.state === "loading" ? [i] : []))).toEqual([bucket]);
    expect((await world.controls.summary()).state).toBe("restoring");
    await expect(world.deliver("a", each(2))).rejects.toMatchObject({ code: "store_not_ready" });
  });

  it("that is cut off anywhere goes on, with what it had loaded", async () => {
    await world.deliver("a", each(0));
    await world.round();
    await world.flush();
    const nextEpoch = world.table.nextEpoch.bind(world.table);
    world.table.nextEpoch = () => Promise.reject(new Error("killed"));
    await expect(world.restore()).rejects.toThrow("killed");
    world.table.nextEpoch = nextEpoch;
    expect(await world.restore({}, 0)).toMatchObject({ state: "more", epoch: 2, bucketsDone: 0 });
    const get = world.snapshots.get.bind(world.snapshots);
    let objects = 0;
    world.snapshots.get = (key) =>
      key.startsWith("rounds/") && ++objects > 6 ? Promise.reject(new Error("killed")) : get(key);
    await expect(world.restore()).rejects.toThrow("killed");
    world.snapshots.get = get;
    const loaded = (await world.controls.heads()).filter((head) => head!.state === "restoring").length;
    expect(loaded).toBeGreaterThan(0);
    expect(await world.restore({ resume: true })).toMatchObject({ state: "loaded", epoch: 2, bucketsDone: 1024 });
    // A second one that comes now has nothing to load.
    expect(await world.restore()).toMatchObject({ state: "loaded", epoch: 2 });
    await world.replayAndOpen();
    expect(await world.differences(START + MINUTE)).toEqual([]);
    // What was repaired since is still to be built anew, by whoever comes; then it is over.
    expect(await world.restore({ resume: true })).toMatchObject({ state: "opened" });
    await finishRestore(world.restores);
    expect(await world.restore({ resume: true })).toMatchObject({ state: "none" });
  });

  it("waits for another one, and one that was overtaken writes nothing more", async () => {
    await world.deliver("a", each(0));
    await world.round();
    await world.flush();
    let open = () => {};
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    const get = world.snapshots.get.bind(world.snapshots);
    let reached = () => {};
    const atGate = new Promise<void>((resolve) => {
      reached = resolve;
    });
    let isFirst = true;
    world.snapshots.get = async (key) => {
      if (isFirst && key.startsWith("rounds/")) {
        reached();
        await gate;
      }
      return get(key);
    };
    const zombie = world.restore();
    await atGate;
    isFirst = false;
    expect(await world.restore()).toMatchObject({ state: "waiting" });
    // Its lease has run out, and another restore has begun the store anew.
    await world.table.releaseLease(RESTORE_LEASE, (await world.table.getLease(RESTORE_LEASE))!.holder);
    expect(await world.restore({ restart: true })).toMatchObject({ state: "loaded", epoch: 3 });
    open();
    await expect(zombie).rejects.toMatchObject({ code: "restore_overtaken" });
    await world.replayAndOpen();
    expect(await world.differences(START + MINUTE)).toEqual([]);
  });

  it("of a store that is served is refused without the word", async () => {
    await world.deliver("a", each(0));
    await world.round();
    const refusal = {
      code: "store_live",
      message: "1024 buckets are whole and served: nothing is dropped without --replace-live",
    };
    await expect(world.restore()).rejects.toMatchObject(refusal);
    await expect(world.restore({ buckets: [3] })).rejects.toMatchObject({ code: "store_live" });
    await expect(world.restore({ snapshot: "20200101" })).rejects.toMatchObject({ code: "store_live" });
    await expect(world.restore({ snapshot: "20200101", replaceLive: true })).rejects.toThrow(
      "there is no snapshot 20200101",
    );
    expect(await world.differences(START + MINUTE)).toEqual([]);
    expect(await world.restore({ replaceLive: true })).toMatchObject({ state: "loaded", epoch: 2 });
    await world.replayAndOpen();
    expect(await world.differences(START + MINUTE)).toEqual([]);
  });

  it("of one bucket leaves the others in their epoch, served meanwhile", async () => {
    await world.deliver("a", each(0));
    const { round } = await world.round();
    await world.deliver("a", each(1));
    const { bucket } = await bucketWith(round!);
    const admin = (await world.connection.primaries())[0];
    const keys = (await admin.keys(`{${bucket}}*`)).filter((key) => !key.endsWith("ctl"));
    expect(keys).toHaveLength(1);
    await admin.del(controlKey(bucket), ...keys);
    expect((await world.controls.summary()).present).toBe(1023);
    expect(await world.restore({ buckets: [bucket] })).toMatchObject({
      state: "loaded",
      epoch: 1,
      buckets: 1,
      records: 1,
    });
    const heads = await world.controls.heads();
    expect(heads.filter((head) => head!.state === "ok")).toHaveLength(1023);
    expect(await world.replayAndOpen()).toBe(1);
    expect(await world.differences(START + 2 * MINUTE)).toEqual([]);
    // In the next round that bucket is read anew, or found to be as it was.
    expect(await world.round()).toMatchObject({ outcome: "complete", entities: 12 });
  });

  it("of some buckets, cut off before the whole store was lost, is given up for one of all", async () => {
    await world.deliver("a", each(0));
    await world.round();
    const putRestore = world.table.putRestore.bind(world.table);
    for (const died of ["before its first bucket", "when its buckets were loaded"]) {
      const isFirst = died === "before its first bucket";
      const request = { buckets: [1, 2, 3], replaceLive: true, restart: true };
      if (isFirst) {
        world.table.putRestore = async (record) => {
          await putRestore(record);
          throw new Error("killed");
        };
        await expect(world.restore(request)).rejects.toThrow("killed");
        world.table.putRestore = putRestore;
        await world.flush();
      } else {
        expect(await world.restore(request)).toMatchObject({ state: "loaded" });
        const admin = (await world.connection.primaries())[0];
        await admin.del((await admin.keys("*")).filter((key) => !/^\{[123]\}/.test(key)));
      }
      expect((await world.controls.summary()).present).toBe(isFirst ? 0 : 3);
      expect(await world.restore({ resume: true })).toMatchObject({ state: "none" });
      expect(await world.restore()).toMatchObject({ state: "loaded", buckets: 1024, epoch: isFirst ? 2 : 3 });
      await world.replayAndOpen();
      expect(await world.differences(START + MINUTE)).toEqual([]);
    }
  });
});
