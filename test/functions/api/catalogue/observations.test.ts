/** What a process tells of the features that it has served and taken in. */
import { describe, expect, it } from "vitest";
import type { FeatureValue, Status, Value } from "../../../../core/plan.ts";
import type { PushedFeature } from "../../../../core/pushed-feature.ts";
import { Observations } from "../../../../functions/api/catalogue/observations.ts";
import { createCatalogue, type Selection } from "../../../../functions/api/reading/selection.ts";
import { TenantFeatures } from "../../../../functions/api/registered/tenant-features.ts";
import { plan } from "../doubles.ts";

const AS_OF_MS = 1_000_000;
const LARGEST = Number.MAX_VALUE;
const selectionOf = (...names: string[]) => ({ names, counted: names }) as unknown as Selection;
const row = (value: Value, status: Status = value === null ? "NULL_VALUE" : "PRESENT"): FeatureValue[] => [
  { value, status, eventTimeMs: status === "NOT_FOUND" ? null : AS_OF_MS - 10 },
];
const feature = (key: string, version = 1) => ({ view: "profile", key, version }) as PushedFeature;

describe("what was served", () => {
  it("is counted row by row at first: rates, ages and values are exact", () => {
    const seen = new Observations(7, () => 0.99);
    seen.rows("a", selectionOf("v:x"), [row(1), row(null), row(6), row(null, "NOT_FOUND"), row(2)], AS_OF_MS);
    expect(seen.servedJson("a", "v:x")).toEqual({
      ...{ by: "the process that answers", since_ms: 7, whole_rows: 64, then_one_row_of: 16, rows: 5 },
      ...{ present_rate: 0.6, null_rate: 0.2, missing_rate: 0.2, mean_age_ms: 10, max_age_ms: 10 },
      ...{ newest_event_time_ms: AS_OF_MS - 10, values: { count: 3, min: 1, max: 6, mean: 3 } },
    });
  });

  it("is a sample later, in which each row stands for those that it was drawn from", () => {
    // One draw in sixteen hits.
    let draws = 0;
    const seen = new Observations(0, () => (draws++ % 16) / 16);
    const selection = selectionOf("v:x");
    for (let i = 0; i < 20; i++)
      seen.rows(
        "a",
        selection,
        Array.from({ length: 64 }, () => row(i === 0 ? 1 : 3)),
        AS_OF_MS,
      );
    expect(draws).toBe(19 * 64);
    expect(seen.servedJson("a", "v:x")).toMatchObject({ rows: 20 * 64, values: { min: 1, max: 3, count: 20 * 64 } });
    expect((seen.servedJson("a", "v:x") as { values: { mean: number } }).values.mean).toBeCloseTo((1 + 19 * 3) / 20, 9);
  });

  it("of a list that is new is counted whole again, of a tenant that is new too", () => {
    const seen = new Observations(0, () => 0.99);
    const many = Array.from({ length: 100 }, () => row(1));
    const selection = selectionOf("v:x");
    seen.rows("a", selection, many, AS_OF_MS);
    seen.rows("a", selection, many, AS_OF_MS);
    expect(seen.servedJson("a", "v:x")).toMatchObject({ rows: 64 });
    seen.rows("a", selectionOf("v:x"), [row(9)], AS_OF_MS);
    expect(seen.servedJson("a", "v:x")).toMatchObject({ rows: 65, values: { max: 9 } });
    seen.rows("b", selection, [row(5)], AS_OF_MS);
    expect(seen.servedJson("b", "v:x")).toMatchObject({ rows: 1, values: { min: 5, max: 5 } });
  });

  it("of a registered feature is told by version, whatever name it was read by", () => {
    const versions = [1, 2].map((version) => ({
      ...feature("x", version),
      id: version,
      entity: "card",
      dtype: "double",
      ttlMs: 1,
    }));
    const registered = (current: number) =>
      new TenantFeatures(
        { revision: current, features: versions as never, current: new Map([["profile:x", current]]) },
        new Set(["card"]),
      );
    const catalogue = createCatalogue(plan);
    const seen = new Observations(0);
    const read = (name: string, current: number, value: number) =>
      seen.rows("a", catalogue.features([name], "features", registered(current)), [row(value)], AS_OF_MS);
    read("profile:x", 1, 1_000);
    read("profile:x@1", 2, 900);
    read("profile:x", 2, 0.5);
    expect(seen.servedJson("a", "profile:x@1")).toMatchObject({ rows: 2, values: { min: 900, max: 1_000 } });
    expect(seen.servedJson("a", "profile:x@2")).toMatchObject({ rows: 1, values: { min: 0.5, max: 0.5 } });
  });

  it("of a feature that nobody asked for is nothing", () => {
    expect(new Observations(0).servedJson("a", "v:x")).toMatchObject({
      ...{ rows: 0, present_rate: null, null_rate: null, missing_rate: null, mean_age_ms: null, max_age_ms: null },
      ...{ newest_event_time_ms: null, values: null },
    });
  });

  it.each<[string, Value[], number]>([
    ["the largest doubles", [LARGEST, LARGEST, -LARGEST, LARGEST], LARGEST / 2],
    ["true and false", [true, false, false, false], 0.25],
  ])("has a mean of %s", (_, given, mean) => {
    const seen = new Observations(0);
    seen.rows(
      "a",
      selectionOf("v:x"),
      given.map((value) => row(value)),
      AS_OF_MS,
    );
    const { values } = seen.servedJson("a", "v:x") as { values: { count: number; mean: number } };
    expect(values.count).toBe(4);
    expect(values.mean / mean).toBeCloseTo(1, 9);
  });

  it("has none of texts and lists", () => {
    const seen = new Observations(0);
    seen.rows("a", selectionOf("v:x"), [row("text"), row(["a"])], AS_OF_MS);
    expect(seen.servedJson("a", "v:x")).toMatchObject({ rows: 2, present_rate: 1, values: null });
  });
});

describe("what was pushed", () => {
  const taken = { refusals: [], visibleMs: 500 };

  it("is told by version, without what was refused or left out", () => {
    const seen = new Observations(0, () => 0.99);
    const rows = [
      { id: "1", eventTimeMs: 100, values: [1, null] },
      { id: "2", eventTimeMs: 900, values: [99, 99] },
      { id: "3", eventTimeMs: 300, values: [undefined, 4] },
    ];
    const refusals = [{ index: 1, code: "event_time_future", detail: "" }];
    seen.pushed("a", [feature("x"), feature("y", 2)], rows, { refusals, visibleMs: 500 });
    expect(seen.pushedJson("a", "profile:x@1")).toMatchObject({
      ...{ rows: 1, null_rate: 0, newest_event_time_ms: 100, visible_ms: 500 },
      values: { count: 1, min: 1, max: 1, mean: 1 },
    });
    expect(seen.pushedJson("a", "profile:y@2")).toMatchObject({
      ...{ rows: 2, null_rate: 0.5, newest_event_time_ms: 300, visible_ms: 500 },
      values: { count: 1, min: 4, max: 4, mean: 4 },
    });
    for (const [tenant, name] of [
      ["a", "profile:y@1"],
      ["b", "profile:x@1"],
    ] as const) {
      expect(seen.pushedJson(tenant, name)).toMatchObject({ rows: 0, null_rate: null, visible_ms: null, values: null });
    }
  });

  it("is fresh by what came last, though its values are a sample by then", () => {
    const seen = new Observations(0, () => 0.99);
    const one = feature("x");
    const rows = Array.from({ length: 64 }, (_, i) => ({ id: `${i}`, eventTimeMs: i, values: [i] }));
    seen.pushed("a", [one], rows, taken);
    seen.pushed("a", [one], [{ id: "z", eventTimeMs: 1_000, values: [77] }], { refusals: [], visibleMs: 1_001 });
    expect(seen.pushedJson("a", "profile:x@1")).toMatchObject({
      ...{ rows: 64, newest_event_time_ms: 1_000, visible_ms: 1_001 },
      values: { max: 63 },
    });
  });

  it("is nothing where all of it was refused", () => {
    const seen = new Observations(0);
    const refusals = [{ index: 0, code: "value_type", detail: "" }];
    seen.pushed("a", [feature("x")], [{ id: "1", eventTimeMs: 1, values: ["no"] }], { refusals, visibleMs: null });
    expect(seen.pushedJson("a", "profile:x@1")).toMatchObject({ rows: 0, visible_ms: null });
  });
});
