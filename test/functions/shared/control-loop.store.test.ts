/** The control loop on a real Valkey: seals, births, failovers and restores, minute by minute on a clock of our own. */
import { Redis } from "iovalkey";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { StoreApplier } from "../../../adapters/valkey/applier.ts";
import { ValkeyConnection } from "../../../adapters/valkey/connection.ts";
import { ControlHashes } from "../../../adapters/valkey/control.ts";
import {
  controlKey,
  decodeControl,
  decodeGroupControl,
  encodeControl,
  encodeGroupControl,
  groupField,
} from "../../../adapters/valkey/layout.ts";
import { RecordPacker } from "../../../adapters/valkey/record.ts";
import { type ShardInfo, Watermark, watermarkKey } from "../../../adapters/valkey/watermark.ts";
import { EMPTY_LOCK, type Lock } from "../../../core/compile.ts";
import * as d from "../../../core/definition.ts";
import type { Plan } from "../../../core/plan.ts";
import { accept, beginRestore, type ControlPorts, controlStep } from "../../../functions/shared/control-loop.ts";
import { currentEpoch } from "../../../functions/shared/current-store.ts";
import { first, HELD, planOf, refunds } from "../../support/control-plans.ts";
import { card, payments, shop } from "../../support/fixture-plan.ts";
import { MemoryControlTable } from "../../support/memory-control-table.ts";
import { startValkey, type TestValkey } from "../../support/valkey.ts";

const MINUTE = 60_000;
const TIMEOUT_MS = 60_000;
/** Lateness, the function's timeout and a minute: how far the seal stays behind. */
const LAG_MS = 10 * MINUTE + TIMEOUT_MS + MINUTE;
const NOW = Math.floor(Date.now() / MINUTE) * MINUTE + 17_000;
const CREATED = NOW - 5 * MINUTE;
const floor = (ms: number) => Math.floor(ms / MINUTE) * MINUTE;
const open = (id: string, parents: string[] = []): ShardInfo => ({ id, parents, closed: false });

let valkey: TestValkey;
let admin: Redis;
let connection: ValkeyConnection;
let table: MemoryControlTable;
let ports: ControlPorts;
beforeAll(async () => {
  valkey = await startValkey({ appendonly: true });
  admin = new Redis({ host: valkey.host, port: valkey.port });
  // It reconnects by itself after a restart.
  admin.on("error", () => {});
});
afterAll(async () => {
  admin?.disconnect();
  await valkey?.stop();
});
beforeEach(async () => {
  await admin.flushall();
  await admin.call("FUNCTION", "FLUSH");
  connection = new ValkeyConnection(valkey);
  table = new MemoryControlTable();
  ports = portsOf(first.plan);
});
afterEach(async () => {
  await connection.close();
});

const portsOf = (plan: Plan, lock: Lock = EMPTY_LOCK): ControlPorts => ({
  plan,
  lock,
  controls: new ControlHashes(connection, plan),
  watermark: new Watermark(connection),
  table: table.port,
  imports: async () => 0,
  timeoutMs: TIMEOUT_MS,
  loadFunction: () => new StoreApplier(connection, plan, 0).loadFunction(),
});
const shards = (...list: ShardInfo[]) => ({ payments: { createdAtMs: CREATED, shards: list } });
const tick = (nowMs: number, list: ShardInfo[] = [open("a")], of = ports) => controlStep(of, shards(...list), nowMs);
/** A store that has been there for a minute: created, its registrations begun. */
async function running(): Promise<void> {
  await tick(NOW);
  await tick(NOW + MINUTE);
}
const acknowledge = async (shard: string, arrivalMs: number, stream = "payments") => {
  const watermark = new Watermark(connection);
  const span = { shard, firstSequence: "1", firstArrivalMs: arrivalMs, lastSequence: "1" };
  const stamp = await watermark.register(stream, span);
  await watermark.clear(stream, shard, ["1"], arrivalMs, null, stamp);
};
const group = async (bucket: number, name = "card:payments") => {
  const raw = await admin.hgetBuffer(controlKey(bucket), groupField(name));
  return raw === null ? null : decodeGroupControl(raw);
};
const head = async (bucket = 0) => decodeControl((await admin.hgetBuffer(controlKey(bucket), "c"))!);
const births = async (bucket: number) =>
  Object.fromEntries(
    (await group(bucket))!.births.map(({ object, slot, baseIndex }) => [
      `${object ? "object" : "cell"} ${slot}`,
      baseIndex,
    ]),
  );
describe("the first run", () => {
  it("creates every bucket, loads the function, and opens the store", async () => {
    expect(await tick(NOW)).toMatchObject({ epoch: 1, state: "ok" });
    for (const bucket of [0, 511, 1_023]) {
      expect(await head(bucket)).toMatchObject({ epoch: 1, state: "ok" });
      expect(await births(bucket)).toEqual({ "cell 0": 0, "object 0": 0 });
    }
    expect((await admin.keys("{*}ctl")).length).toBe(1_024);
    expect(JSON.stringify(await admin.call("FUNCTION", "LIST"))).toContain("freshet_apply_");
    expect(table.store).toEqual({ epoch: 1, state: "ready" });
  });

  it("seals a new stream from its creation less lateness, timeout and margin", async () => {
    const { seals } = await tick(NOW);
    expect(seals).toEqual({ payments: floor(CREATED - LAG_MS) });
    expect((await group(700))!.sealIndex * MINUTE).toBe(floor(CREATED - LAG_MS));
    // The first sight decides: a list that comes later, or says otherwise, moves nothing.
    expect((await controlStep(ports, { payments: { createdAtMs: 0, shards: [] } }, NOW + MINUTE)).seals).toEqual(seals);
  });

  it("without a list of shards takes now for the creation", async () => {
    expect((await controlStep(ports, {}, NOW)).seals).toEqual({ payments: floor(NOW - LAG_MS) });
  });

  it.each(["putStream", "finishStore"])("that dies at %s is finished by the next", async (where) => {
    table.failNext = where;
    await expect(tick(NOW)).rejects.toMatchObject({ code: "control_table_unavailable" });
    // Whatever control hashes there are by now, nobody may apply to them.
    const head_ = await admin.hgetBuffer(controlKey(5), "c");
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
    expect((await ports.controls.summary()).present).toBe(1_024);
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
    const stamp = await ports.watermark.register("payments", {
      shard: "a",
      firstSequence: "7",
      firstArrivalMs: NOW + 2 * MINUTE,
      lastSequence: "9",
    });
    expect((await tick(NOW + 31 * MINUTE)).seals).toEqual({ payments: floor(NOW + 2 * MINUTE - LAG_MS) });
    await ports.watermark.clear("payments", "a", ["7", "8", "9"], NOW + 30 * MINUTE, null, stamp);
    expect(await controlStep(ports, {}, NOW + 32 * MINUTE)).toMatchObject({
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
    expect((await admin.hkeys(watermarkKey("payments"))).filter((field) => field.endsWith(":a"))).toEqual(["t:a"]);
    await tick(NOW + 7 * 60 * MINUTE, split.slice(1));
    expect((await admin.hkeys(watermarkKey("payments"))).filter((field) => field.endsWith(":a"))).toEqual([]);
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
    await admin.del(watermarkKey("payments"));
    await acknowledge("a", NOW + 31 * MINUTE);
    expect(await tick(NOW + 32 * MINUTE)).toMatchObject({ held: { payments: HELD.began }, seals: sealed });
    expect(await tick(NOW + 33 * MINUTE)).toMatchObject({ held: { payments: HELD.silent }, seals: sealed });
    await acknowledge("a", NOW + 50 * MINUTE);
    expect((await tick(NOW + 51 * MINUTE)).seals).toEqual({ payments: floor(NOW + 50 * MINUTE - LAG_MS) });
  });

  it("moves on when a batch was given up by its mapping, and forgets it", async () => {
    await running();
    await ports.watermark.register("payments", {
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
    expect((await admin.hkeys(watermarkKey("payments"))).sort()).toEqual(["c:a", "origin", "seal", "t:a"]);
  });
});

describe("a lease on the stream", () => {
  it("holds the seal until it expires or is given back", async () => {
    await running();
    await acknowledge("a", NOW + 5 * MINUTE);
    const before = (await group(3))!.sealIndex;
    expect(await table.takeLease("payments", { holder: "build 1", expiresMs: NOW + 6 * MINUTE }, NOW)).toBe(true);
    const { held } = await tick(NOW + 5 * MINUTE);
    expect(held).toEqual({
      payments: `build 1 holds it until ${new Date(NOW + 6 * MINUTE).toISOString()}`,
    });
    expect((await group(3))!.sealIndex).toBe(before);
    expect((await tick(NOW + 7 * MINUTE)).held).toEqual({});
    expect((await group(3))!.sealIndex).toBeGreaterThan(before);
  });
});

describe("births", () => {
  const born = (nowMs: number) => Math.ceil((nowMs + MINUTE + TIMEOUT_MS) / MINUTE);
  const second = planOf(
    { n: d.count().over("1h"), s: d.sum("amount", { scale: 2 }).over("1h"), last: d.last("country") },
    first.lock,
  );

  it("of added slots lie behind the last writer of the older plan, and stay where they are", async () => {
    await running();
    const later = portsOf(second.plan);
    const at = NOW + 10 * MINUTE;
    await tick(at, [open("a")], later);
    const expected = { "cell 0": 0, "object 0": 0, "cell 1": born(at), "cell 128": born(at) };
    expect(born(at) * MINUTE).toBeGreaterThanOrEqual(at + MINUTE + TIMEOUT_MS);
    for (const bucket of [0, 1_023]) expect(await births(bucket)).toEqual(expected);
    await tick(at + 9 * MINUTE, [open("a")], later);
    expect(await births(77)).toEqual(expected);
  });

  it("of removed slots are unset, and set anew when the plan comes back", async () => {
    await running();
    await tick(NOW + 10 * MINUTE, [open("a")], portsOf(second.plan));
    await tick(NOW + 20 * MINUTE);
    expect(await births(9)).toEqual({ "cell 0": 0, "object 0": 0 });
    const again = NOW + 30 * MINUTE;
    await tick(again, [open("a")], portsOf(second.plan));
    expect(await births(9)).toEqual({ "cell 0": 0, "object 0": 0, "cell 1": born(again), "cell 128": born(again) });
  });

  it("that a cut-off run wrote to some buckets only are set anew in all: others were not filled meanwhile", async () => {
    await running();
    const [{ name }] = second.plan.groups;
    const early = born(NOW + 10 * MINUTE);
    const { sealIndex, births: before } = (await group(0))!;
    const added = [
      { object: false, slot: 1, baseIndex: early },
      { object: false, slot: 128, baseIndex: early },
    ];
    for (const bucket of [0, 1, 2]) {
      await admin.hset(controlKey(bucket), groupField(name), encodeGroupControl(sealIndex, [...before, ...added]));
    }
    const at = NOW + 60 * MINUTE;
    await tick(at, [open("a")], portsOf(second.plan));
    for (const bucket of [0, 2, 3, 1_023]) {
      expect(await births(bucket)).toEqual({ "cell 0": 0, "object 0": 0, "cell 1": born(at), "cell 128": born(at) });
    }
  });

  it("keep the seal that each bucket has", async () => {
    await running();
    await acknowledge("a", NOW + 30 * MINUTE);
    await tick(NOW + 31 * MINUTE);
    await controlStep(portsOf(second.plan), {}, NOW + 32 * MINUTE);
    expect((await group(500))!.sealIndex * MINUTE).toBe(floor(NOW + 30 * MINUTE - LAG_MS));
  });

  it("that a build has completed in some buckets stay, while the seal moves and control runs on", async () => {
    await running();
    const second = planOf(
      { n: d.count().over("1h"), last: d.last("country"), total: d.sum("amount", { scale: 2 }).over("1h") },
      first.lock,
    ).plan;
    const now = portsOf(second);
    const at = NOW + 2 * MINUTE;
    await tick(at, [open("a")], now);
    const built = [1, 128].map((slot) => ({ object: false, slot }));
    const [{ id }] = second.groups;
    expect(id).toBe(1);
    const { sealIndex } = (await group(7))!;
    const early = { epoch: 1, sealIndex, fromIndex: 0 };
    // The seal has not passed the birth: what the old plan's code applies above it would be missing.
    expect(await now.controls.complete(second.groups[0], [7], early, built)).toEqual([true]);
    expect((await births(7))["cell 128"]).toBeGreaterThan(sealIndex);

    const later = at + 30 * MINUTE;
    await acknowledge("a", later);
    await tick(later, [open("a")], now);
    const after = { epoch: 1, sealIndex: (await group(7))!.sealIndex, fromIndex: 0 };
    const refused = [
      { ...after, epoch: 2 },
      { ...after, sealIndex },
    ];
    for (const wrong of refused)
      expect(await now.controls.complete(second.groups[0], [7], wrong, built)).toEqual([false]);
    expect(await now.controls.complete(second.groups[0], [7], after, built)).toEqual([true]);
    const done = await births(7);
    expect(done).toEqual({ ...(await births(8)), "cell 1": 0, "cell 128": 0 });
    expect((await births(8))["cell 128"]).toBeGreaterThan(0);

    await acknowledge("a", later + 5 * MINUTE);
    const { unready } = await tick(later + 5 * MINUTE, [open("a")], now);
    const sinceMs = (await births(8))["cell 128"] * MINUTE;
    expect(unready).toEqual([{ view: "v", stream: "payments", bucketsReady: 1, sinceMs }]);
    expect((await group(7))!.sealIndex).toBeGreaterThan(after.sealIndex);
    expect(await births(7)).toEqual(done);
    expect((await births(8))["cell 128"]).toBeGreaterThan(0);
  });

  it("of a new entity on an old stream are later; of a new stream's, its beginning", async () => {
    await running();
    const views = [
      d.featureView("shops", {
        entity: shop,
        source: payments,
        ttl: "2d",
        owner: "o",
        features: { n: d.count().over("1h") },
      }),
      d.featureView("refunded", {
        entity: card,
        source: refunds,
        ttl: "2d",
        owner: "o",
        features: { n: d.count().over("1h") },
      }),
    ];
    const wider = planOf({ n: d.count().over("1h"), last: d.last("country") }, first.lock, {
      streams: [payments, refunds],
      views,
    });
    const at = NOW + 10 * MINUTE;
    const { seals } = await tick(at, [open("a")], portsOf(wider.plan));
    expect((await group(5, "shop:payments"))!.births).toEqual([{ object: false, slot: 0, baseIndex: born(at) }]);
    expect((await group(5, "card:refunds"))!.births).toEqual([{ object: false, slot: 0, baseIndex: 0 }]);
    expect(seals["refunds"]).toBe(floor(at - LAG_MS));
    // The next run does not take the stream for old and set its births again.
    await tick(at + MINUTE, [open("a")], portsOf(wider.plan));
    expect((await group(5, "card:refunds"))!.births).toEqual([{ object: false, slot: 0, baseIndex: 0 }]);
  });

  it("come with the seal that its stream has, which a run of the older plan moves too", async () => {
    await running();
    await acknowledge("a", NOW + MINUTE);
    await tick(NOW + 2 * MINUTE);
    const sealed = floor(NOW + MINUTE - LAG_MS) / MINUTE;
    expect((await group(3))!.sealIndex).toBe(sealed);
    const shops = d.featureView("shops", {
      entity: shop,
      source: payments,
      ttl: "2d",
      owner: "o",
      features: { n: d.count().over("1h") },
    });
    const wider = planOf({ n: d.count().over("1h"), last: d.last("country") }, first.lock, { views: [shops] });
    // As a run that dies after the births: the seal of the shops has not been moved by anybody.
    const dying = portsOf(wider.plan);
    dying.controls.moveSeal = () => Promise.reject(new Error("killed"));
    await acknowledge("a", NOW + 3 * MINUTE);
    await expect(tick(NOW + 3 * MINUTE, [open("a")], dying)).rejects.toThrow("killed");
    expect((await group(3, "shop:payments"))!.sealIndex).toBe(sealed);
    await admin.hdel(watermarkKey("payments"), "next");
    await tick(NOW + 4 * MINUTE);
    expect((await group(3, "shop:payments"))!.sealIndex).toBe(sealed + 2);
    expect((await group(3))!.sealIndex).toBe(sealed + 2);
  });

  it("of a stream that had no view until now are later, since its events were acknowledged without one", async () => {
    const without = planOf({ n: d.count().over("1h") }, EMPTY_LOCK, { streams: [payments, refunds] });
    await tick(NOW, [open("a")], portsOf(without.plan));
    const view = d.featureView("refunded", {
      entity: card,
      source: refunds,
      ttl: "2d",
      owner: "o",
      features: { n: d.count().over("1h") },
    });
    const withOne = planOf({ n: d.count().over("1h") }, without.lock, { streams: [payments, refunds], views: [view] });
    await tick(NOW + 10 * MINUTE, [open("a")], portsOf(withOne.plan));
    expect((await group(5, "card:refunds"))!.births).toEqual([
      { object: false, slot: 0, baseIndex: born(NOW + 10 * MINUTE) },
    ]);
  });
});

describe("after a failover", () => {
  const changeHands = async () => {
    for (const bucket of [0, 8]) await admin.hset(controlKey(bucket), "c", encodeControl(1, "ok", "cd".repeat(20)));
  };

  it("seals stand until it is accepted, and registrations that came back from the dead hold nothing then", async () => {
    await running();
    await acknowledge("a", NOW + 30 * MINUTE);
    await tick(NOW + 31 * MINUTE);
    const sealed = { payments: floor(NOW + 30 * MINUTE - LAG_MS) };
    await changeHands();
    // What the lost suffix had cleared is outstanding again, and its invocation is long gone.
    await ports.watermark.register("payments", {
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
    await accept(ports, undefined, NOW + 50 * MINUTE);
    expect(await tick(NOW + 51 * MINUTE)).toMatchObject({
      state: "ok",
      held: { payments: HELD.silent },
      seals: sealed,
    });
    await acknowledge("a", NOW + 60 * MINUTE);
    expect((await tick(NOW + 61 * MINUTE)).seals).toEqual({ payments: floor(NOW + 60 * MINUTE - LAG_MS) });
    expect(await head(8)).toMatchObject({ state: "ok" });
    expect(await ports.controls.noticeFailover()).toBe(0);
  });

  it("a replay that yet another primary has overtaken is not accepted", async () => {
    await running();
    const { runs } = await tick(NOW + 2 * MINUTE);
    await changeHands();
    await tick(NOW + 3 * MINUTE);
    await accept(ports, "another", NOW + 4 * MINUTE);
    expect((await head(8)).state).toBe("failover");
    await accept(ports, runs, NOW + 5 * MINUTE);
    expect((await head(8)).state).toBe("ok");
  });

  it("a primary that comes to answer while a replay is accepted is not taken for whole", async () => {
    await running();
    await changeHands();
    const { state, runs } = await tick(NOW + 2 * MINUTE);
    expect(state).toBe("failover");
    const watermark = new Watermark(connection);
    const restart = watermark.restart.bind(watermark);
    // After the comparison, before the store is opened.
    watermark.restart = async (stream, nowMs) => {
      await valkey.restart();
      // The connection comes back by itself, on a busy machine later than a call waits for it.
      const back = () =>
        ports.controls.summary().then(
          () => true,
          () => false,
        );
      for (let tries = 0; tries < 20 && !(await back()); tries++);
      await restart(stream, nowMs);
    };
    await accept({ ...ports, watermark }, runs, NOW + 3 * MINUTE);
    expect(await tick(NOW + 4 * MINUTE)).toMatchObject({ state: "failover" });
  });

  it("that lost even the opening of the store, what was applied since is missed too", async () => {
    await running();
    // As a primary comes back that had not yet written the end of its log.
    for (const bucket of [0, 8]) await admin.hset(controlKey(bucket), "c", encodeControl(1, "new", "cd".repeat(20)));
    expect(await tick(NOW + 2 * MINUTE)).toMatchObject({ state: "failover" });
    await accept(ports, undefined, NOW + 3 * MINUTE);
    expect(await tick(NOW + 4 * MINUTE)).toMatchObject({ state: "ok" });
  });

  it("that was a clean restart nothing is frozen", async () => {
    await running();
    await changeHands();
    expect(await controlStep(ports, {}, NOW + 3 * MINUTE, { cleanRestart: true })).toMatchObject({ state: "ok" });
    expect(await ports.controls.noticeFailover()).toBe(0);
  });
});

describe("a store that has lost a control hash", () => {
  it("is lost: nothing is written, and no seal moves", async () => {
    await running();
    await acknowledge("a", NOW + 30 * MINUTE);
    await admin.del(controlKey(100));
    expect(await tick(NOW + 31 * MINUTE)).toMatchObject({ state: "lost", bucketsNotOk: 1, seals: {}, held: {} });
    expect((await group(0))!.sealIndex * MINUTE).toBe(floor(CREATED - LAG_MS));
    expect(await admin.exists(controlKey(100))).toBe(0);
  });

  it("is restored under the next epoch, open for replays alone, with nothing left of the old one", async () => {
    await running();
    const packer = new RecordPacker(first.plan, "payments");
    const at = NOW - MINUTE;
    const event = packer.prepare("default", "e1", at, { id: "e1", at, card: "c1", country: "NO" });
    await new StoreApplier(connection, first.plan, 1).apply([event]);
    await acknowledge("a", NOW + 30 * MINUTE);
    await tick(NOW + 31 * MINUTE);
    await admin.del(controlKey(100));
    expect(await beginRestore(ports, NOW + 40 * MINUTE)).toBe(2);
    expect(table.store).toEqual({ epoch: 2, state: "ready" });
    expect(await admin.exists(event.updates[0].key)).toBe(0);
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
    await expect(new StoreApplier(connection, first.plan, 2).apply([event])).rejects.toMatchObject({
      code: "store_not_ready",
    });
    const replay = new StoreApplier(connection, first.plan, 2, { replaying: true });
    expect((await replay.apply([event])).fates[0][0].fate).toBe("applied");
    await accept(ports, undefined, NOW + 43 * MINUTE);
    expect((await new StoreApplier(connection, first.plan, 2).apply([event])).fates[0][0].fate).toBe("duplicate");
    expect(await tick(NOW + 44 * MINUTE)).toMatchObject({ epoch: 2, state: "ok", bucketsNotOk: 0 });
  });

  it("is restored all the same when the first try dies half-way", async () => {
    await running();
    await admin.del(controlKey(100));
    table.failNext = "nextEpoch";
    await expect(beginRestore(ports, NOW + 40 * MINUTE)).rejects.toMatchObject({ code: "control_table_unavailable" });
    expect(await tick(NOW + 41 * MINUTE)).toMatchObject({ epoch: 1, state: "lost" });
    expect(await beginRestore(ports, NOW + 42 * MINUTE)).toBe(2);
    expect(await tick(NOW + 43 * MINUTE)).toMatchObject({ epoch: 2, state: "restoring" });
  });

  it("is the only one that is ever dropped", async () => {
    await expect(beginRestore(ports, NOW)).rejects.toThrow("there was never a store to restore");
    await running();
    const refusal = {
      code: "store_not_lost",
      message: "the online store has all of its control hashes: nothing is dropped",
    };
    await expect(beginRestore(ports, NOW + 2 * MINUTE)).rejects.toMatchObject(refusal);
    await admin.hset(controlKey(8), "c", encodeControl(1, "ok", "cd".repeat(20)));
    await ports.controls.noticeFailover();
    await expect(beginRestore(ports, NOW + 2 * MINUTE)).rejects.toMatchObject(refusal);
    expect(await tick(NOW + 3 * MINUTE)).toMatchObject({ epoch: 1, state: "failover" });
  });
});

describe("a lock that comes back from the past", () => {
  const one = planOf({ n: d.count().over("24h"), spent: d.sum("amount", { scale: 2 }).over("1h") });
  const two = planOf(
    { n: d.count().over("24h"), spent: d.sum("amount", { scale: 2 }).over("1h"), far: d.max("amount").over("1h") },
    one.lock,
  );
  const cell = (plan: Plan, kind: string) => `cell ${plan.groups[0].slots.find((slot) => slot.kind === kind)!.id}`;
  const tickOf = ({ plan, lock }: { plan: Plan; lock: Lock }, minute: number) =>
    tick(NOW + minute * MINUTE, [open("a")], portsOf(plan, lock));

  it("may lack what is newer, and a plan that follows it may not give those ids away", async () => {
    await tickOf(one, 0);
    await tickOf(two, 1);
    expect(table.lock).toEqual(two.lock);
    const before = await births(0);
    // `git revert` and another feature in one go: the id of the maximum goes to a minimum, in tiles that hold the maximum.
    const reverted = planOf({ n: d.count().over("24h"), near: d.min("amount").over("1h") }, one.lock);
    expect(cell(reverted.plan, "min")).toBe(cell(two.plan, "max"));
    await expect(tickOf(reverted, 2)).rejects.toMatchObject({
      code: "plan_lock_contradicts",
      message: expect.stringMatching(
        /^slot cell 64 of card:payments is min\{.*\} in this .*, but max\{.*\} in what is stored/,
      ),
      repair: expect.stringContaining("take the newest plan.lock.json"),
    });
    expect(await births(0)).toEqual(before);
    expect(table.lock).toEqual(two.lock);
    await expect(currentEpoch(table.port, reverted.lock)).rejects.toMatchObject({ code: "plan_lock_contradicts" });

    // The revert alone contradicts nothing; the maximum is remembered, and still nobody else's.
    expect(await tickOf(one, 3)).toMatchObject({ state: "ok" });
    expect(Object.keys(await births(0))).not.toContain(cell(two.plan, "max"));
    await expect(tickOf(reverted, 4)).rejects.toMatchObject({ code: "plan_lock_contradicts" });
    const mended = planOf({ n: d.count().over("24h"), near: d.min("amount").over("1h") }, two.lock);
    expect(await tickOf(mended, 5)).toMatchObject({ state: "ok" });
    expect(await currentEpoch(table.port, mended.lock)).toBe(1);
  });

  it("may claim windows whose tiles are gone: those slots begin anew", async () => {
    await tickOf(one, 0);
    await tickOf(two, 1);
    const sum = cell(one.plan, "sum");
    // The count stays in its slot when only half a day of it is left, and what the day needed is pruned.
    const half = planOf(
      { n: d.count().over("12h").every("1h"), spent: d.sum("amount", { scale: 2 }).over("1h") },
      two.lock,
    );
    expect(cell(half.plan, "count")).toBe(cell(one.plan, "count"));
    await tickOf(half, 2);
    const before = await births(0);
    await tickOf(one, 30);
    const after = await births(0);
    expect(after[sum]).toBe(before[sum]);
    expect(after[cell(one.plan, "count")] * MINUTE).toBeGreaterThan(NOW + 31 * MINUTE);
    // Once: the claim is true from its birth on.
    await tickOf(one, 40);
    expect(await births(0)).toEqual(after);
  });

  it("is no danger to a store that is restored: nothing in it is older", async () => {
    await tickOf(one, 0);
    await tickOf(two, 1);
    await admin.del(controlKey(100));
    const reverted = planOf({ n: d.count().over("24h"), near: d.min("amount").over("1h") }, one.lock);
    expect(await tickOf(reverted, 2)).toMatchObject({ state: "lost" });
    await beginRestore(portsOf(reverted.plan, reverted.lock), NOW + 3 * MINUTE);
    expect(await tickOf(reverted, 4)).toMatchObject({ state: "restoring" });
  });
});
