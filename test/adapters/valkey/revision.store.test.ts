/** `rev` orders the states of an entity: it grows with each change, in a store whose clock may stand or go back. */
import { expect, it } from "vitest";
import { decodeMeta, META_FIELD } from "../../../adapters/valkey/layout.ts";
import * as d from "../../../core/definition.ts";
import { fileStore } from "../../support/file-store.ts";
import { viewPlan } from "../../support/group-plans.ts";
import { allBorn } from "../../support/one-entity.ts";

const MINUTE = 60_000;
const T = Date.UTC(2026, 0, 5, 22, 17);
const plan = viewPlan({ n: d.count().over("1h", "lifetime") });
const [group] = plan.groups;
const store = fileStore();

async function entity(tenant: string) {
  const one = store.entity(tenant);
  const seal = (sealMs: number) => one.control([{ group, sealMs, births: allBorn(group) }]);
  await seal(T - 60 * MINUTE);
  const raw = () => one.command<Buffer>("HGET", META_FIELD);
  return {
    one,
    seal,
    writer: one.writer(plan),
    rev: async () => decodeMeta(await raw()).rev,
    /** As if a primary whose clock is ahead had written last. */
    setRev: async (rev: number) => {
      const meta = Buffer.from(await raw());
      meta.writeDoubleLE(rev, 2);
      await one.command("HSET", META_FIELD, meta);
    },
    /** The store's clock, in µs. */
    clock: async () => {
      const [time] = await store.connection.demand([{ key: one.key, name: "TIME", args: [] }]);
      const [seconds, micros] = (time as Buffer[]).map(Number);
      return seconds * 1e6 + micros;
    },
  };
}
const event = (id: string, timeMs = T) => ({ id, timeMs, fields: {} });

it("is the store's time in µs, of the last apply that changed anything", async () => {
  const { writer, rev, clock } = await entity("clock");
  const before = await clock();
  await writer.apply([event("a"), event("b")]);
  const first = await rev();
  expect(first).toBeGreaterThanOrEqual(before);
  expect(first).toBeLessThanOrEqual(await clock());
  await writer.apply([event("a")]);
  expect(await rev()).toBe(first);
  const between = await clock();
  await writer.apply([event("c")]);
  expect(await rev()).toBeGreaterThanOrEqual(between);
});

it("grows by one where the store's clock is behind it, with applies and folds alike", async () => {
  const { writer, seal, rev, setRev, clock } = await entity("behind");
  await writer.apply([event("a")]);
  const ahead = (await clock()) + 3_600e6;
  await setRev(ahead);
  await writer.apply([event("b")]);
  expect(await rev()).toBe(ahead + 1);
  await seal(T + 10 * MINUTE);
  await writer.touch();
  expect(await rev()).toBe(ahead + 2);
  // Nothing to fold any more: nothing has changed.
  await writer.touch();
  expect(await rev()).toBe(ahead + 2);
  // An apply that also folds changes the entity twice.
  await writer.apply([event("c", T + 11 * MINUTE)]);
  await seal(T + 20 * MINUTE);
  await writer.apply([event("d", T + 21 * MINUTE)]);
  expect(await rev()).toBe(ahead + 5);
});
