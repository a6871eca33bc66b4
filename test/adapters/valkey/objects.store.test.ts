/** Stored states of the operators that came after the first layout, written down: made by the store's function, read for ever. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { objectField } from "../../../adapters/valkey/layout.ts";
import { encodeObject } from "../../../adapters/valkey/put.ts";
import { Answered, stateAt } from "../../../adapters/valkey/tile-states.ts";
import * as d from "../../../core/definition.ts";
import { fileStore } from "../../support/file-store.ts";
import { viewPlan } from "../../support/group-plans.ts";
import { allBorn, type RawEvent } from "../../support/one-entity.ts";

const golden = JSON.parse(
  readFileSync(new URL("../../fixtures/golden/valkey/v1.objects.json", import.meta.url), "utf8"),
);
const FEATURES: Readonly<Record<string, d.AggregationDefinition>> = {
  lastN: d.lastN("country", { n: 3 }),
  "lastN of numbers": d.lastN("amount", { n: 2 }),
  topK: d.topK("country", { k: 2 }),
  approxPercentile: d.approxPercentile("amount", { p: 0.5 }),
};
const events = golden.events as readonly RawEvent[];
const HOUR = 3_600_000;

const store = fileStore();

it("covers each of them", () => {
  expect(Object.keys(golden.objects)).toEqual(Object.keys(FEATURES));
});

describe.each(Object.entries(FEATURES))("%s", (name, feature) => {
  const plan = viewPlan({ x: feature.over("24h") });
  const [group] = plan.groups;
  const [slot] = group.slots;
  const { bytes, folded, state } = golden.objects[name];

  it("is written by the function as it was, in any order, and folded as it was", async () => {
    for (const order of [events, [...events].reverse()]) {
      const one = store.entity("golden");
      await one.command("DEL");
      await one.control([{ group, sealMs: golden.sealMs, births: allBorn(group) }]);
      await one.writer(plan).apply(order);
      const at = (level: number) => {
        const { id, sizeMs } = group.levels[level];
        return objectField(slot.id, id, Math.floor(events[0].timeMs / sizeMs)).toString("hex");
      };
      expect((await one.dump()).get(at(0))?.toString("hex")).toBe(bytes);
      await one.control([{ group, sealMs: golden.sealMs + 3 * HOUR, births: allBorn(group) }]);
      await one.writer(plan).touch();
      const hour = group.levels.findIndex(({ sizeMs }) => sizeMs === HOUR);
      expect((await one.dump()).get(at(hour))?.toString("hex")).toBe(folded);
    }
  });

  it("is read as it was, and put by a build as it was", () => {
    const read = (hex: string) => stateAt(slot, Int32Array.of(0), new Answered([Buffer.from(hex, "hex")]));
    expect(read(bytes)).toEqual(slot.kind === "tally" && state !== "overflow" ? new Map(state) : state);
    expect(encodeObject(slot.kind, read(bytes)).toString("hex")).toBe(bytes);
    expect(encodeObject(slot.kind, read(folded)).toString("hex")).toBe(folded);
  });
});

it("a tally of more than 64 values is one byte, whether they meet in a tile or in a fold", async () => {
  const plan = viewPlan({ x: d.topK("shop", { k: 1 }).over("24h") });
  const [group] = plan.groups;
  const [slot] = group.slots;
  const [{ timeMs }] = events;
  const field = (level: number) =>
    objectField(slot.id, group.levels[level].id, Math.floor(timeMs / group.levels[level].sizeMs)).toString("hex");
  const hour = group.levels.findIndex(({ sizeMs }) => sizeMs === HOUR);
  const shops = (count: number, minutes: number) =>
    Array.from({ length: count }, (_, n) => ({
      id: `${n}`,
      timeMs: timeMs + (n % minutes) * 60_000,
      fields: { shop: `s${n}` },
    }));
  for (const { count, minutes, first, folded } of [
    { count: 64, minutes: 1, first: 694, folded: 694 },
    { count: 65, minutes: 1, first: 1, folded: 1 },
    { count: 65, minutes: 2, first: 358, folded: 1 },
  ]) {
    const one = store.entity(`tally${count}${minutes}`);
    await one.control([{ group, sealMs: golden.sealMs, births: allBorn(group) }]);
    await one.writer(plan).apply(shops(count, minutes));
    const before = (await one.dump()).get(field(0))!;
    await one.control([{ group, sealMs: golden.sealMs + 3 * HOUR, births: allBorn(group) }]);
    await one.writer(plan).touch();
    const after = (await one.dump()).get(field(hour))!;
    expect({ count, minutes, first: before.length, folded: after.length }).toEqual({ count, minutes, first, folded });
    if (folded === 1) expect(after.toString("hex")).toBe("ff");
  }
});
