/** Training sets by way of Athena, here the emulator's, against the same sets by DuckDB alone: the same rows, bit for bit, whatever dies on the way. */
import { ListObjectsV2Command, PutObjectCommand, type S3Client } from "@aws-sdk/client-s3";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ArchiveRow } from "../../../adapters/archive/archive-format.ts";
import type { SetOptions } from "../../../adapters/offline/training-set.ts";
import { type CheckedArchive, checkedArchive, checkedPlan, checks } from "../../support/checked-payments.ts";
import { type BuiltSet, type LargeSetWorld, largeSetWorld } from "../../support/large-set-world.ts";

const service = checkedPlan.services.find(({ name }) => name === "checks")!;
const setOf = (tenant: string, more: Partial<SetOptions> = {}) => ({
  ...{ plan: checkedPlan, service, definition: checks, tenant, fromMs: null, toMs: null, labelDelayMs: null },
  spine: { kind: "labels", stream: "verdicts", asOf: "event_time" } as SetOptions["spine"],
  ...more,
});

const ofTenant = (tenant: string, rows: readonly ArchiveRow[]): ArchiveRow[] => rows.map((row) => ({ ...row, tenant }));
const all = ({ payments, verdicts }: CheckedArchive) => [...payments, ...verdicts];

let world: LargeSetWorld;
/** An arbitrary archive that is the same in each run, and the set that DuckDB makes of it. */
const [archive] = fc.sample(
  checkedArchive.filter(({ payments }) => payments.length > 12),
  { seed: 20261121, numRuns: 1 },
);
let database: string;
let own: BuiltSet;
beforeAll(async () => {
  world = await largeSetWorld();
  database = await world.publish("whole", checkedPlan, ofTenant("whole", all(archive!)));
  own = await world.small(setOf("whole"));
});
afterAll(() => world?.close());

function expectSame(theirs: BuiltSet | null, own: BuiltSet): void {
  expect(theirs!.rows).toEqual(own.rows);
  const { athena, ...manifest } = theirs!.manifest;
  expect(manifest).toEqual(own.manifest);
  expect(athena!.queries).toBeGreaterThan(0);
}

const left = async (tenant: string, job: string): Promise<string[]> => {
  const names: string[] = [];
  for (const folder of ["athena", "athena-keys"]) {
    const { Contents = [] } = await world.s3.send(
      new ListObjectsV2Command({ Bucket: world.bucket, Prefix: `${folder}/tenant=${tenant}/job=${job}/` }),
    );
    names.push(...Contents.map(({ Key }) => Key!));
  }
  return names;
};

/** All that stays of a job, until the bucket's lifecycle takes it: that it has ended. */
const ended = (tenant: string, job: string) => [`athena/tenant=${tenant}/job=${job}/ended.json`];

describe("a training set by way of Athena", () => {
  it("is the set that DuckDB makes, whatever the archive holds", async () => {
    let run = 0;
    await fc.assert(
      fc.asyncProperty(checkedArchive, async (drawn) => {
        const tenant = `drawn${run++}`;
        const database = await world.publish(tenant, checkedPlan, ofTenant(tenant, all(drawn)));
        const options = setOf(tenant);
        let own: BuiltSet;
        try {
          own = await world.small(options);
        } catch (error) {
          const { code, message } = error as { code: string; message: string };
          await expect(world.large({ ...options, database, job: `j-${tenant}` })).rejects.toMatchObject({
            code,
            message,
          });
          return;
        }
        expectSame(await world.large({ ...options, database, job: `j-${tenant}` }, { chunkBytes: 500 }), own);
        expect(await left(tenant, `j-${tenant}`)).toEqual(ended(tenant, `j-${tenant}`));
      }),
      { numRuns: 5, seed: 20261121, endOnFailure: true },
    );
  });

  it("goes on where a call ran out of time, and tells of every query once", async () => {
    const job = { ...setOf("whole"), database, job: "j-timed" };
    const before = world.standIn.started.length;
    let calls = 0;
    let built: BuiltSet | null = null;
    for (; built === null; calls++) {
      expect(calls).toBeLessThan(200);
      let looks = 0;
      built = await world.large(job, { outOfTime: () => ++looks % 4 === 0, chunkBytes: 800 });
    }
    expectSame(built, own);
    // Each chunk and part is a step; a query that was begun is waited for by a later call.
    expect(calls).toBeGreaterThan(3);
    expect(built.manifest.athena!.queries).toBe(world.standIn.started.length - before);
  });

  it("comes whole out of calls that die, wherever they die", async () => {
    const job = { ...setOf("whole"), database, job: "j-killed" };
    let built: BuiltSet | null = null;
    let deaths = 0;
    // Each call dies at a later write than the one before, so that some call comes to each.
    for (; built === null; deaths++) {
      expect(deaths).toBeLessThan(40);
      built = await world.large(job, { through: dyingAt(2 * deaths), chunkBytes: 800 }).catch((error) => {
        expect(error).toMatchObject({ code: "archive_unavailable" });
        return null;
      });
    }
    expect(deaths).toBeGreaterThan(3);
    expectSame(built, own);
    expect(await left("whole", "j-killed")).toEqual(ended("whole", "j-killed"));
  });

  it("is one set when two calls make it at the same time", async () => {
    const job = { ...setOf("whole"), database, job: "j-twice" };
    const both = await Promise.allSettled([world.large(job), world.large(job)]);
    const done = both.find((each) => each.status === "fulfilled");
    expectSame(done!.value, own);
  });

  it("is what the first call made of it that ended, where another is held up and finds what it reads gone", async () => {
    const held = { ...setOf("whole"), database };
    let [write, reached] = [0, true];
    for (; reached; write += 4) {
      expect(write).toBeLessThan(60);
      const job = { ...held, job: `j-held-${write}` };
      const gate = heldAt(write);
      const late = world.large(job, { through: gate.s3 });
      reached = await Promise.race([gate.reached.then(() => true), late.then(() => false)]);
      if (reached) expectSame(await world.large(job), own);
      gate.open();
      expectSame(await late, own);
    }
    expect(write).toBeGreaterThan(8);
  });

  it("ends its queries when one of them fails, and tells why", async () => {
    const { standIn } = world;
    const [started, stopped] = [standIn.started.length, standIn.stopped.length];
    // Events wait until the end; known ids wait until some events' query runs, and fail then.
    standIn.holds = (sql) => /crc32|SELECT DISTINCT/.test(sql);
    standIn.fails = (sql) =>
      sql.includes("SELECT DISTINCT") && standIn.started.slice(started).some((other) => other.includes("crc32"));
    await expect(world.large({ ...setOf("whole"), database, job: "j-stopped" })).rejects.toMatchObject({
      code: "offline_query",
      message: expect.stringMatching(/as FAILED: as asked$/),
    });
    expect(standIn.stopped.length).toBeGreaterThan(stopped);
    standIn.holds = () => false;
    standIn.fails = () => false;
  });
});

/** S3 whose writes fail from one on, as they do for a process that is gone. */
function dyingAt(write: number): Pick<S3Client, "send"> {
  let writes = 0;
  return {
    send: (command: never) => {
      const dead = (command as object) instanceof PutObjectCommand && writes++ >= write;
      if (dead) return Promise.reject(Object.assign(new Error("gone"), { name: "Gone" }));
      return world.s3.send(command);
    },
  } as Pick<S3Client, "send">;
}

/** S3 whose writes wait from one on, as those of a call that stands still, until it is opened. */
function heldAt(write: number) {
  let writes = 0;
  const { promise: reached, resolve: reach } = Promise.withResolvers<void>();
  const { promise: opened, resolve: open } = Promise.withResolvers<void>();
  const send = async (command: never) => {
    if ((command as object) instanceof PutObjectCommand && writes++ >= write) {
      reach();
      await opened;
    }
    return world.s3.send(command);
  };
  return { s3: { send } as Pick<S3Client, "send">, reached, open };
}
