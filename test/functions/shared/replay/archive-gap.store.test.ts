/** What a restored store lacks and the broker no longer holds comes back from the archive, compacted or not, once. */
import { describe, expect, it } from "vitest";
import { ArchiveWriter } from "../../../../adapters/archive/archive.ts";
import { StoreApplier } from "../../../../adapters/valkey/applier.ts";
import { RecordPacker } from "../../../../adapters/valkey/record.ts";
import { runBuild } from "../../../../functions/shared/build/bulk-build.ts";
import { type GapPorts, replayGap } from "../../../../functions/shared/replay/archive-gap.ts";
import { newer } from "../../../support/build-plans.ts";
import { NOW, paymentSource, useWorld, type WorldStream } from "../../../support/build-world.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const LATER = Number.POSITIVE_INFINITY;
/** Of the store when its snapshot was taken. */
const SEAL = NOW - 2 * DAY;
const world = useWorld();
let stream: WorldStream;
let tenants = 0;

const payments = paymentSource(23, { cards: 5, shops: 3 });

function gapPorts(tenant: string): GapPorts {
  const { plan, connection, mirror, duck } = stream.ports(newer);
  return {
    ...{ plan, mirror, duck, clock: Date.now },
    applier: new StoreApplier(connection, plan, 2, { replaying: true }),
    archive: new ArchiveWriter({ bucket: "archive", s3: stream.s3 }),
    tenants: async () => [tenant],
    archiveFromMs: async () => 0,
  };
}

/** A stream whose store is lost two days after its snapshot. @returns what the snapshot held, and events that only came late since */
async function lived() {
  const tenant = `g${tenants++}`;
  stream = await world.begin([tenant]);
  await stream.deploy(newer, NOW - 4 * DAY);
  const before = payments(24, NOW - 4 * DAY + HOUR, SEAL + 2 * HOUR);
  await stream.stream(newer.plan, tenant, before);
  await stream.seal(newer.plan, SEAL);
  await stream.stream(newer.plan, tenant, payments(5, SEAL, SEAL + 2 * HOUR));
  const snapshot = await stream.hashes(tenant);
  const since = payments(30, SEAL + 2 * HOUR, NOW - HOUR);
  await stream.stream(newer.plan, tenant, since);
  // Delivered again: a duplicate is a row of its own.
  await stream.stream(newer.plan, tenant, since.slice(0, 8));
  await stream.seal(newer.plan, NOW - DAY);
  const [late, older] = [payments(6, SEAL + HOUR, NOW - DAY), payments(3, SEAL - HOUR, SEAL)];
  expect(await stream.stream(newer.plan, tenant, [...late, ...older])).toBe(0);
  return { tenant, snapshot, late };
}

const differences = (tenant: string) => stream.differences(newer.plan, tenant, () => true);
const gap = { stream: "payments", fromMs: SEAL, toMs: NOW };

/** A machine that is busy with other things takes long over the compaction of four days. */
const PATIENCE_MS = 300_000;

describe("a store that is restored from a snapshot older than what the broker holds", { timeout: PATIENCE_MS }, () => {
  it.each(["raw", "compacted"])("has every event once more, from the %s archive", async (kind) => {
    const { tenant, snapshot, late } = await lived();
    if (kind === "compacted") await stream.compacted(newer.plan, tenant);
    await stream.lose(newer, NOW, async () => {
      await stream.putBack(snapshot);
      await stream.seal(newer.plan, SEAL);
      const report = await replayGap(gapPorts(tenant), gap, () => false);
      expect(report).toMatchObject({ nextMs: NOW });
      expect(report.applied).toBeGreaterThanOrEqual(30 + late.length);
      // As after a recovery that was killed before it opened the store.
      expect(await replayGap(gapPorts(tenant), gap, () => false)).toMatchObject({ applied: 0 });
    });
    // They were late in a store that was sealed further, and are open in this one.
    for (const event of late) stream.archived.set(stream.identityOf(tenant, event), { ...event, tenant });
    expect(await differences(tenant)).toEqual([]);
    // And the archive says the same.
    await stream.seal(newer.plan, NOW - HOUR / 2);
    expect(await runBuild(stream.ports(newer), { stream: "payments" }, LATER)).toMatchObject({ state: "done" });
    expect(await differences(tenant)).toEqual([]);
  });

  it("goes on where time was up", async () => {
    const { tenant, snapshot, late } = await lived();
    await stream.lose(newer, NOW, async () => {
      await stream.putBack(snapshot);
      await stream.seal(newer.plan, SEAL);
      let [fromMs, calls] = [gap.fromMs, 0];
      while (fromMs < gap.toMs) {
        const { nextMs } = await replayGap(gapPorts(tenant), { ...gap, fromMs }, () => true);
        expect(nextMs).toBeGreaterThan(fromMs);
        fromMs = nextMs;
        calls++;
      }
      // A part of six hours each.
      expect(calls).toBe(8);
    });
    for (const event of late) stream.archived.set(stream.identityOf(tenant, event), { ...event, tenant });
    expect(await differences(tenant)).toEqual([]);
  });

  it("is refused where the archive doesn't reach back either", async () => {
    const tenant = `g${tenants++}`;
    stream = await world.begin([tenant]);
    const ports = { ...gapPorts(tenant), archiveFromMs: async () => SEAL + HOUR };
    const begins = new Date(SEAL + HOUR).toISOString();
    await expect(replayGap(ports, { ...gap, toMs: gap.fromMs }, () => false)).rejects.toMatchObject({
      code: "recovery_incomplete",
      message: `the archive of stream payments is kept since ${begins}, and events since ${new Date(SEAL).toISOString()} have to be replayed`,
    });
  });
});

describe("a store that is lost without a snapshot, when the broker holds only the last day", {
  timeout: PATIENCE_MS,
}, () => {
  it("serves what it can at once, nothing that lacks something, and all of it after a build from the archive", async () => {
    const tenant = `g${tenants++}`;
    stream = await world.begin([tenant]);
    await stream.deploy(newer, NOW - 4 * DAY);
    const old = payments(30, NOW - 4 * DAY + HOUR, NOW - DAY);
    const young = payments(20, NOW - DAY, NOW - HOUR / 4);
    await stream.stream(newer.plan, tenant, old);
    await stream.seal(newer.plan, NOW - DAY);
    await stream.stream(newer.plan, tenant, young);
    const [FROM, t] = [NOW - 23 * HOUR, NOW];
    const lost = async () => {
      const { plan, connection } = stream.ports(newer);
      const packer = new RecordPacker(plan, "payments");
      const held = young.map(({ timeMs, ...fields }) =>
        packer.prepare(tenant, fields.id, timeMs, { tenant, at: timeMs, online: null, ...fields }),
      );
      await new StoreApplier(connection, plan, 2, { replaying: true }).apply(held);
    };
    await stream.lose(newer, NOW, lost, { payments: FROM });
    const wrong = await stream.differences(newer.plan, tenant, () => true, t);
    const told = (wrong as { feature: string; status: string }[]).map(({ feature, status }) => `${feature} ${status}`);
    // Nothing is wrong: what reaches back further is not ready.
    expect(told.filter((one) => !one.endsWith("NOT_READY"))).toEqual([]);
    for (const feature of ["cards:n_24h", "cards:n_lifetime", "cards:total_7d", "shops:n_7d"])
      expect(told).toContain(`${feature} NOT_READY`);
    expect(told.filter((one) => one.includes("_1h"))).toEqual([]);
    expect(await runBuild(stream.ports(newer), { stream: "payments" }, LATER)).toMatchObject({ state: "done" });
    expect(await stream.differences(newer.plan, tenant, () => true, t)).toEqual([]);
  });
});
