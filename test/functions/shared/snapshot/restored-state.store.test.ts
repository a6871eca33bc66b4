/** What may be served after a restore: under another plan, after imports and builds since the snapshot, and what was pushed. */
import { describe, expect, it } from "vitest";
import { type BuildRecord, noBuckets } from "../../../../adapters/control-table/build-progress.ts";
import { hash64 } from "../../../../adapters/hash.ts";
import { ControlHashes } from "../../../../adapters/valkey/control.ts";
import { bucketOf, controlKey, encodeControl, pushedKey } from "../../../../adapters/valkey/layout.ts";
import { packValues } from "../../../../adapters/valkey/packed.ts";
import { createReader } from "../../../../adapters/valkey/reader.ts";
import { compile, EMPTY_LOCK } from "../../../../core/compile/compile.ts";
import * as d from "../../../../core/definition.ts";
import { repeatAfterFailover } from "../../../../functions/shared/materialization/restore-pushed.ts";
import { compiled, each, MINUTE, START } from "../../../support/bulk-payments.ts";
import { type BulkWorld, eachInBulkWorld } from "../../../support/bulk-world.ts";
import { card, contracts, definitions, payments } from "../../../support/fixture-plan.ts";
import type { TestValkey } from "../../../support/valkey.ts";

let valkey: TestValkey;
let world: BulkWorld;
eachInBulkWorld(compiled, START, (opened) => {
  ({ world, valkey } = opened);
});

describe("a restore", () => {
  it("under a plan with more features gives the old ones, and the new ones from now on alone", async () => {
    await world.deliver("a", each(0));
    await world.round();
    await world.flush();
    const of = { entity: card, source: payments, ttl: "40d", owner: "tests" } as const;
    const more = d.featureView("more", { ...of, features: { top: d.max("amount").over("24h") } });
    const later = compile({ ...definitions, views: [...definitions.views, more] }, contracts, compiled.lock, hash64);
    const controls = new ControlHashes(world.connection, later.plan);
    expect(
      await world.restore({}, Number.POSITIVE_INFINITY, { plan: later.plan, lock: later.lock, controls }),
    ).toMatchObject({ state: "loaded" });
    await world.replayAndOpen();
    expect(await world.differences(START + MINUTE)).toEqual([]);
    const reader = createReader(later.plan, { host: valkey.host, port: valkey.port, timeoutMs: 20_000 });
    try {
      const [{ values }] = await reader.read(
        [{ tenant: "a", entity: "card", id: "c1", features: ["more:top_24h"] }],
        START + MINUTE,
      );
      expect(values[0].status).toBe("NOT_READY");
    } finally {
      await reader.close();
    }
    // Ids that mean something else are refused, with nothing dropped.
    const other = compile(
      {
        ...definitions,
        views: [d.featureView("everything", { ...of, features: { n: d.max("amount").over("1h") } })],
      },
      contracts,
      EMPTY_LOCK,
      hash64,
    );
    await expect(world.restore({ replaceLive: true }, 0, { plan: other.plan, lock: other.lock })).rejects.toMatchObject(
      { code: "plan_lock_contradicts" },
    );
    expect(await world.differences(START + MINUTE)).toEqual([]);
  });

  it("seals a group that was deployed when the round began, and that control had not seen yet, where its stream is sealed", async () => {
    await world.deliver("a", each(0));
    const place = d.entity("place", { joinKey: "country" as string });
    const ofPlaces = { entity: place, source: payments, ttl: "40d", owner: "tests" } as const;
    const places = d.featureView("places", { ...ofPlaces, features: { n: d.count().over("1h") } });
    const more = {
      ...definitions,
      entities: [...definitions.entities, place],
      views: [...definitions.views, places],
    };
    const { plan, lock } = compile(more, contracts, compiled.lock, hash64);
    const controls = new ControlHashes(world.connection, plan);
    expect(await world.round(Number.POSITIVE_INFINITY, { plan, lock, controls })).toMatchObject({
      outcome: "complete",
    });
    await world.flush();
    const loaded = await world.restore({}, Number.POSITIVE_INFINITY, { plan, lock, controls });
    expect(loaded).toMatchObject({ state: "loaded" });
    const [cards, own] = await Promise.all(
      ["card", "place"].map((name) => controls.group(plan.groups.find(({ entity }) => entity === name)!)),
    );
    const seals = own.map((control) => control?.sealMs);
    expect(seals).toEqual(cards.map((control) => control?.sealMs));
    expect(Math.min(...seals.map((sealMs) => sealMs ?? 0))).toBeGreaterThan(START - 60 * MINUTE);
    await world.replayAndOpen();
    expect(await world.differences(START + MINUTE)).toEqual([]);
  });

  it("marks what was imported since the snapshot as not ready", async () => {
    await world.deliver("a", each(0));
    await world.round();
    await world.progress.noteImport("payments");
    await world.flush();
    await world.restore();
    await world.replayAndOpen();
    const reader = world.reader();
    try {
      const [{ values }] = await reader.read(
        [{ tenant: "a", entity: "card", id: "c1", features: ["everything:n_24h"] }],
        START + MINUTE,
      );
      expect(values[0].status).toBe("NOT_READY");
    } finally {
      await reader.close();
    }
  });

  describe("of a stream that was built anew", () => {
    const NO_BUCKETS = { done: { "card:payments": noBuckets(), "shop:payments": noBuckets() } };
    const built = (over: Partial<BuildRecord>): BuildRecord => ({
      ...{
        id: "b1",
        layoutHash: compiled.plan.layoutHash,
        tenant: null,
        startedMs: 1,
        updatedMs: Date.now(),
        entities: 0,
      },
      ...{ ...NO_BUCKETS, epoch: 1, runs: "", imports: 0, generation: 1, split: 0 },
      ...{ state: "done", restarted: false, restartedUntilMs: 0, ...over },
    });
    async function statusAfter(before: Partial<BuildRecord> | null, since: Partial<BuildRecord>): Promise<string> {
      await world.deliver("a", each(0));
      if (before !== null) await world.progress.put("payments", built(before));
      await world.round();
      await world.progress.put("payments", built({ id: "b2", ...since }), before === null ? null : "b1");
      await world.flush();
      await world.restore();
      await world.replayAndOpen();
      const reader = world.reader();
      try {
        const card = { tenant: "a", entity: "card", id: "c1", features: ["everything:n_24h"] };
        const [{ values }] = await reader.read([card], START + MINUTE);
        return values[0]!.status;
      } finally {
        await reader.close();
      }
    }
    const HOURS_AGO = Date.now() - 5 * 3_600_000;

    it("since the snapshot by somebody who held its tiles for wrong, serves none of those tiles", async () => {
      expect(await statusAfter(null, { restarted: true })).toBe("NOT_READY");
    });
    it("since the snapshot, as far as it came", async () => {
      expect(await statusAfter(null, { restarted: true, state: "running" })).toBe("NOT_READY");
    });
    it("since, and built once more for a new view after that", async () => {
      expect(await statusAfter(null, { restartedUntilMs: Date.now() })).toBe("NOT_READY");
    });
    it("before the snapshot, is what the snapshot has", async () => {
      expect(await statusAfter({ restarted: true, updatedMs: HOURS_AGO }, { restartedUntilMs: HOURS_AGO })).toBe(
        "PRESENT",
      );
    });
    it("since, for new features alone, is what the snapshot has", async () => {
      expect(await statusAfter(null, {})).toBe("PRESENT");
    });
  });

  it("tells of which streams entities were rebuilt since the snapshot", async () => {
    await world.deliver("a", each(0));
    await world.progress.noteRebuild("payments", Date.now() - 2 * 3_600_000);
    await world.round();
    await world.flush();
    expect(await world.restore()).toMatchObject({ state: "loaded", undone: [] });
    await world.progress.noteRebuild("payments", Date.now());
    expect(await world.restore({ replaceLive: true, restart: true })).toMatchObject({ undone: ["payments"] });
  });

  it("brings what was pushed as it was, and says that newer values are still to come", async () => {
    const timeMs = Date.now() - MINUTE;
    const packed = packValues([{ id: 0, dtype: "int64", value: 7 }], timeMs);
    const row = {
      tenant: "a",
      entity: "shop",
      id: "s1",
      view: "risk",
      eventTimeMs: timeMs,
      packed,
      reachMs: 3_600_000,
    };
    await world.push([row]);
    const [admin] = await world.connection.primaries();
    const key = pushedKey(bucketOf("a", "shop", "s1"), "a", "shop", "s1");
    const before = await admin.hgetallBuffer(key);
    expect(Object.keys(before).sort()).toEqual(["#", "risk"]);
    const ends = await admin.call("PEXPIRETIME", key);
    await world.round();
    await world.flush();
    await world.restore();
    expect(await admin.hgetallBuffer(key)).toEqual(before);
    expect(await admin.call("PEXPIRETIME", key)).toBe(ends);
    expect(await world.controls.lacksPushed()).toBe(true);
  });
});

describe("a failover", () => {
  it("has what was pushed pushed again, before the store is taken for whole", async () => {
    await repeatAfterFailover(world.controls, world.runs);
    expect(await world.controls.lacksPushed()).toBe(false);
    await world.controls.setState(1, ["ok"], "failover");
    await repeatAfterFailover(world.controls, world.runs);
    expect(await world.controls.lacksPushed()).toBe(true);
    await world.controls.pushedIsBack([...(await world.controls.pushedMarks()).values()]);
    expect(await world.controls.lacksPushed()).toBe(false);
  });

  it("has it pushed again although some buckets are being restored", async () => {
    await world.controls.setState(1, ["ok"], "failover");
    await world.connection.demand([
      { key: controlKey(7), name: "HSET", args: [controlKey(7), "c", encodeControl(1, "restoring", "0".repeat(40))] },
    ]);
    expect((await world.controls.summary()).state).toBe("restoring");
    await repeatAfterFailover(world.controls, world.runs);
    expect((await world.controls.pushedMarks()).size).toBe(1_024);
  });
});
