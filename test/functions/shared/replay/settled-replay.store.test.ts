/** A range of arrivals older than raw objects are kept: delivered again out of the compacted archive, with what is raw still, once. */
import { describe, expect, it } from "vitest";
import { ArchiveWriter } from "../../../../adapters/archive/archive.ts";
import type { LateItem } from "../../../../adapters/late-queue/late-queue.ts";
import { StoreApplier } from "../../../../adapters/valkey/applier.ts";
import { RecordPacker } from "../../../../adapters/valkey/record.ts";
import { Watermark } from "../../../../adapters/valkey/watermark.ts";
import { seededRandom } from "../../../../bench/workload.ts";
import type { ArchiveReplay } from "../../../../functions/shared/replay/archive-replay.ts";
import { replaySettled, type SettledReplayPorts } from "../../../../functions/shared/replay/settled-replay.ts";
import { newer } from "../../../support/build-plans.ts";
import { NOW, type Payment, useWorld, type WorldStream } from "../../../support/build-world.ts";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
/** It has stood for two days, as while a failover waits for somebody. */
const SEAL = NOW - 2 * DAY;
const world = useWorld();
let stream: WorldStream;
let queued: LateItem[];
let tenants = 0;

const random = seededRandom(41);
let ids = 0;
const payments = (count: number, fromMs: number, toMs: number): Payment[] =>
  Array.from({ length: count }, (_, i) => ({
    id: `r${ids++}`,
    timeMs: Math.floor(fromMs + ((i + random()) / count) * (toMs - fromMs)),
    card: `c${i % 4}`,
    shop: i % 5 === 0 ? null : `s${i % 3}`,
    amount: i % 7 === 0 ? null : i * 3.25,
    country: ["NO", "SE", null][i % 3]!,
  }));

function ports(tenant: string): SettledReplayPorts {
  const { plan, connection, duck } = stream.ports(newer);
  return {
    rows: {
      ...{ plan, stream: plan.streams[0]!, packer: new RecordPacker(plan, "payments") },
      applier: new StoreApplier(connection, plan, 2),
      watermark: new Watermark(connection),
      archive: new ArchiveWriter({ bucket: "archive", s3: stream.s3 }),
      late: { put: async (items) => void queued.push(...items) },
    },
    archive: { s3: stream.s3, bucket: "archive" },
    duck,
    tenants: async () => [tenant],
  };
}
const order = (over: Partial<ArchiveReplay> = {}): ArchiveReplay => ({
  ...{ stream: "payments", fromMs: SEAL - DAY, toMs: NOW, sealMs: SEAL, after: null, ...over },
});
const run = (tenant: string, over: Partial<ArchiveReplay> = {}, isOutOfTime = () => false) =>
  replaySettled(ports(tenant), order(over), isOutOfTime);
const differences = (tenant: string) => stream.differences(newer.plan, tenant, () => true);

const SINCE = 12;
const BEFORE = 6;
/**
 * A store that lacks all that came since SEAL + 2 h, in the archive of which everything is. @param compacted how much of it
 * @returns two late events, one of which has been repaired
 */
async function lived(compacted: "all" | "half" | "nothing") {
  const tenant = `r${tenants++}`;
  queued = [];
  stream = await world.begin([tenant]);
  await stream.deploy(newer, NOW - 4 * DAY);
  await stream.stream(newer.plan, tenant, payments(BEFORE, SEAL - DAY, SEAL + 2 * HOUR));
  await stream.seal(newer.plan, SEAL);
  const snapshot = await stream.hashes(tenant);
  const since = payments(SINCE, SEAL + 2 * HOUR, NOW - HOUR);
  await stream.stream(newer.plan, tenant, since.slice(0, SINCE / 2));
  const [repaired, waits] = payments(2, SEAL - 3 * HOUR, SEAL - HOUR).map((event) => ({ ...event, shop: null }));
  expect(await stream.stream(newer.plan, tenant, [repaired!, waits!])).toBe(0);
  await stream.imports(tenant, [repaired!]);
  stream.archived.delete(stream.identityOf(tenant, repaired!));
  if (compacted === "half") await stream.compacted(newer.plan, tenant);
  await stream.stream(newer.plan, tenant, since.slice(SINCE / 2));
  // Delivered again: of the store's own, nobody counts them twice.
  await stream.stream(newer.plan, tenant, since.slice(0, 3));
  if (compacted === "all") await stream.compacted(newer.plan, tenant);
  await stream.lose(newer, NOW, () => stream.putBack(snapshot));
  await stream.seal(newer.plan, SEAL);
  return { tenant, since, waits: waits! };
}

describe("a range whose raw objects are gone", { timeout: 300_000 }, () => {
  it.each(["all", "half", "nothing"] as const)(
    "is delivered again, once, with %s of it compacted",
    async (compacted) => {
      const { tenant, waits } = await lived(compacted);
      const first = await run(tenant);
      // A raw object is looked at by itself: what another one tells of a repair, repair finds.
      const late = compacted === "nothing" ? 2 : 1;
      expect(first).toMatchObject({ state: "done", applied: SINCE, late, refused: 0 });
      expect(first.objectsDone).toBe(first.objects);
      // What nobody has repaired is queued, under its own arrival.
      expect(queued).toHaveLength(late);
      expect(queued).toContainEqual(
        expect.objectContaining({ entity: "card", eventId: waits.id, arrivalMs: waits.timeMs + 5 }),
      );
      expect(await differences(tenant)).toEqual([]);
      expect(await run(tenant)).toMatchObject({ state: "done", events: first.events, applied: 0, late });
      expect(await differences(tenant)).toEqual([]);
    },
  );

  it("is the arrivals from its beginning to before its end; a dry run changes nothing", async () => {
    const { tenant, since } = await lived("all");
    const [a, b] = [since[5]!, since[9]!];
    const part = { fromMs: a.timeMs + 5, toMs: b.timeMs + 5 };
    expect(await run(tenant, { ...part, dryRun: true })).toMatchObject({ events: 4, applied: 0, sealed: 0 });
    expect(await run(tenant, part)).toMatchObject({ events: 4, applied: 4 });
    expect(await run(tenant, { ...part, toMs: part.toMs + 1 })).toMatchObject({ events: 5, applied: 1, duplicates: 4 });
    // Below the seal and visible: nobody asks the store.
    const old = { fromMs: SEAL - DAY, toMs: SEAL - 4 * HOUR };
    const told = await run(tenant, old);
    expect(told).toMatchObject({ applied: 0, duplicates: 0, late: 0 });
    expect(told.events).toBeGreaterThan(0);
    expect(told.sealed).toBe(told.events);
  });

  it("is looked for in objects alone that were written since it began", async () => {
    const { tenant } = await lived("all");
    expect(await run(tenant, { fromMs: NOW + 2 * HOUR, toMs: NOW + 3 * HOUR })).toMatchObject({
      objects: 0,
      events: 0,
    });
  });

  it("goes on where time was up, though what was raw is compacted meanwhile", async () => {
    const { tenant } = await lived("half");
    let [after, applied, calls]: [string | null, number, number] = [null, 0, 0];
    for (let state = "more"; state === "more"; calls++) {
      let steps = 0;
      const report = await run(tenant, { after }, () => steps++ === 1);
      expect(report.after).not.toBe(after);
      ({ state, after } = report);
      applied += report.applied;
      if (calls === 0) await stream.compacted(newer.plan, tenant);
    }
    expect(calls).toBeGreaterThan(3);
    expect(applied).toBe(SINCE);
    expect(await differences(tenant)).toEqual([]);
  });

  it("is counted once by two at once", async () => {
    const { tenant } = await lived("half");
    const reports = await Promise.all([run(tenant), run(tenant)]);
    expect(reports[0].applied + reports[1].applied).toBe(SINCE);
    expect(await differences(tenant)).toEqual([]);
  });
});
