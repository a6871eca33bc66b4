/** The control loop on a real Valkey: the first run and the seal, minute by minute on a clock of our own. */
import { describe, expect, it } from "vitest";
import { controlKey, decodeControl } from "../../../adapters/valkey/layout.ts";
import { watermarkKey } from "../../../adapters/valkey/watermark.ts";
import { controlStep } from "../../../functions/shared/control-loop.ts";
import { HELD } from "../../support/control-plans.ts";
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
  open,
  running,
  tick,
  useControlWorld,
} from "../../support/control-world.ts";

const world = useControlWorld();

describe("the first run", () => {
  it("creates every bucket, loads the function, and opens the store", async () => {
    expect(await tick(NOW)).toMatchObject({ epoch: 1, state: "ok" });
    for (const bucket of [0, 511, 1_023]) {
      expect(await head(bucket)).toMatchObject({ epoch: 1, state: "ok" });
      expect(await births(bucket)).toEqual({ "cell 0": 0, "object 0": 0 });
    }
    expect((await world.admin.keys("{*}ctl")).length).toBe(1_024);
    expect(JSON.stringify(await world.admin.call("FUNCTION", "LIST"))).toContain("freshet_apply_");
    expect(world.table.store).toEqual({ epoch: 1, state: "ready" });
  });

  it("seals a new stream from its creation less lateness, timeout and margin", async () => {
    const { seals } = await tick(NOW);
    expect(seals).toEqual({ payments: floor(CREATED - LAG_MS) });
    expect((await group(700))!.sealIndex * MINUTE).toBe(floor(CREATED - LAG_MS));
    // The first sight decides: a list that comes later, or says otherwise, moves nothing.
    expect((await controlStep(world.ports, { payments: { createdAtMs: 0, shards: [] } }, NOW + MINUTE)).seals).toEqual(
      seals,
    );
  });

  it("without a list of shards takes now for the creation", async () => {
    expect((await controlStep(world.ports, {}, NOW)).seals).toEqual({ payments: floor(NOW - LAG_MS) });
  });

  it.each(["putStream", "finishStore"])("that dies at %s is finished by the next", async (where) => {
    world.table.failNext = where;
    await expect(tick(NOW)).rejects.toMatchObject({ code: "control_table_unavailable" });
    // Whatever control hashes there are by now, nobody may apply to them.
    const head_ = await world.admin.hgetBuffer(controlKey(5), "c");
    if (head_ !== null) expect(decodeControl(head_).state).toBe("new");
    expect(await tick(NOW + MINUTE)).toMatchObject({
      epoch: 1,
      state: "ok",
      seals: { payments: floor(CREATED - LAG_MS) },
    });
  });

  it("may run twice at once", async () => {
    const reports = await Promise.all([tick(NOW), tick(NOW)]);
    expect(reports.map(({ state, epoch }) => [state, epoch])).toEqual([
      ["ok", 1],
      ["ok", 1],
    ]);
    expect((await world.ports.controls.summary()).present).toBe(1_024);
  });
});

describe("the seal", () => {
  it("stands until registrations have begun and every shard has acknowledged since", async () => {
    await acknowledge("a", NOW - MINUTE);
    expect((await tick(NOW, [open("a"), open("b")])).held).toEqual({ payments: HELD.began });
    expect((await tick(NOW + MINUTE, [open("a"), open("b")])).held).toEqual({ payments: HELD.silent });
    await acknowledge("a", NOW + 90_000);
    expect((await tick(NOW + 2 * MINUTE, [open("a"), open("b")])).held).toEqual({ payments: HELD.silent });
    await acknowledge("b", NOW + 100_000);
    const { held, seals } = await tick(NOW + 3 * MINUTE, [open("a"), open("b")]);
    expect([held, seals]).toEqual([{}, { payments: floor(NOW + 90_000 - LAG_MS) }]);
    expect((await group(1_023))!.sealIndex * MINUTE).toBe(floor(NOW + 90_000 - LAG_MS));
  });

  it("is held by a batch that is begun, and by the absence of a list", async () => {
    await running();
    await acknowledge("a", NOW + 30 * MINUTE);
    const stamp = await world.ports.watermark.register("payments", {
      shard: "a",
      firstSequence: "7",
      firstArrivalMs: NOW + 2 * MINUTE,
      lastSequence: "9",
    });
    expect((await tick(NOW + 31 * MINUTE)).seals).toEqual({ payments: floor(NOW + 2 * MINUTE - LAG_MS) });
    await world.ports.watermark.clear("payments", "a", ["7", "8", "9"], NOW + 30 * MINUTE, null, stamp);
    expect(await controlStep(world.ports, {}, NOW + 32 * MINUTE)).toMatchObject({
      held: { payments: HELD.unlisted },
      seals: { payments: floor(NOW + 2 * MINUTE - LAG_MS) },
    });
    expect((await tick(NOW + 33 * MINUTE)).seals).toEqual({ payments: floor(NOW + 30 * MINUTE - LAG_MS) });
  });

  it("goes through a split once the children are worked on", async () => {
    await running();
    await acknowledge("a", NOW + 20 * MINUTE);
    await tick(NOW + 21 * MINUTE);
    const split = [{ ...open("a"), closed: true }, open("l", ["a"]), open("r", ["a"])];
    const sealed = floor(NOW + 20 * MINUTE - LAG_MS);
    expect(await tick(NOW + 25 * MINUTE, split)).toMatchObject({
      held: { payments: HELD.silent },
      seals: { payments: sealed },
    });
    await acknowledge("l", NOW + 40 * MINUTE);
    await acknowledge("r", NOW + 41 * MINUTE);
    expect((await tick(NOW + 42 * MINUTE, split)).seals).toEqual({ payments: floor(NOW + 40 * MINUTE - LAG_MS) });
    // When the parent has expired, nothing of it stays in the hash, and of who worked on it nothing after six hours.
    await tick(NOW + 43 * MINUTE, split.slice(1));
    expect((await world.admin.hkeys(watermarkKey("payments"))).filter((field) => field.endsWith(":a"))).toEqual([
      "t:a",
    ]);
    await tick(NOW + 7 * 60 * MINUTE, split.slice(1));
    expect((await world.admin.hkeys(watermarkKey("payments"))).filter((field) => field.endsWith(":a"))).toEqual([]);
  });

  it("never goes back: a shard that turns up late holds it where it is", async () => {
    await running();
    await acknowledge("a", NOW + 30 * MINUTE);
    await tick(NOW + 31 * MINUTE);
    const sealed = floor(NOW + 30 * MINUTE - LAG_MS);
    await acknowledge("b", NOW + 2 * MINUTE);
    expect((await tick(NOW + 32 * MINUTE, [open("a"), open("b")])).seals).toEqual({ payments: sealed });
    expect((await group(3))!.sealIndex * MINUTE).toBe(sealed);
  });

  it("stands after the registrations are lost, until every shard has acknowledged a later arrival", async () => {
    await running();
    await acknowledge("a", NOW + 30 * MINUTE);
    await tick(NOW + 31 * MINUTE);
    const sealed = { payments: floor(NOW + 30 * MINUTE - LAG_MS) };
    await world.admin.del(watermarkKey("payments"));
    await acknowledge("a", NOW + 31 * MINUTE);
    expect(await tick(NOW + 32 * MINUTE)).toMatchObject({ held: { payments: HELD.began }, seals: sealed });
    expect(await tick(NOW + 33 * MINUTE)).toMatchObject({ held: { payments: HELD.silent }, seals: sealed });
    await acknowledge("a", NOW + 50 * MINUTE);
    expect((await tick(NOW + 51 * MINUTE)).seals).toEqual({ payments: floor(NOW + 50 * MINUTE - LAG_MS) });
  });

  it("moves on when a batch was given up by its mapping, and forgets it", async () => {
    await running();
    await world.ports.watermark.register("payments", {
      shard: "a",
      firstSequence: "7",
      firstArrivalMs: NOW,
      lastSequence: "9",
    });
    await acknowledge("a", NOW + 60 * MINUTE);
    expect((await tick(NOW + 61 * MINUTE)).seals).toEqual({
      payments: floor(NOW - LAG_MS),
    });
    const later = NOW + 7 * 60 * MINUTE;
    await acknowledge("a", later);
    expect((await tick(later)).seals).toEqual({ payments: floor(later - LAG_MS) });
    expect((await world.admin.hkeys(watermarkKey("payments"))).sort()).toEqual(["c:a", "origin", "seal", "t:a"]);
  });
});

describe("a lease on the stream", () => {
  it("holds the seal until it expires or is given back", async () => {
    await running();
    await acknowledge("a", NOW + 5 * MINUTE);
    const before = (await group(3))!.sealIndex;
    expect(await world.table.takeLease("payments", { holder: "build 1", expiresMs: NOW + 6 * MINUTE }, NOW)).toBe(true);
    const { held } = await tick(NOW + 5 * MINUTE);
    expect(held).toEqual({
      payments: `build 1 holds it until ${new Date(NOW + 6 * MINUTE).toISOString()}`,
    });
    expect((await group(3))!.sealIndex).toBe(before);
    expect((await tick(NOW + 7 * MINUTE)).held).toEqual({});
    expect((await group(3))!.sealIndex).toBeGreaterThan(before);
  });
});
