/** Bulk builds against a real store, archive and control table: what was streamed and imported is what is served afterwards. */
import { describe, expect, it } from "vitest";
import { ControlHashes } from "../../../../adapters/valkey/control.ts";
import { readinessOf } from "../../../../functions/shared/build/build-readiness.ts";
import { runBuild } from "../../../../functions/shared/build/bulk-build.ts";
import { newer, older } from "../../../support/build-plans.ts";
import { NOW, type Payment, paymentSource, useWorld, type WorldStream } from "../../../support/build-world.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const LATER = Number.POSITIVE_INFINITY;
const world = useWorld();
let stream: WorldStream;
let tenants = 0;

const payments = paymentSource(7, { cards: 12, shops: 6 });

/** Days of an older plan's events and imported weeks before them; the newer plan is deployed two hours ago. */
async function overlapping(cards?: number) {
  const names = [`a${tenants++}`, `b${tenants++}`];
  stream = await world.begin(names);
  await stream.deploy(older, NOW - 4 * DAY);
  const sealed = NOW - 4 * DAY - 12 * MINUTE;
  for (const tenant of names) {
    await stream.imports(tenant, payments(60, NOW - 12 * DAY, sealed, cards));
    await stream.stream(older.plan, tenant, payments(80, NOW - 3 * DAY, NOW - 2 * HOUR, cards));
  }
  await stream.seal(older.plan, NOW - 3 * HOUR);
  // The seal of a new group begins where its stream's began.
  await stream.deploy(newer, NOW - 2 * HOUR);
  for (const tenant of names) {
    // Until the births the older plan's code is still at work, then both plans' may be.
    await stream.stream(older.plan, tenant, payments(20, NOW - 2 * HOUR, NOW - 2 * HOUR + MINUTE, cards));
    await stream.stream(newer.plan, tenant, payments(60, NOW - 2 * HOUR + 3 * MINUTE, NOW, cards));
  }
  return names;
}
const visibleBelow = (sealMs: number) => (payment: Payment) =>
  payment.timeMs < sealMs || payment.timeMs >= NOW - 3 * DAY;

describe("a build of new slots on a live stream with imported history", () => {
  it("waits for the seal to pass their births, and says so", async () => {
    await overlapping();
    const report = await runBuild(stream.ports(newer), { stream: "payments" }, LATER);
    expect(report).toMatchObject({ state: "waiting", bucketsDone: 0 });
    expect(report.reason).toMatch(
      /^the seal of payments \(.+\) has to pass the birth of new slots \(.+\), in about \d+ min$/,
    );
    expect(await stream.table.getLease("payments")).toBeNull();
  });

  it("makes everything that was streamed and imported readable, for every tenant, and every view ready", async () => {
    const names = await overlapping();
    await stream.seal(newer.plan, NOW - 30 * MINUTE);
    const before = await readinessOf(new ControlHashes(stream.connection, newer.plan), newer.plan);
    expect(before.map(({ bucketsReady }) => bucketsReady)).toEqual([0, 0]);
    const report = await runBuild(stream.ports(newer), { stream: "payments" }, LATER);
    expect(report).toMatchObject({ state: "done", bucketsDone: 2_048, buckets: 2_048 });
    for (const tenant of names) expect(await stream.differences(newer.plan, tenant, visibleBelow(NOW))).toEqual([]);
    const after = await readinessOf(new ControlHashes(stream.connection, newer.plan), newer.plan);
    expect(after.map(({ bucketsReady, sinceMs }) => ({ bucketsReady, sinceMs }))).toEqual([
      { bucketsReady: 1_024, sinceMs: null },
      { bucketsReady: 1_024, sinceMs: null },
    ]);
    // And stays so, while events flow and the seal moves on.
    for (const tenant of names) await stream.stream(newer.plan, tenant, payments(40, NOW - 20 * MINUTE, NOW));
    await stream.seal(newer.plan, NOW - 10 * MINUTE);
    for (const tenant of names) await stream.stream(newer.plan, tenant, payments(20, NOW - 5 * MINUTE, NOW));
    for (const tenant of names) expect(await stream.differences(newer.plan, tenant, visibleBelow(NOW))).toEqual([]);
  });

  it("never serves a wrong value on the way: ready or not ready, bucket by bucket", async () => {
    const [tenant] = await overlapping(200);
    await stream.seal(newer.plan, NOW - 30 * MINUTE);
    expect(await wrong(tenant)).toEqual([]);
    await cutOff(newer, 2);
    expect(await wrong(tenant)).toEqual([]);
    expect(await runBuild(stream.ports(newer), { stream: "payments" }, LATER)).toMatchObject({ state: "done" });
    expect(await wrong(tenant)).toEqual([]);
  });

  it("goes on where it was cut off, and begins anew for another plan or when told to", async () => {
    const names = await overlapping(900);
    await stream.seal(newer.plan, NOW - 30 * MINUTE);
    const controls = new ControlHashes(stream.connection, newer.plan);
    const ready = async () =>
      (await readinessOf(controls, newer.plan)).reduce((sum, view) => sum + view.bucketsReady, 0);
    let before = 0;
    let id = "";
    for (const cut of [1, 2, 4]) {
      await cutOff(newer, cut);
      const record = (await stream.ports(newer).progress.get("payments"))!;
      if (id !== "") expect(record.id).toBe(id);
      id = record.id;
      expect(await ready()).toBeGreaterThanOrEqual(before);
      before = await ready();
      for (const tenant of names) expect(await wrong(tenant)).toEqual([]);
    }
    expect(before).toBeGreaterThan(0);
    expect(before).toBeLessThan(2_048);
    const report = await runBuild(stream.ports(newer), { stream: "payments" }, LATER);
    expect(report).toMatchObject({ id, state: "done" });
    for (const tenant of names) expect(await stream.differences(newer.plan, tenant, visibleBelow(NOW))).toEqual([]);
    const again = await runBuild(stream.ports(newer), { stream: "payments", restart: true }, LATER);
    expect(again.state).toBe("done");
    expect(again.id).not.toBe(id);
    for (const tenant of names) expect(await stream.differences(newer.plan, tenant, visibleBelow(NOW))).toEqual([]);
  });

  it("that the seal overtakes lists the archive anew", async () => {
    const names = await overlapping();
    await stream.seal(newer.plan, NOW - 30 * MINUTE);
    let moves = 0;
    const ports = stream.ports(newer, {
      tenants: async () => {
        // As a control step does that has not seen the lease: after the build has read the seal.
        if (moves++ < 2) await stream.seal(newer.plan, NOW - 30 * MINUTE + moves * 6 * MINUTE);
        return names;
      },
    });
    expect(await runBuild(ports, { stream: "payments" }, LATER)).toMatchObject({ state: "done" });
    expect(moves).toBe(3);
    for (const tenant of names) expect(await stream.differences(newer.plan, tenant, visibleBelow(NOW))).toEqual([]);
  });

  it("leaves late events to repair, since nobody sees them yet", async () => {
    const [tenant] = await overlapping();
    await stream.seal(newer.plan, NOW - 30 * MINUTE);
    expect(await stream.stream(newer.plan, tenant, payments(10, NOW - 20 * HOUR, NOW - 10 * HOUR))).toBe(0);
    expect(await runBuild(stream.ports(newer), { stream: "payments" }, LATER)).toMatchObject({ state: "done" });
    expect(await stream.differences(newer.plan, tenant, visibleBelow(NOW))).toEqual([]);
  });

  it("of an archive that has lost its beginning completes windows from there on, and leaves lifetimes as they are", async () => {
    const [tenant] = await overlapping();
    await stream.seal(newer.plan, NOW - 30 * MINUTE);
    const ports = stream.ports(newer, { archiveFromMs: async () => NOW - 2 * DAY });
    expect(await runBuild(ports, { stream: "payments" }, LATER)).toMatchObject({ state: "done" });
    const streamed = (payment: Payment) => payment.timeMs >= NOW - 3 * DAY;
    const found = (await stream.differences(newer.plan, tenant, streamed)) as { status: string; feature: string }[];
    // Whatever reaches back further than the archive has no value; all else counts what was streamed, lifetimes included.
    const lost = ["cards:total_7d", "cards:total_lifetime", "cards:spread_7d", "cards:first_shop_7d", "shops:n_7d"];
    expect([...new Set(found.map(({ feature }) => feature))].sort()).toEqual(lost.sort());
    expect(new Set(found.map(({ status }) => status))).toEqual(new Set(["NOT_READY"]));
  });

  it("of one tenant makes nothing ready, since the others share its buckets", async () => {
    const [one] = await overlapping();
    await stream.seal(newer.plan, NOW - 30 * MINUTE);
    const report = await runBuild(stream.ports(newer), { stream: "payments", tenant: one }, LATER);
    expect(report.state).toBe("done");
    const ready = await readinessOf(new ControlHashes(stream.connection, newer.plan), newer.plan);
    expect(ready.map(({ bucketsReady }) => bucketsReady)).toEqual([0, 0]);
  });

  it("waits for a repair that holds the stream, and for a store that does not fold", async () => {
    const [tenant] = await overlapping();
    await stream.seal(newer.plan, NOW - 30 * MINUTE);
    await stream.table.takeLease("payments", { holder: "repair 9", expiresMs: Date.now() + MINUTE }, Date.now());
    const held = await runBuild(stream.ports(newer), { stream: "payments" }, LATER);
    expect(held).toMatchObject({ state: "waiting", reason: "repair 9 works below the seal of payments" });
    await stream.table.releaseLease("payments", "repair 9");
    const controls = new ControlHashes(stream.connection, newer.plan);
    await controls.setState(1, ["ok"], "failover");
    const stopped = await runBuild(stream.ports(newer), { stream: "payments" }, LATER);
    expect(stopped.state).toBe("waiting");
    expect(stopped.reason).toContain("freshet recover");
    await controls.setState(1, ["failover"], "ok");
    expect(await runBuild(stream.ports(newer), { stream: "payments" }, LATER)).toMatchObject({ state: "done" });
    expect(await stream.differences(newer.plan, tenant, visibleBelow(NOW))).toEqual([]);
  });

  it("refuses a stream that there is not", async () => {
    await overlapping();
    await expect(runBuild(stream.ports(newer), { stream: "clicks" }, LATER)).rejects.toMatchObject({
      code: "stream_unknown",
      message: "there is no stream clicks",
      repair: "use payments",
    });
  });
});

/** Values of new features that are neither right nor said to be not ready. */
async function wrong(tenant: string) {
  const all = (await stream.differences(newer.plan, tenant, visibleBelow(NOW))) as {
    status: string;
    feature: string;
  }[];
  return all.filter(({ status, feature }) => !/^cards:(n_|last_country)/.test(feature) && status !== "NOT_READY");
}

/** A build that dies when it is about to take its `nth` lot of buckets for complete; what it has put stays. */
async function cutOff(of: typeof newer, nth: number): Promise<void> {
  const ports = stream.ports(of);
  let lots = 0;
  const dying: ControlHashes = Object.create(ports.controls, {
    complete: {
      value: (...args: Parameters<ControlHashes["complete"]>) => {
        if (++lots === nth) throw new Error("killed");
        return ports.controls.complete(...args);
      },
    },
  });
  const build = runBuild({ ...ports, controls: dying }, { stream: "payments", ratePerS: 1_000 }, LATER);
  await expect(build).rejects.toThrow("killed");
}
