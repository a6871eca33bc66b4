/** Training sets from labels: what a score of each labelled event would have seen. From a spine of the user's: given-spine.test.ts. */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { SpineSource } from "../../../adapters/offline/training-set.ts";
import { plan } from "../../../features/plan.ts";
import { at, DAY, labelledPayments, MINUTE } from "../../support/labelled-payments.ts";

const world = labelledPayments();
const { build, service } = world;
const labels: SpineSource = { kind: "labels", stream: "labels", asOf: "event_time" };

describe("a training set from labels", () => {
  it("holds what a score of each labelled event would have seen at its time", async () => {
    const manifest = await build(labels);
    const rows = await world.rowsById();
    expect(Object.keys(rows).sort()).toEqual(["ahead", "late", "p1", "p2", "p3"]);
    expect(rows["p1"]).toMatchObject({
      card_id: "c1",
      device_id: null,
      as_of_ms: BigInt(at(0)),
      "card_activity:tx_count_1h": null,
      "request:amount": 10,
      amount_to_mean: null,
      country_changed: null,
      label: 0,
    });
    // p1 and p2 were visible, `late` was not: 40.5 over two.
    expect(rows["p3"]).toMatchObject({
      "card_activity:tx_count_1h": 2n,
      "card_activity:amount_sum_1h": 40.5,
      "card_activity:amount_mean_7d": 20.25,
      "card_activity:last_country": "NO",
      "card_activity:seconds_since_last_24h": 120,
      "merchant_activity:cards_1h": 1n,
      "user_spend:tx_count_24h": 2n,
      amount_to_mean: 20 / 20.25,
      country_changed: true,
      label: 1,
    });
    expect(rows["ahead"]).toMatchObject({ "card_activity:tx_count_1h": 2n, "card_activity:amount_sum_1h": 12 });
    expect(manifest).toMatchObject({
      version: 1,
      service: "fraud",
      plan_hash: plan.hash,
      label_delay_ms: 7 * DAY,
      as_of_rule: "event_time",
      row_count: 5,
      positives: 1,
      own_event_visible_rows: 1,
      left_out: { label_unknown_event: 1, label_before_event: 1, label_twice: 1 },
    });
    expect(JSON.parse(readFileSync(join(world.out, "manifest.json"), "utf8"))).toEqual(manifest);
    expect(manifest.sources.map(({ stream }) => stream)).toEqual(["labels", "transactions"]);
  });

  it("does not take the label of an older event for one of an unknown event", async () => {
    const { row_count, left_out } = await build(labels, { fromMs: at(3) });
    expect([row_count, left_out["label_unknown_event"]]).toEqual([3, 1]);
    world.nextSet();
    // Older than any label of the range should be.
    const far = await build(labels, { fromMs: at(3), labelDelayMs: MINUTE });
    expect(far.left_out["label_unknown_event"]).toBe(2);
  });

  it("names its features in the service's order, on-demand ones after, request fields last", async () => {
    const { features } = await build(labels);
    expect(features.map(({ name }) => name)).toEqual([
      ...service.features,
      ...service.onDemand,
      "request:amount",
      "request:country",
    ]);
    const dtype = (wanted: string) => features.find(({ name }) => name === wanted)!.dtype;
    expect(dtype("card_activity:tx_count_5m")).toBe("int64");
    expect(dtype("card_activity:last_country")).toBe("string");
    expect(dtype("country_changed")).toBe("boolean");
    expect(dtype("request:country")).toBe("string");
  });

  it("opens in one line of Python, with the manifest's types", async () => {
    const { features } = await build(labels);
    const program = `import duckdb; print([(c[0], c[1]) for c in duckdb.sql("describe from '${world.out}/*.parquet'").fetchall()])`;
    const printed = execFileSync(join(process.cwd(), ".freshet/venv/bin/python"), ["-c", program], {
      encoding: "utf8",
    });
    const types = new Map([...printed.matchAll(/\('([^']+)', '([^']+)'\)/g)].map(([, name, type]) => [name, type]));
    const sql = { int64: "BIGINT", double: "DOUBLE", string: "VARCHAR", boolean: "BOOLEAN" };
    for (const { name, dtype } of features) expect({ name, type: types.get(name) }).toEqual({ name, type: sql[dtype] });
    expect([...types.keys()].slice(0, 6)).toEqual([
      "event_id",
      "card_id",
      "merchant_id",
      "device_id",
      "user_id",
      "as_of_ms",
    ]);
    expect([types.get("as_of_ms"), types.get("label")]).toEqual(["BIGINT", "DOUBLE"]);
  });

  it("can be read at the arrival instead", async () => {
    expect((await build({ ...labels, asOf: "arrival" } as SpineSource)).as_of_rule).toBe("arrival");
    expect((await world.rowsById())["p3"]["as_of_ms"]).toBe(BigInt(at(4) + 100));
  });

  it.each([
    [
      "a range without labelled events",
      { fromMs: at(100), toMs: at(200) },
      "labels_empty",
      new RegExp(
        `^no labelled event of transactions lies between ${new Date(at(100)).toISOString()} and ${new Date(at(200)).toISOString()}; 8 labels were read`,
      ),
    ],
    [
      "a range without an end that has none",
      { fromMs: at(100), toMs: null },
      "labels_empty",
      new RegExp(`lies at ${new Date(at(100)).toISOString()} or later; `),
    ],
    ["a range before all of them", { fromMs: null, toMs: at(-1) }, "labels_empty", /transactions lies before 20/],
    ["an empty range", { fromMs: at(5), toMs: at(5) }, "range_empty", /is empty/],
  ])("refuses %s and leaves nothing", async (_, range, code, message) => {
    await expect(build(labels, range)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
    expect(existsSync(world.out) || existsSync(`${world.out}.partial`)).toBe(false);
  });

  it("does not write into a folder with something in it", async () => {
    await build(labels);
    await expect(build(labels)).rejects.toMatchObject({ code: "out_not_empty" });
    expect(readdirSync(world.out).sort()).toEqual(["manifest.json", "part-00000.parquet"]);
  });
});
