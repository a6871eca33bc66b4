/** One entity anew from the archive, on a real store: what was wrong in it is right again, and nothing else has changed. */
import { describe, expect, it } from "vitest";
import type { RebuildRequest } from "../../../../adapters/jobs/rebuild-requests.ts";
import { bucketOf, entityKey } from "../../../../adapters/valkey/layout.ts";
import { rebuildEntity, rebuildIn } from "../../../../functions/shared/build/entity-build.ts";
import { runRebuildRequest } from "../../../../functions/shared/build/rebuild-request.ts";
import { newer } from "../../../support/build-plans.ts";
import { NOW, type Payment, useWorld, type WorldStream } from "../../../support/build-world.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const SEAL = NOW - 30 * MINUTE;
const world = useWorld();
let stream: WorldStream;
let tenants = 0;

let ids = 0;
const payment = (timeMs: number, card = "c1"): Payment => ({
  ...{ id: `e${ids++}`, timeMs, card, shop: `s${ids % 2}`, amount: ids / 4, country: ids % 3 === 0 ? "NO" : null },
});
const ages = [3.5 * DAY, 3 * DAY, 2 * DAY, 26 * HOUR, 5 * HOUR, 2 * HOUR, 40 * MINUTE, 20 * MINUTE, MINUTE];

async function living(): Promise<[string, string]> {
  const names: [string, string] = [`x${tenants++}`, `x${tenants++}`];
  stream = await world.begin(names);
  await stream.deploy(newer, NOW - 4 * DAY);
  for (const tenant of names) {
    const events = ["c1", "c2"].flatMap((card) => ages.map((age) => payment(NOW - age, card)));
    await stream.stream(newer.plan, tenant, events);
  }
  await stream.seal(newer.plan, SEAL);
  return names;
}

const keyOf = (tenant: string, id: string) => entityKey(bucketOf(tenant, "card", id), tenant, "card", "payments", id);
const command = async (tenant: string, id: string, name: string, ...args: (string | Buffer)[]) => {
  const key = keyOf(tenant, id);
  const [answer] = await stream.connection.demand([{ key, name, args: [key, ...args] }]);
  return answer;
};
const isTile = (field: Buffer) => (field.length === 5 && field[0]! < 64) || field[0] === 0x41;
async function wreck(tenant: string, id: string): Promise<void> {
  const fields = (await command(tenant, id, "HKEYS")) as Buffer[];
  // What is above the seal stays right: its identities would keep it from being counted again.
  const sealed = fields.filter((field) => isTile(field) && (field.length < 5 || field.readUInt32BE(1) < SEAL / MINUTE));
  expect(sealed.length).toBeGreaterThan(3);
  await command(tenant, id, "HDEL", ...sealed);
}
const differences = (tenant: string) => stream.differences(newer.plan, tenant, () => true);
const rebuild = (tenant: string, id = "c1", entity = "card") =>
  rebuildEntity(stream.ports(newer), { tenant, entity, id });

describe("one entity that is built anew", () => {
  it("is right again, whatever was missing, and stays so", async () => {
    const [tenant, other] = await living();
    expect(await differences(tenant)).toEqual([]);
    await wreck(tenant, "c1");
    const found = (await differences(tenant)) as { id: string }[];
    expect([...new Set(found.map(({ id }) => id))]).toEqual(["c1"]);
    // Of nine, two are above the seal.
    const rebuilt = { stream: "payments", state: "rebuilt", reason: null, events: 7 };
    expect(await rebuild(tenant)).toEqual([rebuilt]);
    expect(await differences(tenant)).toEqual([]);
    expect(await rebuild(tenant)).toEqual([rebuilt]);
    expect(await differences(tenant)).toEqual([]);
    await stream.stream(newer.plan, tenant, [payment(NOW - 5 * MINUTE)]);
    await stream.seal(newer.plan, NOW - 2 * MINUTE);
    expect(await differences(tenant)).toEqual([]);
    expect(await differences(other)).toEqual([]);
    expect(await stream.table.getLease("payments")).toMatchObject({ expiresMs: 0 });
  });

  it("that the archive knows nothing of is left alone where it is not, and emptied where it is", async () => {
    const [tenant] = await living();
    expect(await rebuild(tenant, "nobody")).toMatchObject([{ state: "rebuilt", events: 0 }]);
    expect(await command(tenant, "nobody", "EXISTS")).toBe(0);
    const dump = (await command(tenant, "c1", "HGETALL")) as Buffer[];
    await command(tenant, "c9", "HSET", ...dump);
    expect(await rebuild(tenant, "c9")).toMatchObject([{ state: "rebuilt", events: 0 }]);
    const left = (await command(tenant, "c9", "HKEYS")) as Buffer[];
    expect(
      left.filter((field) => isTile(field) && (field.length < 5 || field.readUInt32BE(1) < SEAL / MINUTE)),
    ).toEqual([]);
  });

  it("of which there are many is one of many: one that cannot be put keeps no other from it", async () => {
    const [tenant] = await living();
    await wreck(tenant, "c1");
    await wreck(tenant, "c2");
    const [group] = newer.plan.groups;
    const report = await rebuildIn(stream.ports(newer), group!, tenant, ["c1", "nobody", "c2"]);
    expect(report).toEqual({ stream: "payments", state: "rebuilt", reason: null, events: 14 });
    expect(await differences(tenant)).toEqual([]);
  });

  it("waits for whoever works below the seal, and names entities that there are", async () => {
    const [tenant] = await living();
    await stream.table.takeLease("payments", { holder: "build 3", expiresMs: Date.now() + HOUR }, Date.now());
    expect(await rebuild(tenant)).toEqual([
      { stream: "payments", state: "waiting", reason: "build 3 works below the seal of payments", events: 0 },
    ]);
    await stream.table.releaseLease("payments", "build 3");
    await expect(rebuild(tenant, "c1", "cards")).rejects.toMatchObject({
      code: "entity_unknown",
      message: "no entity with features of events is named cards",
      repair: "use card, shop",
    });
  });
});

describe("a request to rebuild", () => {
  const request: RebuildRequest = {
    ...{ tenant: "t", id: "1", entities: ["card", "shop"], entityId: "c", state: "queued", error: null },
    ...{ createdMs: 1, updatedMs: 1 },
  };
  const told = () => {
    const states: string[] = [];
    let standing = request;
    const requests = {
      get: async () => standing,
      put: async (changed: RebuildRequest) => {
        standing = changed;
        states.push(changed.error === null ? changed.state : `${changed.state} ${changed.error.code}`);
      },
    };
    return { states, requests };
  };
  const answer = (name: string, reason: string | null) => ({
    ...{ stream: name, reason, events: 1, state: reason === null ? ("rebuilt" as const) : ("waiting" as const) },
  });

  it("is done again for those streams alone that had to wait", async () => {
    const { states, requests } = told();
    const asked: unknown[] = [];
    const rebuild = async (of: { entity: string }, streams?: readonly string[]) => {
      asked.push([of.entity, streams]);
      return asked.length === 1 ? [answer("a", null), answer("b", "a build works")] : [answer("b", null)];
    };
    const done = await runRebuildRequest({ requests, rebuild, clock: () => 0, wait: async () => {} }, request, 10_000);
    expect(done?.state).toBe("done");
    expect(asked).toEqual([
      ["card", undefined],
      ["card", ["b"]],
      ["shop", undefined],
    ]);
    expect(states).toEqual(["running", "running", "running", "done"]);
    expect(await runRebuildRequest({ requests, rebuild, clock: () => 0 }, request, 10_000)).toBeNull();
  });

  it("that cannot be done in time, or at all, says why", async () => {
    const late = told();
    const waiting = async () => [answer("a", "a build works")];
    const run = runRebuildRequest({ requests: late.requests, rebuild: waiting, clock: () => 9_000 }, request, 10_000);
    await expect(run).rejects.toMatchObject({ code: "rebuild_waiting", message: "a build works" });
    expect(late.states).toEqual(["running", "failed rebuild_waiting"]);
    const broken = told();
    const throws = async () => Promise.reject(new TypeError("secret"));
    await expect(
      runRebuildRequest({ requests: broken.requests, rebuild: throws, clock: () => 0 }, request, 10_000),
    ).rejects.toThrow("secret");
    expect(broken.states).toEqual(["running", "failed internal"]);
  });
});
