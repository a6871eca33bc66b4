/** Stored states of the operators that came after the first layout, written down: made by the store's function, read for ever. */
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ValkeyConnection } from "../../../adapters/valkey/connection.ts";
import { objectField } from "../../../adapters/valkey/layout.ts";
import { encodeObject } from "../../../adapters/valkey/put.ts";
import { Answered, stateAt } from "../../../adapters/valkey/tile-states.ts";
import * as d from "../../../core/definition.ts";
import { viewPlan } from "../../support/group-plans.ts";
import { allBorn, OneEntity, type RawEvent } from "../../support/one-entity.ts";
import { startValkey, type TestValkey } from "../../support/valkey.ts";

const golden = JSON.parse(
  readFileSync(new URL("../../fixtures/golden/valkey/v1.objects.json", import.meta.url), "utf8"),
);
const FEATURES: Readonly<Record<string, d.AggregationDefinition>> = {
  lastN: d.lastN("country", { n: 3 }),
  "lastN of numbers": d.lastN("amount", { n: 2 }),
  approxPercentile: d.approxPercentile("amount", { p: 0.5 }),
};
const events = golden.events as readonly RawEvent[];
const HOUR = 3_600_000;

let valkey: TestValkey;
let connection: ValkeyConnection;
beforeAll(async () => {
  valkey = await startValkey();
  connection = new ValkeyConnection(valkey);
});
afterAll(async () => {
  await connection?.close();
  await valkey?.stop();
});

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
      const one = new OneEntity(connection, valkey, "golden");
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
    expect(read(bytes)).toEqual(state);
    expect(encodeObject(slot.kind, read(bytes)).toString("hex")).toBe(bytes);
    expect(encodeObject(slot.kind, read(folded)).toString("hex")).toBe(folded);
  });
});
