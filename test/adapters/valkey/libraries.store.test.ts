import { expect, it } from "vitest";
import { StoreApplier } from "../../../adapters/valkey/applier.ts";
import { dropOldLibraries } from "../../../adapters/valkey/libraries.ts";
import * as d from "../../../core/definition.ts";
import { fileStore } from "../../support/file-store.ts";
import { viewPlan } from "../../support/group-plans.ts";
import { allBorn } from "../../support/one-entity.ts";

const T = Date.UTC(2026, 0, 5, 22, 17);
const plans = (["1h", "2h", "3h"] as const).map((size) => viewPlan({ n: d.count().over(size) }));
const store = fileStore();

const appliers = () => plans.map((plan) => new StoreApplier(store.connection, plan, 1));
async function loaded(): Promise<string[]> {
  const [node] = await store.connection.primaries();
  const listed = (await node.call("FUNCTION", "LIST")) as string[][];
  return listed.map((library) => library[library.indexOf("library_name") + 1]).sort();
}
/** As control does each minute. */
async function tick(applier: StoreApplier): Promise<number> {
  await applier.loadFunction();
  return dropOldLibraries(store.connection, applier.library);
}

it("keeps the library of this plan and of the one before, and what is not ours", async () => {
  const [a, b, c] = appliers();
  const [node] = await store.connection.primaries();
  await node.call("FUNCTION", "LOAD", "#!lua name=theirs\nserver.register_function('theirs', function() return 1 end)");
  expect(await tick(a)).toBe(0);
  expect(await tick(a)).toBe(0);
  expect(await tick(b)).toBe(0);
  expect(await loaded()).toEqual([a.library, b.library, "theirs"].sort());
  expect(await tick(c)).toBe(1);
  expect(await tick(c)).toBe(0);
  expect(await loaded()).toEqual([b.library, c.library, "theirs"].sort());
  // Taken back: the newer one is the one before now.
  expect(await tick(b)).toBe(0);
  expect(await loaded()).toEqual([b.library, c.library, "theirs"].sort());
});

it("takes nothing from code that still uses an older one: it loads its own again", async () => {
  const one = store.entity("old");
  const [plan] = plans;
  const [group] = plan.groups;
  await one.control([{ group, sealMs: T - 3_600_000, births: allBorn(group) }]);
  const writer = one.writer(plan);
  await writer.apply([{ id: "a", timeMs: T, fields: {} }]);
  for (const applier of appliers().slice(1)) await tick(applier);
  expect(await loaded()).not.toContain(writer.applier.library);
  const fates = await writer.apply([
    { id: "a", timeMs: T, fields: {} },
    { id: "b", timeMs: T, fields: {} },
  ]);
  expect(fates.map(({ fate }) => fate)).toEqual(["duplicate", "applied"]);
});
