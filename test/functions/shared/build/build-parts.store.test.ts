/** Bulk builds of more than the disk takes at once, against a real store, archive and control table. */
import { mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ArchiveMirror } from "../../../../adapters/offline/mirror.ts";
import { InfrastructureError } from "../../../../core/errors.ts";
import { runBuild } from "../../../../functions/shared/build/bulk-build.ts";
import { newer } from "../../../support/build-plans.ts";
import { NOW, paymentSource, useWorld, type WorldStream } from "../../../support/build-world.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const SEAL = NOW - 30 * MINUTE;
const LATER = Number.POSITIVE_INFINITY;
const { plan } = newer;
const world = useWorld();
let names: string[];
let tenants = 0;
const payments = paymentSource(23, { cards: 30, shops: 4 });
let stream: WorldStream;
let folder: string;
/** Objects that were written to the disk, and the most that lay there at once, in bytes. */
let written: string[];
let most: number;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "freshet-parts-"));
  written = [];
  most = 0;
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Two tenants' imported hours of a week ago and streamed ones of days ago, all of it compacted. @returns stored bytes and number of objects */
async function begin(): Promise<{ bytes: number; objects: number }> {
  names = [`part-${tenants++}`, `part-${tenants++}`];
  stream = await world.begin(names);
  await stream.deploy(newer, NOW - 4 * DAY);
  const mirror = new ArchiveMirror({ s3: stream.s3, bucket: "archive", folder });
  const found = { bytes: 0, objects: 0 };
  for (const tenant of names) {
    await stream.imports(tenant, payments(60, NOW - 8 * DAY, NOW - 8 * DAY + 4 * HOUR));
    await stream.stream(plan, tenant, payments(40, NOW - 3 * DAY, NOW - 3 * DAY + 2 * HOUR));
    await stream.compacted(plan, tenant);
    for (const { bytes } of await mirror.list(`compacted/tenant=${tenant}/`)) {
      found.bytes += bytes;
      found.objects++;
    }
  }
  await stream.seal(plan, SEAL);
  return found;
}

const files = () => readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
/** A file may get its own name in between. */
const sizeOf = (path: string) => statSync(path, { throwIfNoEntry: false })?.size ?? 0;
const used = () => files().reduce((sum, { parentPath, name }) => sum + sizeOf(join(parentPath, name)), 0);

/** On a disk that takes `limit` bytes of the archive. */
const diskOf = (limit: number) =>
  new ArchiveMirror({
    ...{ s3: stream.s3, bucket: "archive", folder, room: () => limit - used(), repair: "as told" },
    write: async (file, bytes) => {
      await writeFile(file, bytes);
      written.push(file.slice(0, file.lastIndexOf(".")));
      most = Math.max(most, used());
    },
  });
const wrong = async () =>
  (await Promise.all(names.map((tenant) => stream.differences(plan, tenant, () => true)))).flat();

describe("a build that reads more than the disk takes", () => {
  it("goes through it in parts of event time, each object once for each group, and every value is right", async () => {
    const { bytes, objects } = await begin();
    const limit = Math.floor(bytes / 5);
    const report = await runBuild(stream.ports(newer, { mirror: diskOf(limit) }), { stream: "payments" }, LATER);
    expect(report).toMatchObject({ state: "done", bucketsDone: plan.groups.length * 1_024 });
    expect(await wrong()).toEqual([]);
    expect(most).toBeLessThanOrEqual(limit);
    expect(new Set(written).size).toBe(objects);
    expect(written).toHaveLength(objects * plan.groups.length);
    // What was fetched for the last part is gone too.
    expect(files()).toEqual([]);
  });

  it("takes fewer buckets at once where the query has no room for its events, until one is too many", async () => {
    const { bytes } = await begin();
    const mirror = diskOf(Math.floor(bytes / 2));
    let refusals = 1;
    const forget = mirror.forget.bind(mirror);
    mirror.forget = async (objects) => {
      if (refusals-- > 0) throw new InfrastructureError("offline_disk", "the disk is full");
      await forget(objects);
    };
    expect(await runBuild(stream.ports(newer, { mirror }), { stream: "payments" }, LATER)).toMatchObject({
      state: "done",
    });
    expect(await stream.progress.get("payments")).toMatchObject({ split: 1 });
    expect(await wrong()).toEqual([]);
    refusals = LATER;
    const again = runBuild(stream.ports(newer, { mirror }), { stream: "payments", restart: true }, LATER);
    await expect(again).rejects.toMatchObject({ code: "build_too_large" });
  });
});
