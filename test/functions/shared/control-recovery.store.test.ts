/** What control makes of a store that has failed over or lost a control hash, on a real Valkey, minute by minute on a clock of our own. */
import { describe, expect, it } from "vitest";
import { StoreApplier } from "../../../adapters/valkey/applier.ts";
import { controlKey, encodeControl } from "../../../adapters/valkey/layout.ts";
import { RecordPacker } from "../../../adapters/valkey/record.ts";
import { Watermark } from "../../../adapters/valkey/watermark.ts";
import { accept, beginRestore, controlStep } from "../../../functions/shared/control-loop.ts";
import { first, HELD } from "../../support/control-plans.ts";
import {
  acknowledge,
  births,
  CREATED,
  floor,
  group,
  head,
  LAG_MS,
  MINUTE,
  NOW,
  running,
  tick,
  useControlWorld,
} from "../../support/control-world.ts";

const world = useControlWorld();

describe("after a failover", () => {
  const changeHands = async () => {
    for (const bucket of [0, 8])
      await world.admin.hset(controlKey(bucket), "c", encodeControl(1, "ok", "cd".repeat(20)));
  };

  it("seals stand until it is accepted, and registrations that came back from the dead hold nothing then", async () => {
    await running();
    await acknowledge("a", NOW + 30 * MINUTE);
    await tick(NOW + 31 * MINUTE);
    const sealed = { payments: floor(NOW + 30 * MINUTE - LAG_MS) };
    await changeHands();
    // What the lost suffix had cleared is outstanding again, and its invocation is long gone.
    await world.ports.watermark.register("payments", {
      shard: "a",
      firstSequence: "5",
      firstArrivalMs: NOW + 29 * MINUTE,
      lastSequence: "6",
    });
    await acknowledge("a", NOW + 40 * MINUTE);
    for (const minute of [41, 42]) {
      const report = await tick(NOW + minute * MINUTE);
      expect(report).toMatchObject({ state: "failover", seals: sealed });
      expect(report.bucketsNotOk).toBeGreaterThan(0);
    }
    await accept(world.ports, undefined, NOW + 50 * MINUTE);
    expect(await tick(NOW + 51 * MINUTE)).toMatchObject({
      state: "ok",
      held: { payments: HELD.silent },
      seals: sealed,
    });
    await acknowledge("a", NOW + 60 * MINUTE);
    expect((await tick(NOW + 61 * MINUTE)).seals).toEqual({ payments: floor(NOW + 60 * MINUTE - LAG_MS) });
    expect(await head(8)).toMatchObject({ state: "ok" });
    expect(await world.ports.controls.noticeFailover()).toBe(0);
  });

  it("a replay that yet another primary has overtaken is not accepted", async () => {
    await running();
    const { runs } = await tick(NOW + 2 * MINUTE);
    await changeHands();
    await tick(NOW + 3 * MINUTE);
    await accept(world.ports, "another", NOW + 4 * MINUTE);
    expect((await head(8)).state).toBe("failover");
    await accept(world.ports, runs, NOW + 5 * MINUTE);
    expect((await head(8)).state).toBe("ok");
  });

  it("a primary that comes to answer while a replay is accepted is not taken for whole", async () => {
    await running();
    await changeHands();
    const { state, runs } = await tick(NOW + 2 * MINUTE);
    expect(state).toBe("failover");
    const watermark = new Watermark(world.connection);
    const restart = watermark.restart.bind(watermark);
    // After the comparison, before the store is opened.
    watermark.restart = async (stream, nowMs) => {
      await world.valkey.restart();
      // The connection comes back by itself, on a busy machine later than a call waits for it.
      const back = () =>
        world.ports.controls.summary().then(
          () => true,
          () => false,
        );
      for (let tries = 0; tries < 20 && !(await back()); tries++);
      await restart(stream, nowMs);
    };
    await accept({ ...world.ports, watermark }, runs, NOW + 3 * MINUTE);
    expect(await tick(NOW + 4 * MINUTE)).toMatchObject({ state: "failover" });
  });

  it("that lost even the opening of the store, what was applied since is missed too", async () => {
    await running();
    // As a primary comes back that had not yet written the end of its log.
    for (const bucket of [0, 8])
      await world.admin.hset(controlKey(bucket), "c", encodeControl(1, "new", "cd".repeat(20)));
    expect(await tick(NOW + 2 * MINUTE)).toMatchObject({ state: "failover" });
    await accept(world.ports, undefined, NOW + 3 * MINUTE);
    expect(await tick(NOW + 4 * MINUTE)).toMatchObject({ state: "ok" });
  });

  it("that was a clean restart nothing is frozen", async () => {
    await running();
    await changeHands();
    expect(await controlStep(world.ports, {}, NOW + 3 * MINUTE, { cleanRestart: true })).toMatchObject({ state: "ok" });
    expect(await world.ports.controls.noticeFailover()).toBe(0);
  });
});

describe("a store that has lost a control hash", () => {
  it("is lost: nothing is written, and no seal moves", async () => {
    await running();
    await acknowledge("a", NOW + 30 * MINUTE);
    await world.admin.del(controlKey(100));
    expect(await tick(NOW + 31 * MINUTE)).toMatchObject({ state: "lost", bucketsNotOk: 1, seals: {}, held: {} });
    expect((await group(0))!.sealIndex * MINUTE).toBe(floor(CREATED - LAG_MS));
    expect(await world.admin.exists(controlKey(100))).toBe(0);
  });

  it("is restored under the next epoch, open for replays alone, with nothing left of the old one", async () => {
    await running();
    const packer = new RecordPacker(first.plan, "payments");
    const at = NOW - MINUTE;
    const event = packer.prepare("default", "e1", at, { id: "e1", at, card: "c1", country: "NO" });
    await new StoreApplier(world.connection, first.plan, 1).apply([event]);
    await acknowledge("a", NOW + 30 * MINUTE);
    await tick(NOW + 31 * MINUTE);
    await world.admin.del(controlKey(100));
    expect(await beginRestore(world.ports, NOW + 40 * MINUTE)).toBe(2);
    expect(world.table.store).toEqual({ epoch: 2, state: "ready" });
    expect(await world.admin.exists(event.updates[0].key)).toBe(0);
    for (const bucket of [0, 100]) {
      expect(await head(bucket)).toMatchObject({ epoch: 2, state: "restoring" });
      expect((await group(bucket))!.sealIndex * MINUTE).toBe(floor(CREATED - LAG_MS));
      expect(await births(bucket)).toEqual({ "cell 0": 0, "object 0": 0 });
    }
    await acknowledge("a", NOW + 41 * MINUTE);
    expect(await tick(NOW + 42 * MINUTE)).toMatchObject({
      state: "restoring",
      seals: { payments: floor(CREATED - LAG_MS) },
    });
    await expect(new StoreApplier(world.connection, first.plan, 2).apply([event])).rejects.toMatchObject({
      code: "store_not_ready",
    });
    const replay = new StoreApplier(world.connection, first.plan, 2, { replaying: true });
    expect((await replay.apply([event])).fates[0][0].fate).toBe("applied");
    await accept(world.ports, undefined, NOW + 43 * MINUTE);
    expect((await new StoreApplier(world.connection, first.plan, 2).apply([event])).fates[0][0].fate).toBe("duplicate");
    expect(await tick(NOW + 44 * MINUTE)).toMatchObject({ epoch: 2, state: "ok", bucketsNotOk: 0 });
  });

  it("is restored all the same when the first try dies half-way", async () => {
    await running();
    await world.admin.del(controlKey(100));
    world.table.failNext = "nextEpoch";
    await expect(beginRestore(world.ports, NOW + 40 * MINUTE)).rejects.toMatchObject({
      code: "control_table_unavailable",
    });
    expect(await tick(NOW + 41 * MINUTE)).toMatchObject({ epoch: 1, state: "lost" });
    expect(await beginRestore(world.ports, NOW + 42 * MINUTE)).toBe(2);
    expect(await tick(NOW + 43 * MINUTE)).toMatchObject({ epoch: 2, state: "restoring" });
  });

  it("is the only one that is ever dropped", async () => {
    await expect(beginRestore(world.ports, NOW)).rejects.toThrow("there was never a store to restore");
    await running();
    const refusal = {
      code: "store_not_lost",
      message: "the online store has all of its control hashes: nothing is dropped",
    };
    await expect(beginRestore(world.ports, NOW + 2 * MINUTE)).rejects.toMatchObject(refusal);
    await world.admin.hset(controlKey(8), "c", encodeControl(1, "ok", "cd".repeat(20)));
    await world.ports.controls.noticeFailover();
    await expect(beginRestore(world.ports, NOW + 2 * MINUTE)).rejects.toMatchObject(refusal);
    expect(await tick(NOW + 3 * MINUTE)).toMatchObject({ epoch: 1, state: "failover" });
  });
});
