/** Entities that see a great deal: their identities split by themselves, and their cells fill up without wrapping around. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hash64 } from "../../../adapters/hash.ts";
import { ValkeyConnection } from "../../../adapters/valkey/connection.ts";
import { RecordPacker } from "../../../adapters/valkey/record.ts";
import * as d from "../../../core/definition.ts";
import { compileGroups, identityText } from "../../../core/event.ts";
import type { Plan } from "../../../core/plan.ts";
import { EntityTiles } from "../../../core/tiles/tiles.ts";
import { viewPlan } from "../../support/group-plans.ts";
import { allBorn, OneEntity, type RawEvent } from "../../support/one-entity.ts";
import { startValkey, type TestValkey } from "../../support/valkey.ts";

const MINUTE = 60_000;
const START = Date.UTC(2026, 0, 5, 22, 17);
let valkey: TestValkey;
let connection: ValkeyConnection;
let tenants = 0;
beforeAll(async () => {
  valkey = await startValkey();
  connection = new ValkeyConnection({ ...valkey, timeoutMs: 10_000 });
});
afterAll(async () => {
  await connection?.close();
  await valkey?.stop();
});

async function open(plan: Plan) {
  const one = new OneEntity(connection, valkey, `t${tenants++}`);
  const [group] = plan.groups;
  const seal = (sealMs: number) => one.control([{ group, sealMs, births: allBorn(group) }]);
  await seal(START - 60 * MINUTE);
  return { one, seal, writer: one.writer(plan) };
}
const many = (count: number, fields: (n: number) => Record<string, unknown> = () => ({}), timeMs = START): RawEvent[] =>
  Array.from({ length: count }, (_, n) => ({ id: `e${n}`, timeMs, fields: fields(n) }));
/** Fields of identities: of the base tile itself, and of its chunks. */
async function idFields(one: OneEntity) {
  const fields = [...(await one.dump())].filter(([field]) => field.startsWith("69"));
  return {
    main: fields.filter(([field]) => field.length === 10).map(([, bytes]) => bytes),
    chunks: fields.filter(([field]) => field.length === 12).map(([, bytes]) => bytes),
  };
}

describe("identities of a busy base tile", () => {
  const plan = viewPlan({ n: d.count().over("24h") });
  const FORMS: readonly [string, number, number | null][] = [
    ["one field", 341, null],
    ["16 fields", 342, 4],
    ["16 fields, nearly full", 4_000, 4],
    ["256 fields", 7_000, 8],
  ];

  it.each(FORMS)("lie in %s: %i events", async (_, count, bits) => {
    const { one, seal, writer } = await open(plan);
    const events = many(count);
    const first = await writer.apply(events);
    expect(first.every(({ fate }) => fate === "applied")).toBe(true);
    const { main, chunks } = await idFields(one);
    if (bits === null) expect(main.map((bytes) => bytes.length)).toEqual([12 * count]);
    else {
      expect(main.map((bytes) => bytes.toString("hex"))).toEqual([`0${bits}`]);
      expect(chunks.length).toBeLessThanOrEqual(2 ** bits);
      expect(chunks.reduce((total, bytes) => total + bytes.length, 0)).toBe(12 * count);
      expect(Math.max(...chunks.map((bytes) => bytes.length))).toBeLessThanOrEqual(4_096);
    }
    // Each is found again, with the time of its first apply, and counted once.
    const again = await writer.apply([...events].reverse());
    expect(again.map(({ fate, visibleMs }) => ({ fate, visibleMs }))).toEqual(
      [...first].reverse().map(({ visibleMs }) => ({ fate: "duplicate", visibleMs })),
    );
    expect((await one.read(plan, START + MINUTE)).get("view:n_24h")!.value).toBe(count);
    // Below the seal they are swept.
    await seal(START + 2 * 60 * MINUTE);
    await writer.touch();
    expect(await idFields(one)).toEqual({ main: [], chunks: [] });
    expect(await one.command<number>("HLEN")).toBeLessThan(5);
    expect((await one.read(plan, START + MINUTE)).get("view:n_24h")!.value).toBe(count);
  });

  it("split in the middle of a call that holds duplicates of both sides", async () => {
    const { one, writer } = await open(plan);
    await writer.apply(many(300));
    const mixed = many(450).flatMap((event, n) => (n % 3 === 0 ? [event, event] : [event]));
    const fates = await writer.apply(mixed);
    expect(fates.filter(({ fate }) => fate === "applied")).toHaveLength(150);
    expect(fates.filter(({ fate }) => fate === "duplicate")).toHaveLength(450);
    expect((await one.read(plan, START + MINUTE)).get("view:n_24h")!.value).toBe(450);
  });

  it("of a quiet tile beside a busy one stay in one field, and all are swept together", async () => {
    const { one, seal, writer } = await open(plan);
    await writer.apply([...many(400), ...many(3, () => ({}), START + MINUTE).map((e) => ({ ...e, id: `q${e.id}` }))]);
    const { main, chunks } = await idFields(one);
    expect(main.map((bytes) => bytes.length).sort((a, b) => a - b)).toEqual([1, 36]);
    expect(chunks.length).toBeGreaterThan(10);
    await seal(START + 60 * MINUTE);
    await writer.touch();
    expect(await idFields(one)).toEqual({ main: [], chunks: [] });
  });

  it("are found whole only: the end of one with the time behind it is another identity", async () => {
    const { one, writer } = await open(plan);
    const [first] = await writer.apply(many(2));
    const stored = (await idFields(one)).main[0];
    const across = stored.subarray(4, 12);
    const [prepared] = [new RecordPacker(plan, "payments").prepare(one.tenant, "other", START, { card: "c" })];
    const updates = prepared.updates.map(({ bytes, start, length, ...update }) => ({
      ...update,
      bytes: Buffer.concat([across, bytes.subarray(start + 8, start + length)]),
      start: 0,
      length,
    }));
    const other = { identity: across.toString("hex"), updates };
    const { fates } = await writer.applier.apply([other]);
    expect(first.fate).toBe("applied");
    expect(fates[0][0].fate).toBe("applied");
    expect((await writer.applier.apply([other])).fates[0][0].fate).toBe("duplicate");
  });

  it("take memory that is given back once they are sealed", async () => {
    const { one, seal, writer } = await open(plan);
    const usage = async () => {
      const [bytes] = await connection.demand([
        { key: one.key, name: "MEMORY", args: ["USAGE", one.key, "SAMPLES", 0] },
      ]);
      return bytes as number;
    };
    await writer.apply(many(3_000));
    const busy = await usage();
    await seal(START + 60 * MINUTE);
    await writer.touch();
    expect(busy).toBeGreaterThan(3_000 * 12);
    expect(await usage()).toBeLessThan(2_000);
  });
});

describe("a record with every input that a mask holds", () => {
  it("counts for each of 32 conditions that it meets", async () => {
    const conditions = Array.from({ length: 32 }, (_, i) => [
      `x${i}`,
      d.count({ where: d.gt("amount", i) }).over("1h"),
    ]);
    const plan = viewPlan(Object.fromEntries(conditions));
    const { one, writer } = await open(plan);
    await writer.apply([0, 1, 16, 31.5, 32].map((amount, n) => ({ id: `e${n}`, timeMs: START, fields: { amount } })));
    const values = [...(await one.read(plan, START)).values()].map(({ value }) => value);
    expect(values).toEqual([4, ...new Array(15).fill(3), ...new Array(15).fill(2), 2]);
  });

  it("holds the longest texts beside them", async () => {
    const texts = ["country", "shop"].flatMap((field) =>
      [0, 1, 2, 3, 4, 5, 6].map((i) => [`${field}${i}`, d.last(field, { where: d.gt("amount", i) }).over("1h")]),
    );
    const plan = viewPlan(Object.fromEntries(texts));
    const { one, writer } = await open(plan);
    const country = "𝄞".repeat(512);
    const shop = "Å".repeat(1_024);
    const fields = { amount: 9, country, shop };
    await writer.apply([
      { id: "a", timeMs: START, fields },
      { id: "b", timeMs: START + 1, fields },
    ]);
    const values = [...(await one.read(plan, START)).values()].map(({ value }) => value);
    expect(values).toEqual([...new Array(7).fill(country), ...new Array(7).fill(shop)]);
  });
});

describe("cells at their limits", () => {
  const LARGEST = (2 ** 43 - 1) / 100;
  const HALF = 2 ** 42 / 100;
  const plan = viewPlan({
    sum: d.sum("amount", { scale: 2 }).over("24h"),
    variance: d.variance("amount", { scale: 2 }).over("24h"),
    low: d.min("amount").over("24h"),
  });
  const [reader] = compileGroups(plan, "payments", hash64);

  /** Applies the values as one tile each minute, folds them, and compares with the model in memory. */
  async function compare(values: readonly number[], perMinute: number) {
    const { one, seal, writer } = await open(plan);
    const model = new EntityTiles(reader.group, START - 60 * MINUTE);
    const events = values.map((amount, n) => ({
      id: `e${n}`,
      timeMs: START + Math.floor(n / perMinute) * MINUTE,
      fields: { amount },
    }));
    await writer.apply(events);
    for (const { id, timeMs, fields } of events) {
      const identity = hash64(identityText(one.tenant, "payments", timeMs, id));
      const contributions = reader.channels.map((channel) => channel(fields));
      model.apply({ identity, timeMs, contributions }, START - 60 * MINUTE, START);
    }
    const [view] = plan.views;
    const t = START + 12 * 60 * MINUTE;
    const served = async () => [...(await one.read(plan, t)).values()].map(({ value }) => value);
    const expected = () => view.features.map((feature) => model.read(view, feature, t).value);
    expect(await served()).toEqual(expected());
    await seal(START + 5 * 60 * MINUTE);
    await writer.touch();
    model.fold(START + 5 * 60 * MINUTE);
    expect(await served()).toEqual(expected());
    return { sum: (await served())[0], variance: (await served())[1] };
  }
  const repeat = (times: number, value: number) => new Array<number>(times).fill(value);

  it("a sum passes 2^53 and comes back exactly", async () => {
    expect(await compare([...repeat(1_100, LARGEST), 0.01, ...repeat(1_100, -LARGEST)], 700)).toMatchObject({
      sum: 0.01,
    });
  });

  it("a sum beyond 2^53 is null", async () => {
    expect(await compare([...repeat(1_024, -LARGEST), -10.24], 100)).toMatchObject({ sum: null });
    expect(await compare(repeat(1_024, -LARGEST), 100)).toMatchObject({ sum: (-(2 ** 53) + 1_024) / 100 });
  });

  // 2^42 squared has no low part: the high part grows alone, past 2^53 with 512 of them, past the cell with 4,096.
  it.each([512, 4_096, 4_100, 8_192])(
    "a sum of squares that is full stays null: %i values in one tile",
    async (count) => {
      expect(await compare([...repeat(count, HALF), 1], count + 1)).toMatchObject({ variance: null });
    },
  );

  it("full tiles that are folded together stay null", async () => {
    expect(await compare(repeat(9 * 600, HALF), 600)).toMatchObject({ variance: null });
  });

  it("a sum of squares just below the limit is exact", async () => {
    const { variance } = await compare([...repeat(250, HALF), ...repeat(250, -HALF)], 499);
    expect(variance).toBe(HALF * HALF);
  });
});

describe("distinct values", () => {
  it("of several tiles are merged, sparse and dense, to what core has", async () => {
    const plan = viewPlan({ shops: d.approxDistinct("shop").over("24h") });
    const [reader] = compileGroups(plan, "payments", hash64);
    const [view] = plan.views;
    for (const counts of [
      [30, 10],
      [30, 30],
      [60, 10],
      [10, 60],
      [200, 300],
      [48, 0],
      [49, 0],
      [24, 24],
    ]) {
      const { one, seal, writer } = await open(plan);
      const model = new EntityTiles(reader.group, START - 60 * MINUTE);
      let next = 0;
      for (const [minute, count] of counts.entries()) {
        const events = many(count, () => ({ shop: `s${next++}` }), START + minute * MINUTE);
        await writer.apply(events);
        for (const { id, timeMs, fields } of events) {
          const identity = hash64(identityText(one.tenant, "payments", timeMs, id));
          model.apply({ identity, timeMs, contributions: reader.channels.map((c) => c(fields)) }, 0, START);
        }
      }
      const served = async () => (await one.read(plan, START + 180 * MINUTE)).get("view:shops_24h")!.value;
      const expected = model.read(view, view.features[0], START + 180 * MINUTE).value;
      expect(await served()).toBe(expected);
      await seal(START + 120 * MINUTE);
      await writer.touch();
      expect(await served()).toBe(expected);
    }
  });
});
