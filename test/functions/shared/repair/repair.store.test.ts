/** Repair against a real store, archive and late queue: what came below the seal is served as if it had come in time. */
import { describe, expect, it } from "vitest";
import type { Group } from "../../../../core/plan.ts";
import { runBuild } from "../../../../functions/shared/build/bulk-build.ts";
import { rebuildIn } from "../../../../functions/shared/build/entity-build.ts";
import { repeatRepairs } from "../../../../functions/shared/repair/repeat-repairs.ts";
import { type SettledEntity, settleRepairs } from "../../../../functions/shared/repair/settle-repairs.ts";
import { newer } from "../../../support/build-plans.ts";
import { NOW, type Payment, paymentSource, useWorld, type WorldStream } from "../../../support/build-world.ts";
import { Repairs } from "../../../support/repair-world.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const LATER = Number.POSITIVE_INFINITY;
const SEAL = NOW - 30 * MINUTE;
const world = useWorld();
let stream: WorldStream;
let repairs: Repairs;
let tenants = 0;

const payments = paymentSource(19, { cards: 6, shops: 3 });

/** A stream of four days with its seal half an hour ago, in which everything was in time. */
async function living(): Promise<string> {
  const tenant = `r${tenants++}`;
  stream = await world.begin([tenant]);
  await stream.deploy(newer, NOW - 4 * DAY);
  repairs = await Repairs.open(world, stream, newer);
  await stream.stream(newer.plan, tenant, payments(120, NOW - 4 * DAY + HOUR, NOW));
  await stream.seal(newer.plan, SEAL);
  return tenant;
}

/** Events that come when their tiles are sealed: archived as late, and queued. */
async function late(tenant: string, events: readonly Payment[]): Promise<void> {
  expect(await stream.stream(newer.plan, tenant, events)).toBe(0);
  await repairs.queue(tenant, events);
}

/** Tells the oracle that they count from now on. */
const count = (tenant: string, events: readonly Payment[]) => {
  for (const event of events) stream.archived.set(stream.identityOf(tenant, event), { ...event, tenant });
};
const differences = (tenant: string) => stream.differences(newer.plan, tenant, () => true);

/** A machine that is busy with other things takes long over the compaction of four days. */
const PATIENCE_MS = 300_000;

describe("events below the seal", { timeout: PATIENCE_MS }, () => {
  it("are served once they are repaired, whatever tiles they lie in, and are not before", async () => {
    const tenant = await living();
    const events = [...payments(20, NOW - 2 * HOUR, SEAL), ...payments(20, NOW - 4 * DAY + HOUR, NOW - 2 * HOUR)];
    await late(tenant, events);
    expect(await differences(tenant)).toEqual([]);
    const queued = await repairs.pending();
    expect(queued).toBeGreaterThan(events.length);
    expect(await repairs.round()).toMatchObject({
      repaired: queued,
      known: 0,
      pending: 0,
      oldestMs: null,
      waiting: {},
    });
    count(tenant, events);
    expect(await differences(tenant)).toEqual([]);
    expect(await repairs.pending()).toBe(0);
    // And stay: after folds, a build from the archive, and further events.
    await stream.seal(newer.plan, NOW - 10 * MINUTE);
    await stream.stream(newer.plan, tenant, payments(10, NOW - 9 * MINUTE, NOW));
    expect(await differences(tenant)).toEqual([]);
    expect(await runBuild(stream.ports(newer), { stream: "payments" }, LATER)).toMatchObject({ state: "done" });
    expect(await differences(tenant)).toEqual([]);
  });

  it("that were counted already, or are queued again, change nothing", async () => {
    const tenant = await living();
    const known = [...stream.archived.values()].filter(({ timeMs }) => timeMs < SEAL).slice(0, 10);
    // Delivered again after the seal.
    expect(await stream.stream(newer.plan, tenant, known)).toBe(0);
    await repairs.queue(tenant, known);
    const events = payments(5, NOW - 3 * HOUR, SEAL);
    await late(tenant, events);
    const report = await repairs.round();
    expect(report.known).toBe(known.reduce((sum, payment) => sum + repairs.items(tenant, payment).length, 0));
    count(tenant, events);
    expect(await differences(tenant)).toEqual([]);
    await late(tenant, events);
    expect(await repairs.round()).toMatchObject({ repaired: 0, pending: 0 });
    expect(await differences(tenant)).toEqual([]);
  });

  it("are counted once whenever a repair is killed, and however often", async () => {
    const tenant = await living();
    let killed = 0;
    for (let nth = 1; ; nth++) {
      const events = payments(3, NOW - 4 * DAY + HOUR, SEAL);
      await late(tenant, events);
      const { ports, died } = repairs.dying(nth);
      await repairs.round(ports).catch((error: Error) => expect(error.message).toBe("killed"));
      if (died()) killed++;
      // Between the two the store may show them already; never anything else than all or nothing of an entity.
      expect(await repairs.round()).toMatchObject({ pending: 0, failed: 0 });
      count(tenant, events);
      expect(await differences(tenant)).toEqual([]);
      for (const item of events.flatMap((event) => repairs.items(tenant, event))) {
        expect(await repairs.unsettled(tenant, item.entity, item.id)).toEqual([]);
      }
      if (!died()) break;
    }
    // Before and after each of: holder, tokens, find, fold, queue, archive, settle, take out.
    expect(killed).toBe(16);
    expect(await runBuild(stream.ports(newer), { stream: "payments" }, LATER)).toMatchObject({ state: "done" });
    expect(await differences(tenant)).toEqual([]);
  });

  it("are counted once by repairs that run at the same time", async () => {
    const tenant = await living();
    const events = payments(30, NOW - 4 * DAY + HOUR, SEAL, 3);
    await late(tenant, events);
    await Promise.all([repairs.round(), repairs.round(), repairs.round()]);
    expect(await repairs.round()).toMatchObject({ pending: 0 });
    count(tenant, events);
    expect(await differences(tenant)).toEqual([]);
    expect(await runBuild(stream.ports(newer), { stream: "payments" }, LATER)).toMatchObject({ state: "done" });
    expect(await differences(tenant)).toEqual([]);
  });

  it("wait until their row is in the archive, and while a build works below the seal", async () => {
    const tenant = await living();
    const [event] = payments(1, NOW - 3 * HOUR, SEAL);
    await repairs.queue(tenant, [event!]);
    const items = repairs.items(tenant, event!).length;
    expect((await repairs.round()).waiting).toEqual({ "not in the archive yet": items });
    await late(tenant, [event!]);
    await stream.table.takeLease("payments", { holder: "build 7", expiresMs: Date.now() + HOUR }, Date.now());
    expect((await repairs.round()).waiting).toEqual({ "build 7 works below the seal": items });
    await stream.table.releaseLease("payments", "build 7");
    expect(await repairs.round()).toMatchObject({ repaired: items, pending: 0 });
    count(tenant, [event!]);
    expect(await differences(tenant)).toEqual([]);
  });

  it("that a failover took from the store again are built anew, and no others", async () => {
    const tenant = await living();
    const [early, newest] = [payments(3, NOW - 2 * DAY, SEAL), payments(3, NOW - 2 * DAY, SEAL, 2)];
    await late(tenant, early);
    await repairs.round();
    const before = await stream.hashes(tenant);
    await late(tenant, newest);
    await repairs.round();
    count(tenant, [...early, ...newest]);
    expect(await differences(tenant)).toEqual([]);
    // The suffix that a replica did not get.
    await stream.putBack(before);
    expect(await differences(tenant)).not.toEqual([]);
    const ports = stream.ports(newer);
    const built: string[] = [];
    const rebuild = (group: Group, of: string, ids: readonly string[]) => {
      built.push(...ids.map((id) => `${group.entity} ${id}`));
      return rebuildIn(ports, group, of, ids);
    };
    const { applier } = repairs.ports();
    const settle = (entities: readonly SettledEntity[]) => settleRepairs(applier, entities);
    const places = { ...ports, settle, rebuild };
    // Nothing is known of a failover.
    expect(await repeatRepairs(places)).toEqual({ entities: 0, waiting: [] });
    await stream.accept(newer);
    const dying = () => Promise.reject(new Error("killed"));
    await expect(repeatRepairs({ ...places, rebuild: dying })).rejects.toThrow("killed");
    // Whoever comes later goes on, and repairs since have not taken the place of the newest ones.
    const others = payments(2, NOW - 2 * DAY, SEAL, 2);
    await late(tenant, others);
    await repairs.round();
    count(tenant, others);
    const report = await repeatRepairs(places);
    expect(report).toEqual({ entities: built.length, waiting: [] });
    expect(built).toContain(`card ${newest[0]!.card}`);
    expect(await differences(tenant)).toEqual([]);
    expect(await repeatRepairs(places)).toEqual({ entities: 0, waiting: [] });
  });

  it("that a snapshot of days ago lacks are built anew from the compacted archive", async () => {
    const tenant = await living();
    const before = await stream.hashes(tenant);
    const events = payments(4, NOW - 2 * DAY, SEAL);
    await late(tenant, events);
    await repairs.round();
    count(tenant, events);
    await stream.compacted(newer.plan, tenant);
    await stream.putBack(before);
    const ports = stream.ports(newer);
    const settle = (entities: readonly SettledEntity[]) => settleRepairs(repairs.ports().applier, entities);
    const rebuild = (group: Group, of: string, ids: readonly string[]) => rebuildIn(ports, group, of, ids);
    await stream.accept(newer, NOW - 2 * DAY);
    expect(await repeatRepairs({ ...ports, settle, rebuild })).toMatchObject({ waiting: [] });
    expect(await differences(tenant)).toEqual([]);
  });

  it("that a failover took the end of the repair from are built anew at once: the archive tells that it was ended", async () => {
    const tenant = await living();
    const newest = payments(3, NOW - 2 * DAY, SEAL, 2);
    await late(tenant, newest);
    let before: Awaited<ReturnType<typeof stream.hashes>> | null = null;
    const alive = repairs.ports();
    const archive = {
      write: async (...args: Parameters<typeof alive.archive.write>) => {
        before = await stream.hashes(tenant);
        return alive.archive.write(...args);
      },
    };
    await repairs.round({ ...alive, archive });
    count(tenant, newest);
    // The suffix that a replica did not get: the repairs are in it, and not that their rows are durable.
    await stream.putBack(before!);
    const [item] = repairs.items(tenant, newest[0]!);
    expect(await repairs.unsettled(tenant, item!.entity, item!.id)).not.toEqual([]);
    const ports = stream.ports(newer);
    const settle = (entities: readonly SettledEntity[]) => settleRepairs(alive.applier, entities);
    const rebuild = (group: Group, of: string, ids: readonly string[]) => rebuildIn(ports, group, of, ids);
    const places = { ...ports, settle, rebuild };
    await stream.accept(newer);
    expect(await repeatRepairs(places)).toMatchObject({ waiting: [] });
    expect(await repairs.unsettled(tenant, item!.entity, item!.id)).toEqual([]);
    expect(await differences(tenant)).toEqual([]);
  });

  it("from before the archive's beginning are given up: nobody can tell whether they were counted", async () => {
    const tenant = await living();
    const events = payments(4, NOW - 3 * DAY, NOW - 2 * DAY);
    await late(tenant, events);
    const report = await repairs.round(repairs.ports({ archiveFromMs: async () => NOW - DAY }));
    expect(report).toMatchObject({ repaired: 0, pending: 0 });
    expect(report.expired).toBeGreaterThanOrEqual(4);
    expect(await differences(tenant)).toEqual([]);
  });
});
