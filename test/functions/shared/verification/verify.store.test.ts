/** The store held against the archive, both real: what is right is never told, what is wrong always. */
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import { archivedAnswers, archivedIds, pushedIds } from "../../../../adapters/offline/archived-answers.ts";
import { packedLine, writeLines } from "../../../../adapters/pushed/values-format.ts";
import { StoreApplier } from "../../../../adapters/valkey/applier.ts";
import { ControlHashes } from "../../../../adapters/valkey/control.ts";
import { bucketOf, entityKey } from "../../../../adapters/valkey/layout.ts";
import { packValues } from "../../../../adapters/valkey/packed.ts";
import { pushRows } from "../../../../adapters/valkey/push.ts";
import { createReader } from "../../../../adapters/valkey/reader.ts";
import { primaryClocks, storedIds } from "../../../../adapters/valkey/stored-ids.ts";
import type { PushedFeature } from "../../../../core/pushed-feature.ts";
import { rebuildEntity } from "../../../../functions/shared/build/entity-build.ts";
import { type VerifyPorts, verifyEntities } from "../../../../functions/shared/verification/verification.ts";
import { runVerify, type VerifyRequest } from "../../../../functions/shared/verification/verify-run.ts";
import { newer } from "../../../support/build-plans.ts";
import { NOW, paymentSource, useWorld, type WorldStream } from "../../../support/build-world.ts";
import { Repairs } from "../../../support/repair-world.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const SEAL = NOW - 30 * MINUTE;
const world = useWorld();
let stream: WorldStream;
let reader: ReturnType<typeof createReader>;
let tenants = 0;

afterEach(() => reader?.close());

const payments = paymentSource(23, { cards: 8, shops: 3 });

async function living(): Promise<string> {
  const tenant = `v${tenants++}`;
  stream = await world.begin([tenant]);
  await stream.deploy(newer, NOW - 4 * DAY);
  await stream.stream(newer.plan, tenant, payments(100, NOW - 4 * DAY + HOUR, NOW));
  await stream.seal(newer.plan, SEAL);
  reader = createReader(newer.plan, { ...world.valkey, timeoutMs: 10_000 });
  return tenant;
}

function ports(more: Partial<VerifyPorts> = {}): VerifyPorts {
  const { plan, mirror, duck } = stream.ports(newer);
  return {
    ...{ plan, reader },
    clocks: () => primaryClocks(stream.connection),
    archived: (of, instants) => archivedAnswers({ plan, mirror, duck }, of, instants),
    archiveFromMs: async () => 0,
    registered: async () => registered,
    // Long enough for the clock of the store to have moved on.
    wait: () => sleep(20),
    ...more,
  };
}

const run = (
  tenant: string,
  request: VerifyRequest = {},
  more: Partial<VerifyPorts> = {},
  deadlineMs = Number.POSITIVE_INFINITY,
) => {
  const { plan, mirror, duck } = stream.ports(newer);
  return runVerify(
    {
      ...{ plan, clock: Date.now, tenants: async () => [tenant] },
      storeIds: () => storedIds(stream.connection, plan),
      archiveIds: (of, entity) =>
        archivedIds({ plan, mirror, duck }, { tenant: of, entity, fromMs: 0, toMs: Date.now() }),
      verify: (of) => verifyEntities(ports(more), of),
    },
    request,
    deadlineMs,
  );
};
const registered: PushedFeature[] = (["int64", "string"] as const).map((dtype, id) => ({
  ...{ view: "scores", key: `f${id}`, version: 1, entity: "card", dtype, ttlMs: DAY, description: "", unit: "" },
  ...{ owner: "tests", tags: [], deprecated: null, id, registeredMs: 0 },
}));
/** As `POST /v1/features/push` does it: into the store, then into the archive. */
async function push(
  tenant: string,
  id: string,
  values: readonly [number, string],
  steps: "store" | "archive" | "both",
) {
  const eventTimeMs = Date.now() - MINUTE;
  const named = registered.map(({ id: place, dtype }, i) => ({ id: place, dtype, value: values[i]! }));
  const packed = packValues(named, eventTimeMs);
  const row = { tenant, entity: "card", id, view: "_scores", eventTimeMs, packed, reachMs: 2 * DAY };
  const { plan, connection } = stream.ports(newer);
  if (steps !== "archive") await pushRows(new StoreApplier(connection, plan, 1), [row]);
  const visibleMs = Math.max(...(await primaryClocks(stream.connection)));
  const lines = [packedLine({ ...row, visibleMs })];
  if (steps !== "store")
    await writeLines({ s3: stream.s3, bucket: "archive" }, { tenant, view: "_scores" }, visibleMs, lines);
  await sleep(5);
}
const keyOf = (tenant: string, id: string) => entityKey(bucketOf(tenant, "card", id), tenant, "card", "payments", id);
const command = async (tenant: string, id: string, name: string, ...args: (string | Buffer)[]) => {
  const key = keyOf(tenant, id);
  return (await stream.connection.demand([{ key, name, args: [key, ...args] }]))[0];
};

describe("what was pushed", () => {
  it("is compared as well: what the store holds and the archive does not, and the other way round, is told", async () => {
    const tenant = await living();
    for (const id of ["c0", "c1", "only-pushed"]) await push(tenant, id, [1, "a"], "both");
    await push(tenant, "c0", [2, "b"], "both");
    const ids = ["c0", "c1", "c2", "only-pushed"];
    const verified = (of: readonly string[], pushed: boolean) =>
      verifyEntities(ports(), { tenant, entity: "card", ids: of, pushed });
    expect(await verified(ids, true)).toMatchObject({ checked: 4, differing: 0, racing: 0, notReady: 0 });
    const { mirror, duck } = stream.ports(newer);
    expect((await pushedIds({ mirror, duck }, { tenant, views: ["_scores"] })).sort()).toEqual([
      "c0",
      "c1",
      "only-pushed",
    ]);
    expect((await storedIds(stream.connection, newer.plan)).get(`${tenant}/card`)).toContain("only-pushed");
    await push(tenant, "c1", [3, "c"], "store");
    await push(tenant, "c2", [4, "d"], "archive");
    const { differing, differences } = await verified(ids, true);
    expect(differing).toBe(2);
    const told = differences.map(({ id, feature, online, offline }) => [id, feature, online?.value, offline?.value]);
    expect(told.sort()).toEqual([
      ["c1", "scores:f0@1", 3, 1],
      ["c1", "scores:f1@1", "c", "a"],
      ["c2", "scores:f0@1", null, 4],
      ["c2", "scores:f1@1", null, "d"],
    ]);
    expect(await verified(ids, false)).toMatchObject({ differing: 0 });
  });
});

describe("online and archive", () => {
  it("are the same of everything, and stay so through late events, their repair and a fold", async () => {
    const tenant = await living();
    const all = { checked: 11, differing: 0, racing: 0, notReady: 0, differences: [], next: null };
    expect(await run(tenant, { all: true })).toMatchObject({ ...all, entities: { card: 8, shop: 3 } });
    const repairs = await Repairs.open(world, stream, newer);
    const late = payments(25, NOW - 4 * DAY + HOUR, SEAL);
    await stream.stream(newer.plan, tenant, late);
    await repairs.queue(tenant, late);
    expect(await run(tenant, { all: true })).toMatchObject(all);
    expect(await repairs.round()).toMatchObject({ pending: 0 });
    expect(await run(tenant, { all: true })).toMatchObject(all);
    await stream.seal(newer.plan, NOW - 2 * MINUTE);
    await stream.stream(newer.plan, tenant, payments(10, NOW - MINUTE, NOW));
    expect(await run(tenant, { all: true })).toMatchObject(all);
  });

  it("differ where the store has lost or kept too much: with entity, feature and both values, until it is rebuilt", async () => {
    const tenant = await living();
    const fields = (await command(tenant, "c1", "HKEYS")) as Buffer[];
    await command(tenant, "c1", "HDEL", ...fields.filter((field) => field.length === 5 && field[0]! < 64).slice(0, 3));
    await command(tenant, "c2", "DEL");
    await command(tenant, "c77", "HSET", ...((await command(tenant, "c3", "HGETALL")) as Buffer[]));
    const report = await run(tenant, { all: true });
    expect(report).toMatchObject({ checked: 12, differing: 3, racing: 0 });
    expect([...new Set(report.differences.map(({ id }) => id))].sort()).toEqual(["c1", "c2", "c77"]);
    const lifetime = report.differences.find(({ id, feature }) => id === "c1" && feature === "cards:n_lifetime")!;
    expect(lifetime.offline!.value as number).toBeGreaterThan(lifetime.online!.value as number);
    expect(report.differences.find(({ id }) => id === "c2")!.online?.status).toBe("NOT_FOUND");
    expect(report.differences.find(({ id }) => id === "c77")!.offline).toEqual({
      value: null,
      status: "NOT_FOUND",
      eventTimeMs: null,
    });
    const one = await run(tenant, { tenant, entity: "card", id: "c1" });
    expect(one).toMatchObject({ checked: 1, differing: 1, next: null });
    await rebuildEntity(stream.ports(newer), { tenant, entity: "card", id: "c1" });
    expect(await run(tenant, { tenant, entity: "card", id: "c1" })).toMatchObject({ checked: 1, differing: 0 });
  });

  it("differ where somebody has written what is no hash of an entity, and the others are compared all the same", async () => {
    const tenant = await living();
    await command(tenant, "c1", "HSET", "m", "by hand");
    await command(tenant, "c2", "DEL");
    await command(tenant, "c2", "SET", "by hand");
    const report = await run(tenant, { all: true });
    expect(report).toMatchObject({ checked: 11, differing: 2, racing: 0 });
    const unread = { entity: "card", feature: "*", online: null, offline: null };
    const byId = report.differences.toSorted((a, b) => (a.id < b.id ? -1 : 1));
    expect(byId).toMatchObject(["c1", "c2"].map((id) => ({ ...unread, id })));
  });

  it("are looked at again while the archive is still being written, and where an event comes between", async () => {
    const tenant = await living();
    const event = { ...payments(1, NOW - MINUTE, NOW)[0]!, card: "c1" };
    // Applied, and archived only after the first look: as an invocation that is slow.
    let looks = 0;
    const slow: Partial<VerifyPorts> = {
      archived: async (of, instants) => {
        looks++;
        const { plan, mirror, duck } = stream.ports(newer);
        const answers = await archivedAnswers({ plan, mirror, duck }, of, instants);
        if (looks > 1) return answers;
        const hidden = answers.columns.map((column) => ({ ...column, statuses: column.statuses.map(() => 0) }));
        return { ...answers, columns: hidden };
      },
    };
    const ask = { tenant, entity: "card", id: "c1" };
    expect(await run(tenant, ask, slow)).toMatchObject({ checked: 1, differing: 0, racing: 0 });
    expect(looks).toBe(2);
    // It becomes visible between the two clocks of each read.
    let busy = 0;
    const racing: Partial<VerifyPorts> = {
      clocks: async () => {
        const clocks = await primaryClocks(stream.connection);
        if (busy++ % 2 === 0) await stream.stream(newer.plan, tenant, [{ ...event, id: `busy${busy}` }]);
        return clocks;
      },
    };
    expect(await run(tenant, ask, racing)).toMatchObject({ checked: 1, differing: 0, racing: 1 });
    expect(busy).toBe(8);
    expect(await run(tenant, ask)).toMatchObject({ checked: 1, differing: 0, racing: 0 });
  });

  it("are not compared beyond the archive's beginning, nor in a store that is not whole", async () => {
    const tenant = await living();
    const report = await run(tenant, { sample: 5 }, { archiveFromMs: async () => NOW - 2 * DAY });
    expect(report).toMatchObject({ checked: 8, differing: 0 });
    // Views with a lifetime, and those of seven days.
    expect(report.notReady).toBeGreaterThan(8);
    const controls = new ControlHashes(stream.connection, newer.plan);
    await controls.setState(1, ["ok"], "failover");
    await expect(run(tenant, { sample: 5 })).rejects.toMatchObject({
      code: "store_degraded",
      message: "the online store is not whole: failover",
    });
  });

  it.each([
    [{ all: true }, 4_101 + 1 + 2 + 1],
    [{ sample: 3_000 }, 3_000 + 1 + 2 + 1],
  ])("are gone through in parts, each entity once: %o", async (request, count) => {
    const tenant = await living();
    const seen: string[] = [];
    let after: string | undefined;
    let calls = 0;
    do {
      const { plan } = newer;
      const report = await runVerify(
        {
          ...{ plan, clock: () => 10, tenants: async () => [tenant, "another"] },
          storeIds: async () =>
            new Map([[`${tenant}/card`, new Set(Array.from({ length: 4_100 }, (_, i) => `c${i}`))]]),
          archiveIds: async (_, entity) => (entity === "shop" ? ["s1"] : ["c1", "c9999"]),
          verify: async (of) => {
            seen.push(...of.ids.map((id) => `${of.tenant}/${of.entity}/${id}`));
            return {
              checked: of.ids.length,
              racing: 0,
              differing: 0,
              notReady: 0,
              differences: [],
              objects: 0,
              bytes: 0,
            };
          },
        },
        { ...request, after },
        0,
      );
      after = report.next ?? undefined;
      calls++;
    } while (after !== undefined && calls < 20);
    expect(calls).toBeGreaterThan(3);
    expect(seen.length).toBe(new Set(seen).size);
    expect(seen.length).toBe(count);
  });

  it("are gone through for as long as a call is given, and as it takes to list them", async () => {
    let nowMs = 0;
    const parts: number[] = [];
    const call = (request: VerifyRequest, listMs: number) => {
      parts.length = 0;
      return runVerify(
        {
          ...{ plan: newer.plan, clock: () => nowMs, tenants: async () => ["t"] },
          storeIds: async () => {
            nowMs += listMs;
            return new Map([["t/card", new Set(Array.from({ length: 20_000 }, (_, i) => `c${i}`))]]);
          },
          archiveIds: async () => [],
          verify: async ({ ids }) => {
            nowMs += 10_000;
            parts.push(ids.length);
            const nothing = { racing: 0, differing: 0, notReady: 0, differences: [], objects: 0, bytes: 0 };
            return { checked: ids.length, ...nothing };
          },
        },
        { all: true, entity: "card", ...request },
        Number.POSITIVE_INFINITY,
      );
    };
    const first = await call({ budgetMs: 15_000 }, 1_000);
    expect([first.checked, parts.length]).toEqual([4_000, 2]);
    // A listing of ten seconds for parts of two would be mostly listing.
    const second = await call({ budgetMs: 15_000, after: first.next! }, 10_000);
    expect([second.checked, parts.length]).toEqual([10_000, 5]);
    expect(await call({ after: second.next! }, 1_000)).toMatchObject({ checked: 6_000, next: null });
  });

  it("of an id need its tenant and type, of a type one that there is", async () => {
    const tenant = await living();
    await expect(run(tenant, { id: "c1" })).rejects.toMatchObject({
      code: "verify_request",
      message: "an id is one entity's of one tenant",
    });
    // Of a type that is misspelt nobody is found, which would prove that nothing differs.
    for (const of of [{ id: "c1" }, { all: true }, {}])
      await expect(run(tenant, { tenant, entity: "cards", ...of })).rejects.toMatchObject({
        code: "entity_unknown",
        message: "no entity with features of events is named cards",
        repair: "use card, shop",
      });
  });
});
