/** An entity as an earlier release stored it, put into a real Valkey: it is read, recognised, folded and swept as if it were new. */
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, it } from "vitest";
import { hash64 } from "../../../adapters/hash.ts";
import { ValkeyConnection } from "../../../adapters/valkey/connection.ts";
import { identityText } from "../../../core/event.ts";
import { isObject } from "../../../core/operators/accumulators.ts";
import type { Plan } from "../../../core/plan.ts";
import { naive } from "../../core/naive.ts";
import { GOLDEN_STEPS, GOLDEN_TENANT } from "../../support/golden-store.ts";
import { allBorn, OneEntity } from "../../support/one-entity.ts";
import { startValkey, type TestValkey } from "../../support/valkey.ts";

const read = (name: string) =>
  JSON.parse(readFileSync(new URL(`../../fixtures/golden/valkey/${name}`, import.meta.url), "utf8"));
/** Recorded by a release that knew no batch views. */
const plan: Plan = { ...read("v1.plan.json"), batchViews: [] };
const golden = read("v1.entity.json");
const [group] = plan.groups;
const events = GOLDEN_STEPS.flatMap((step) => step.events);
const hash32 = (text: string) => Number.parseInt(hash64(text).slice(0, 8), 16);

let valkey: TestValkey;
let one: OneEntity;
beforeAll(async () => {
  valkey = await startValkey();
  one = new OneEntity(new ValkeyConnection(valkey), valkey, GOLDEN_TENANT);
  await one.control([{ group, sealMs: golden.sealMs, births: allBorn(group) }]);
  const fields = Object.entries(golden.fields as Record<string, string>);
  await one.command("HSET", ...fields.flat().map((text) => Buffer.from(text, "hex")));
});
afterAll(async () => {
  await one?.connection.close();
  await valkey?.stop();
});
const values = async (t = golden.asOfMs) => Object.fromEntries(await one.read(plan, t));

it("has the key that it had", () => {
  expect(one.key).toBe(golden.key);
});

it("gives the values that it gave, and those are right", async () => {
  expect(await values()).toEqual(golden.values);
  const history = events.map(({ id, timeMs, fields }) => ({
    identity: hash64(identityText(GOLDEN_TENANT, "payments", timeMs, id)),
    timeMs,
    fields: { ...fields, at: timeMs },
  }));
  for (const feature of plan.views[0].features) {
    const { value } = golden.values[feature.name];
    expect({ feature: feature.name, value }).toEqual({
      feature: feature.name,
      value: naive(group, feature, history, golden.asOfMs, hash32),
    });
  }
});

it("knows its events again", async () => {
  const open = events.filter(({ timeMs }) => timeMs >= golden.sealMs);
  expect(open.length).toBeGreaterThan(340);
  const before = await one.dump();
  const fates = await one.writer(plan).apply(events);
  expect(fates.filter(({ fate }) => fate === "duplicate")).toHaveLength(open.length);
  expect(fates.filter(({ fate }) => fate === "sealed")).toHaveLength(events.length - open.length);
  expect(await one.dump()).toEqual(before);
});

it("is written today as it was then, but for the time of writing", async () => {
  const again = new OneEntity(one.connection, valkey, GOLDEN_TENANT);
  const untimed = (fields: Map<string, Buffer>) =>
    new Map(
      [...fields].sort().map(([name, bytes]) => {
        const copy = Buffer.from(bytes);
        // Revision of the head; apply times behind identities, whose order in a field is that of writing.
        if (name === "6d") copy.fill(0, 2, 10);
        if (name.startsWith("69") && copy.length > 1) {
          for (let at = 8; at < copy.length; at += 12) copy.fill(0, at, at + 4);
        }
        return [name, copy.toString("hex")];
      }),
    );
  const old = untimed(await one.dump());
  await again.command("DEL");
  let sealMs = GOLDEN_STEPS[0].events[0].timeMs - 3_600_000;
  const writer = again.writer(plan);
  for (const step of GOLDEN_STEPS) {
    await again.control([{ group, sealMs, births: allBorn(group) }]);
    await writer.apply(step.events);
    sealMs = step.sealMs;
    await again.control([{ group, sealMs, births: allBorn(group) }]);
    await writer.touch();
  }
  const now = untimed(await again.dump());
  const left = [...old.keys()].filter((name) => !now.has(name));
  for (const name of left) old.delete(name);
  expect(now).toEqual(old);
  // Objects stayed then for as long as the longest window of any slot; now for those of their own.
  for (const name of left) {
    const [kind, slot, level] = Buffer.from(name, "hex");
    const { sizeMs } = group.levels.find(({ id }) => id === level)!;
    expect([kind, Buffer.from(name, "hex").readUInt32BE(3) * sizeMs + ownWindowsMs(slot)]).toEqual([
      0x73,
      expect.toSatisfy((endMs: number) => endMs < golden.sealMs),
    ]);
  }
});

/** The longest that windows over an object's slot reach. */
function ownWindowsMs(objectSlot: number): number {
  const index = group.slots.findIndex(({ id, kind }) => isObject(kind) && id === objectSlot);
  const windows = plan.views[0].features.filter(({ slots }) => slots.includes(index)).map(({ window }) => window);
  return Math.max(...windows.map((window) => (window.kind === "hopping" ? window.sizeMs + window.delayMs : 0)));
}

it("takes what was before its slots' births from the bulk build", async () => {
  // u8 1 slot, slot 0 (count), u40 1,000; and a first value of an earlier second.
  await one.command("HSET", "P", Buffer.from("0100e803000000", "hex"));
  const first = group.slots.find(({ kind }) => kind === "first")!;
  const value = Buffer.concat([Buffer.alloc(16), Buffer.from("0444", "hex"), Buffer.from("K")]);
  await one.command("HSET", Buffer.from([0x50, first.id]), value);
  const now = await values();
  expect(now["view:n_lifetime"].value).toBe(golden.values["view:n_lifetime"].value + 1_000);
  expect(now["view:first_country"].value).toBe("DK");
  expect(now["view:n_24h"]).toEqual(golden.values["view:n_24h"]);
  await one.command("HDEL", "P", Buffer.from([0x50, first.id]));
});

it("is folded and swept like any other, and its lifetime stays", async () => {
  const day = 86_400_000;
  await one.control([{ group, sealMs: golden.sealMs + 4 * day, births: allBorn(group) }]);
  await one.writer(plan).touch();
  expect([...(await one.dump()).keys()].filter((name) => !/^(6d|41)/.test(name))).toEqual([]);
  const later = await values(golden.asOfMs + 4 * day);
  for (const name of [
    "n_lifetime",
    "total_lifetime",
    "high",
    "shops_lifetime",
    "first_country",
    "last_online_lifetime",
  ]) {
    expect(later[`view:${name}`].value).toEqual(golden.values[`view:${name}`].value);
  }
});
