import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { InferenceRow } from "../../../adapters/inference-log/inference-log-format.ts";
import { checkConsistency } from "../../../adapters/offline/consistency.ts";
import { DuckSession } from "../../../adapters/offline/duckdb.ts";
import { valuesSelect } from "../../../adapters/offline/pushed-in-time.ts";
import type { MountStream } from "../../../adapters/offline/training-set.ts";
import { compressedValues, encodeValues, packedLine } from "../../../adapters/pushed/values-format.ts";
import { packValues } from "../../../adapters/valkey/packed.ts";
import type { Dtype, Scalar } from "../../../core/plan.ts";
import { keyOf, type PushedFeature } from "../../../core/pushed-feature.ts";
import { plan } from "../../../features/plan.ts";
import { FRAUD_START, fraudArchive, paymentRow } from "../../support/fraud-archive.ts";
import { inferenceRow } from "../../support/inference-row.ts";

const MINUTE = 60_000;
const at = (minutes: number) => FRAUD_START + minutes * MINUTE;
const service = plan.services.find(({ name }) => name === "fraud")!;
const folder = mkdtempSync(join(tmpdir(), "freshet-consistency-"));
let session: DuckSession;
let mount: MountStream;

beforeAll(async () => {
  session = await DuckSession.open({ folder: join(folder, "duck") });
  const payments = [
    { id: "p1", timeMs: at(0), card: "c1", amount: 10 },
    { id: "p2", timeMs: at(2), card: "c1", amount: 30.5 },
  ];
  mount = fraudArchive(session, join(folder, "archive"), payments.map(paymentRow));
});
afterAll(() => {
  session.close();
  rmSync(folder, { recursive: true });
});

/** What serving logged of the card at an instant; the features that are not named were null. */
const logged = (asOfMs: number, values: Record<string, Scalar>, more: Partial<InferenceRow> = {}) =>
  inferenceRow({
    asOfMs,
    planHash: plan.hash,
    requestId: `r-${asOfMs}`,
    keys: { card_id: "c1" },
    features: Object.keys(values),
    values: Object.values(values),
    statuses: Object.keys(values).map(() => "PRESENT"),
    ...more,
  });
async function* each(rows: readonly InferenceRow[]) {
  yield* rows;
}
const mountValues = async () => "of no batch view";
const check = (rows: readonly InferenceRow[], sample = 1) =>
  checkConsistency(session, { plan, service, rows: each(rows), sample, mount, mountValues });

const COUNT = "card_activity:tx_count_1h";
const SUM = "card_activity:amount_sum_1h";

describe("consistency of what was served with the archive", () => {
  describe("of what tenants have registered", () => {
    const DTYPES = {
      "profile:age": "double",
      "profile:visits": "int64",
      "profile:city": "string",
      "home:own": "boolean",
    };
    const TTL = 10 * MINUTE;
    const inputs = new Map(
      Object.entries(DTYPES).map(([name, dtype], id): [string, PushedFeature] => {
        const [view, key] = name.split(":");
        const told = { description: "", unit: "", owner: "", tags: [], deprecated: null };
        const typed = { entity: "card", dtype: dtype as Dtype, version: 1, ttlMs: TTL };
        return [name, { view, key, id, registeredMs: at(-60), ...typed, ...told }];
      }),
    );
    const registered = [...inputs].map(([name, { version, entity, dtype }]) => ({ name, version, entity, dtype }));
    const wide = { ...service, features: [COUNT, ...inputs.keys(), SUM], registered };
    /** A push of a card's values, true since a minute before they were visible. */
    const pushed = (view: string, visibleMs: number, values: Record<string, Scalar>, id = "c1") => {
      const eventTimeMs = visibleMs - MINUTE;
      const packed = packValues(
        Object.entries(values).map(([key, value]) => {
          const { id, dtype } = inputs.get(`${view}:${key}`)!;
          return { id, dtype, value };
        }),
        eventTimeMs,
      );
      const of = { tenant: "default", entity: "card", view: `_${view}`, id };
      return packedLine({ ...of, eventTimeMs, visibleMs, reachMs: TTL + 86_400_000, packed });
    };
    const lines: Record<string, string[]> = {
      _profile: [
        pushed("profile", at(0), { age: 30.5, visits: 9_007_199_254_740_991, city: "Malmö" }),
        pushed("profile", at(5), { age: 31, city: null }),
        pushed("profile", at(4), { age: 77 }, "c2"),
      ],
      _home: [pushed("home", at(0), { own: true })],
    };
    const mountValues = async (view: string) => {
      const file = join(folder, `${view}.ndjson.zst`);
      writeFileSync(file, compressedValues(lines[view] ?? []));
      await session.run(`CREATE OR REPLACE VIEW "values ${view}" AS ${valuesSelect([file])}`);
      return `"values ${view}"`;
    };
    const checkWide = async (rows: readonly InferenceRow[], known: ReadonlyMap<string, PushedFeature> = inputs) => {
      const options = { plan, service: wide, rows: each(rows), sample: 1, mount, mountValues, inputs: known };
      const { features } = await checkConsistency(session, options);
      const counts = (name: string) => {
        const own = features.filter(({ feature }) => feature === name);
        const sum = (key: "matches" | "mismatches" | "nullOnline" | "nullOffline" | "racing") =>
          own.reduce((total, row) => total + row[key], 0);
        return [sum("matches"), sum("mismatches"), sum("nullOnline"), sum("nullOffline"), sum("racing")];
      };
      return Object.fromEntries(wide.features.map((name) => [name, counts(name)]));
    };
    const first = {
      "profile:age": 30.5,
      "profile:visits": 9_007_199_254_740_991,
      "profile:city": "Malmö",
      "home:own": true,
    };

    it("compares what was visible at the read, within its ttl, of every type", async () => {
      expect(
        await checkWide([
          logged(at(-1), { "profile:age": null, "profile:visits": null, "profile:city": null, "home:own": null }),
          logged(at(4), { ...first, [COUNT]: 2, [SUM]: 41 }),
          logged(at(6), { ...first, "profile:age": 31, "profile:city": null }),
          // Older than its ttl from the ninth minute on, since it was true a minute before it was visible.
          logged(at(9) + 1_000, { "profile:age": 31, "profile:visits": null, "profile:city": null, "home:own": true }),
        ]),
      ).toEqual({
        [COUNT]: [1, 0, 0, 0, 0],
        "profile:age": [4, 0, 0, 0, 0],
        "profile:visits": [4, 0, 0, 0, 0],
        "profile:city": [4, 0, 0, 0, 0],
        "home:own": [3, 0, 0, 1, 0],
        [SUM]: [0, 1, 0, 0, 0],
      });
    });

    it("finds a wrong value, a null on either side, and leaves open what became visible at the read", async () => {
      expect(
        await checkWide([
          logged(at(4), { ...first, "profile:age": 77, "home:own": false }),
          logged(at(4) + 1, { ...first, "profile:visits": null }),
          logged(at(-1), { "profile:age": 30.5, "profile:visits": null, "profile:city": null, "home:own": null }),
          logged(at(5) + 1_900, { ...first }),
          logged(at(4) + 2, { ...first }, { keys: { card_id: null } }),
        ]),
      ).toMatchObject({
        "profile:age": [1, 1, 0, 2, 1],
        "profile:visits": [2, 0, 1, 1, 1],
        "home:own": [3, 1, 0, 1, 0],
      });
    });

    it("leaves open what was read as it was being registered, and counts nothing where nobody knew what is registered", async () => {
      const late = new Map([...inputs].map(([name, feature]) => [name, { ...feature, registeredMs: at(4) - 3_000 }]));
      const nothing = { "profile:age": null, "profile:visits": null, "profile:city": null, "home:own": null };
      expect(await checkWide([logged(at(4), { ...nothing, [COUNT]: 2 })], late)).toMatchObject({
        [COUNT]: [1, 0, 0, 0, 0],
        "profile:age": [0, 0, 0, 0, 1],
        "home:own": [0, 0, 0, 0, 1],
      });
      const blind = logged(at(4), { ...nothing, [COUNT]: 2 }, { degraded: "catalogue_unavailable" });
      expect(await checkWide([blind])).toMatchObject({ [COUNT]: [1, 0, 0, 0, 0], "profile:age": [0, 0, 0, 0, 0] });
    });

    it("holds null against what the tenant has not registered, or not as the service takes it", async () => {
      const rows = [logged(at(4), { ...first, "profile:city": null })];
      expect(await checkWide(rows, new Map())).toMatchObject({
        "profile:age": [0, 0, 0, 1, 0],
        "profile:city": [1, 0, 0, 0, 0],
      });
    });
  });

  it("counts matches, mismatches, nulls of either side and races, by feature and hour", async () => {
    const { features, rowsChecked, leftOut } = await check([
      logged(at(4), { [COUNT]: 2, [SUM]: 40.5 }),
      logged(at(5), { [COUNT]: 2, [SUM]: 13.5 }),
      logged(at(6), { [COUNT]: null, [SUM]: 40.5 }),
      // Half a second after p2 was sent: it became visible 200 ms before the read.
      logged(at(2) + 500, { [COUNT]: 1, [SUM]: 10 }),
      // Before any event: the archive knows nothing.
      logged(at(-60), { [COUNT]: 1, [SUM]: null }),
      logged(at(7), { [COUNT]: 9 }, { planHash: "0000000000000000" }),
      logged(at(8), { [COUNT]: null }, { statuses: [] }),
    ]);
    expect(rowsChecked).toBe(5);
    expect(leftOut).toEqual({ other_plan: 1, not_read: 1, not_sampled: 0 });
    const row = (feature: string, hourMs: number) =>
      features.find((one) => one.feature === feature && one.hourMs === hourMs);
    const none = { matches: 0, mismatches: 0, nullOnline: 0, nullOffline: 0, racing: 0, smape: null };
    expect(row(COUNT, at(0))).toEqual({
      ...none,
      feature: COUNT,
      hourMs: at(0),
      matches: 2,
      nullOnline: 1,
      racing: 1,
      smape: 0,
    });
    // |13.5 - 40.5| is the mean of both: an error of 1, over three pairs.
    expect(row(SUM, at(0))).toEqual({
      ...none,
      feature: SUM,
      hourMs: at(0),
      matches: 2,
      mismatches: 1,
      racing: 1,
      smape: 1 / 3,
    });
    expect(row(COUNT, at(-60))).toEqual({ ...none, feature: COUNT, hourMs: at(-60), nullOffline: 1 });
    expect(row(SUM, at(-60))).toMatchObject({ matches: 1 });
  });

  it("compares features of batch views, too, with what was pushed by then", async () => {
    const [view] = plan.batchViews;
    const [feature] = view!.features;
    const value = (visibleMs: number, n: number) => ({
      ...{
        tenant: "default",
        entity: "merchant",
        id: "m1",
        view: view!.name,
        eventTimeMs: visibleMs - MINUTE,
        visibleMs,
      },
      values: { [`${keyOf(feature!)}:${feature!.dtype}`]: n },
    });
    const file = join(folder, "values.ndjson.zst");
    writeFileSync(file, encodeValues([value(at(0), 3), value(at(6), 4)]));
    const asked: string[] = [];
    const mountValues = async (name: string) => {
      asked.push(name);
      await session.run(`CREATE OR REPLACE VIEW pushed AS ${valuesSelect([file])}`);
      return "pushed";
    };
    const both = { ...service, features: [feature!.name, ...service.features] };
    const named = (asOfMs: number, n: number | null) =>
      logged(asOfMs, { [COUNT]: 2, [feature!.name]: n }, { keys: { card_id: "c1", merchant_id: "m1" } });
    const rows = [named(at(4), 3), named(at(5), 4), named(at(6) + 1_500, 3), named(at(7), null), named(at(8), 4)];
    const options = { plan, service: both, rows: each(rows), sample: 1, mount, mountValues };
    const { features } = await checkConsistency(session, options);
    expect(features.find((row) => row.feature === feature!.name)).toMatchObject({
      ...{ matches: 2, mismatches: 1, nullOnline: 1, nullOffline: 0, racing: 1 },
    });
    expect(features.find((row) => row.feature === COUNT)).toMatchObject({ matches: 5, racing: 0 });
    expect(new Set(asked)).toEqual(new Set([view!.name]));
  });

  it("takes the same share of the log each time", async () => {
    const rows = Array.from({ length: 200 }, (_, i) => logged(at(4) + i, { [COUNT]: 2 }));
    const first = await check(rows, 0.25);
    expect(await check(rows, 0.25)).toEqual(first);
    expect(first.rowsChecked).toBeGreaterThan(25);
    expect(first.rowsChecked).toBeLessThan(80);
    expect(first.leftOut.not_sampled).toBe(200 - first.rowsChecked);
  });

  it("says what it found when nothing can be compared", async () => {
    await expect(check([logged(at(4), {}, { planHash: "0000000000000000" })])).rejects.toMatchObject({
      code: "log_empty",
      message: "the inference log has no row of this plan in the range (1 other_plan, 0 not_read, 0 not_sampled)",
    });
  });
});
