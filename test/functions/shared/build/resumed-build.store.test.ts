/** What a bulk build may take for done, against a real store, archive and control table: not after imports, losses or failovers. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ArchiveMirror } from "../../../../adapters/offline/mirror.ts";
import { ControlHashes } from "../../../../adapters/valkey/control.ts";
import { seededRandom } from "../../../../bench/workload.ts";
import { type BuildPorts, runBuild } from "../../../../functions/shared/build/bulk-build.ts";
import { newer } from "../../../support/build-plans.ts";
import { NOW, type Payment, useWorld, type WorldStream } from "../../../support/build-world.ts";

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;
const LATER = Number.POSITIVE_INFINITY;
const SEAL = NOW - 30 * MINUTE;
const { plan } = newer;
const world = useWorld();
let stream: WorldStream;
let tenant: string;
let tenants = 0;

const random = seededRandom(11);
let ids = 0;
const payments = (count: number, fromMs = NOW - 12 * DAY, toMs = NOW - 5 * DAY, cards = 300): Payment[] =>
  Array.from({ length: count }, () => ({
    ...{ id: `p${ids++}`, timeMs: Math.floor(fromMs + random() * (toMs - fromMs)) },
    ...{ card: `c${Math.floor(random() * cards)}`, shop: `s${Math.floor(random() * 6)}`, amount: 1, country: "NO" },
  }));
const everything = () => true;

/** A stream with imported history and events below the seal, of many cards. */
async function begin(): Promise<void> {
  tenant = `r${tenants++}`;
  stream = await world.begin([tenant]);
  await stream.deploy(newer, NOW - 4 * DAY);
  await stream.imports(tenant, payments(600));
  await stream.stream(plan, tenant, payments(300, NOW - 3 * DAY, SEAL));
  await stream.seal(plan, SEAL);
}
const build = (more: Partial<BuildPorts> = {}, restart = false) =>
  runBuild(stream.ports(newer, more), { stream: "payments", restart }, LATER);
const wrong = () => stream.differences(plan, tenant, everything);
/** Control hashes over which something happens when a lot of buckets is about to be taken for complete. */
function completing(happens: (lot: number) => Promise<void> | void): ControlHashes {
  const controls = new ControlHashes(stream.connection, plan);
  let lots = 0;
  return Object.create(controls, {
    complete: {
      value: async (...args: Parameters<ControlHashes["complete"]>) => {
        await happens(++lots);
        return controls.complete(...args);
      },
    },
  });
}
/** A build that dies when some of its buckets are done. */
async function cutOff(): Promise<string> {
  const controls = completing((lot) => {
    if (lot === 3) throw new Error("killed");
  });
  const dying = runBuild({ ...stream.ports(newer), controls }, { stream: "payments", ratePerS: 1_000 }, LATER);
  await expect(dying).rejects.toThrow("killed");
  return (await stream.progress.get("payments"))!.id;
}

describe("an import", () => {
  it("beside a running build is in every bucket when that is done", async () => {
    await begin();
    const controls = completing(async (lot) => {
      if (lot !== 3) return;
      await stream.progress.noteImport("payments");
      await stream.imports(tenant, payments(600));
      await stream.progress.noteImport("payments");
    });
    const report = await runBuild({ ...stream.ports(newer), controls }, { stream: "payments", ratePerS: 5_000 }, LATER);
    expect(report.state).toBe("done");
    expect(await wrong()).toEqual([]);
  });

  it("that ends when a build has done all but say so is seen by it", async () => {
    await begin();
    const { progress } = stream;
    let imported = false;
    const late = {
      get: (name: string) => progress.get(name),
      imports: (name: string) => progress.imports(name),
      put: async (...args: Parameters<typeof progress.put>) => {
        if (args[1].state === "done" && !imported) {
          imported = true;
          await stream.imports(tenant, payments(600));
          await progress.noteImport("payments");
        }
        return progress.put(...args);
      },
    } as typeof progress;
    expect(await build({ progress: late })).toMatchObject({ state: "done" });
    expect(await wrong()).toEqual([]);
  });

  it("that died before its end has the next build begin anew", async () => {
    await begin();
    const id = await cutOff();
    await stream.progress.noteImport("payments");
    await stream.imports(tenant, payments(600));
    const report = await build();
    expect(report.id).not.toBe(id);
    expect(await wrong()).toEqual([]);
  });
});

describe("what is done", () => {
  it("counts no more when the store was lost", async () => {
    await begin();
    const id = await cutOff();
    await stream.lose(newer, NOW);
    await stream.seal(plan, SEAL);
    const report = await build();
    expect(report).toMatchObject({ state: "done", bucketsDone: 2_048 });
    expect(report.id).not.toBe(id);
    expect(await wrong()).toEqual([]);
  });

  it("that no replay brings is not ready after a loss, until it is built", async () => {
    await begin();
    await stream.progress.noteImport("payments");
    await build();
    await stream.lose(newer, NOW);
    await stream.seal(plan, SEAL);
    const found = (await wrong()) as { status: string }[];
    expect(new Set(found.map(({ status }) => status))).toEqual(new Set(["NOT_READY"]));
    expect((await build()).reason).toContain("has to pass the birth of new slots");
    await stream.seal(plan, NOW);
    expect(await build()).toMatchObject({ state: "done" });
    expect(await wrong()).toEqual([]);
  });

  it("counts no more when a primary became another process during the build", async () => {
    await begin();
    const controls = new ControlHashes(stream.connection, plan);
    let looks = 0;
    const taken: ControlHashes = Object.create(controls, {
      primaries: {
        value: async () => (++looks <= 2 ? ["0".repeat(40)] : controls.primaries()),
      },
    });
    let listings = 0;
    const count = async () => {
      listings++;
      return [tenant];
    };
    expect(await build({ controls: taken, tenants: count })).toMatchObject({ state: "done" });
    expect(listings).toBe(2);
    expect(await wrong()).toEqual([]);
  });
});

describe("a build's generation", () => {
  /** As a node whose clock is so far ahead. */
  const ahead = (ms: number) =>
    Object.create(stream.connection, {
      primaries: {
        value: async () => [{ time: async () => [Math.floor((Date.now() + ms) / 1_000), 0] }],
      },
    });

  it("is greater than the last one's, though that had a clock that ran ahead", async () => {
    await begin();
    await build({ connection: ahead(20 * MINUTE) });
    await stream.imports(tenant, payments(600));
    expect(await build()).toMatchObject({ state: "done" });
    expect(await wrong()).toEqual([]);
  });

  it("that the store finds too small is raised, and what was put is put again", async () => {
    await begin();
    await build({ connection: ahead(20 * MINUTE) });
    const record = (await stream.progress.get("payments"))!;
    await stream.progress.put("payments", { ...record, generation: 0 });
    await stream.imports(tenant, payments(600));
    expect(await build()).toMatchObject({ state: "done" });
    expect(await wrong()).toEqual([]);
  });
});

it("a build that reads more than the disk takes is refused each time before it fetches, and is done where there is room", async () => {
  await begin();
  let room = 10;
  const folder = mkdtempSync(join(tmpdir(), "freshet-small-disk-"));
  const mirror = new ArchiveMirror({ s3: stream.s3, bucket: "archive", folder, room: () => room, repair: "as told" });
  // More often than calls may be killed.
  for (let calls = 0; calls < 7; calls++) {
    await expect(build({ mirror })).rejects.toMatchObject({ code: "range_too_large", repair: "as told" });
  }
  expect(await stream.progress.get("payments")).toMatchObject({ split: 0, entities: 0 });
  expect(await stream.table.getLease("payments")).toMatchObject({ expiresMs: 0 });
  room = Number.POSITIVE_INFINITY;
  expect(await build({ mirror })).toMatchObject({ state: "done", bucketsDone: 2_048 });
  expect(await wrong()).toEqual([]);
  rmSync(folder, { recursive: true });
});

describe("calls that are killed before a bucket is done", () => {
  const killed = { tenants: () => Promise.reject(new Error("killed")) };

  it("have the next one take fewer buckets at once", async () => {
    await begin();
    await expect(build(killed)).rejects.toThrow("killed");
    expect((await stream.progress.get("payments"))!.split).toBe(1);
    let listings = 0;
    const count = async () => {
      listings++;
      return [tenant];
    };
    expect(await build({ tenants: count })).toMatchObject({ state: "done", bucketsDone: 2_048 });
    // 1,024 buckets, 128 at once.
    expect(listings).toBe(8);
    expect(await wrong()).toEqual([]);
  });

  it("end with words, when not even one can be done", async () => {
    await begin();
    for (let calls = 0; calls < 5; calls++) await expect(build(killed)).rejects.toThrow("killed");
    await expect(build()).rejects.toMatchObject({
      code: "build_too_large",
      message: "calls that build payments were killed before a single bucket was done",
      repair: "give the build function more memory, then run `freshet backfill --restart`",
    });
    expect(await build({}, true)).toMatchObject({ state: "done" });
  });
});
