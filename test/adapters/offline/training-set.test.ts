import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { spineFile } from "../../../adapters/offline/given-spine.ts";
import { readTrainingManifest } from "../../../adapters/offline/training-manifest.ts";
import type { SpineSource } from "../../../adapters/offline/training-set.ts";
import { plan } from "../../../features/plan.ts";
import { FRAUD_START, labelRow, type Payment, paymentRow, type Verdict } from "../../support/fraud-archive.ts";
import { trainingWorld } from "../../support/training-world.ts";

const MINUTE = 60_000;
const DAY = 86_400_000;
const at = (minutes: number) => FRAUD_START + minutes * MINUTE;

const payments: Payment[] = [
  { id: "p1", timeMs: at(0), card: "c1", amount: 10 },
  { id: "p2", timeMs: at(2), card: "c1", amount: 30.5, device: "d1" },
  // Visible after the next one was scored.
  { id: "late", timeMs: at(3), card: "c1", amount: 1000, visibleAfterMs: 20 * MINUTE },
  { id: "p3", timeMs: at(4), card: "c1", amount: 20, country: "SE" },
  { id: "p4", timeMs: at(4), card: "c2", amount: 5 },
  // Its producer's clock is ahead: visible when it is scored.
  { id: "ahead", timeMs: at(30), card: "c2", amount: 7, visibleAfterMs: -5_000 },
  { id: "unlabelled", timeMs: at(31), card: "c2", amount: 9 },
];
const verdicts: Verdict[] = [
  { id: "l1", payment: "p1", timeMs: at(10), fraud: false },
  { id: "l2", payment: "p2", timeMs: at(10), fraud: false },
  { id: "l3", payment: "p3", timeMs: at(10), fraud: false },
  // The bank thought again.
  { id: "l3-again", payment: "p3", timeMs: at(3 * 1440), fraud: true },
  { id: "l-late", payment: "late", timeMs: at(40), fraud: false },
  { id: "l-early", payment: "p4", timeMs: at(4) - 1, fraud: true },
  { id: "l-unknown", payment: "nobody", timeMs: at(20), fraud: true },
  { id: "l-ahead", payment: "ahead", timeMs: at(40), fraud: false },
];

const rows = [...payments.map(paymentRow), ...verdicts.map(labelRow)];
// Delivered twice, as after a retry.
const world = trainingWorld("fraud", [...rows, ...rows.slice(0, 9)], {
  fromMs: FRAUD_START,
  toMs: FRAUD_START + DAY,
  labelDelayMs: 7 * DAY,
});
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
    expect(readTrainingManifest(world.out, plan.hash)).toEqual(manifest);
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
      /no labelled event of transactions/,
    ],
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

  it("is refused where another plan is wanted", async () => {
    await build(labels);
    expect(() => readTrainingManifest(world.out, "0000000000000000")).toThrow(
      `the training set is of plan ${plan.hash}, the definitions are plan 0000000000000000`,
    );
  });
});

describe("a training set from a spine of the user's", () => {
  const csv = (text: string) => {
    const file = world.newFile("csv");
    writeFileSync(file, text);
    return spineFile(file);
  };

  it("keeps extra columns, and takes times as timestamps too", async () => {
    const time = new Date(at(5)).toISOString().replace("Z", "");
    const manifest = await build(
      csv(`timestamp,card_id,amount,analyst,weight\n${time},c1,3.5,ann,0.25\n${time},,1,bob,2\n${time},nobody,1,,\n`),
    );
    const rows = await world.session.rows(`SELECT * FROM read_parquet('${world.out}/*.parquet') ORDER BY weight`);
    expect(
      rows.map((row) => [row["card_id"], row["card_activity:tx_count_1h"], row["analyst"], row["weight"]]),
    ).toEqual([
      ["c1", 3n, "ann", 0.25],
      [null, null, "bob", 2],
      ["nobody", null, null, null],
    ]);
    expect(rows[0]).toMatchObject({
      as_of_ms: BigInt(at(5)),
      "request:amount": 3.5,
      "request:country": null,
      label: null,
    });
    expect(manifest).toMatchObject({ as_of_rule: "spine", row_count: 3, own_event_visible_rows: null });
  });

  it("means the same instants in every time zone", () => {
    const file = world.newFile("csv");
    writeFileSync(file, "as_of,card_id\n2026-01-01T00:00:00Z,c1\n2026-01-01T03:00:00+02:00,c2\n");
    const program = `
import { DuckSession } from "./adapters/offline/duckdb.ts";
import { givenSpine, spineFile } from "./adapters/offline/given-spine.ts";
import { plan } from "./features/plan.ts";
const session = await DuckSession.open({ folder: process.argv[1] + ".duck" });
const service = plan.services.find(({ name }) => name === "fraud");
const at = async (source) => {
  await givenSpine(session, { plan, service, source, fromMs: null, toMs: null });
  return (await session.rows('SELECT "as of" AS at FROM spine ORDER BY ALL')).map(({ at }) => Number(at) - 1767225600000);
};
const query = (time) => ({ kind: "query", query: "SELECT " + time + " AS as_of, 'c1' AS card_id" });
const without = query("TIMESTAMP '2026-01-01 00:00:00'");
const text = query("CAST('2026-01-01 00:00:00' AS TIMESTAMPTZ)");
console.log(JSON.stringify([await at(spineFile(process.argv[1])), await at(without), await at(text)]));
// Cast or not: a query may have left the session elsewhere.
await session.run("SET TimeZone = 'Asia/Tokyo'");
console.log(JSON.stringify(await at(spineFile(process.argv[1]))));
session.close();`;
    for (const TZ of ["America/New_York", "Asia/Tokyo"]) {
      const printed = execFileSync(process.execPath, ["--input-type=module-typescript", "-e", program, file], {
        encoding: "utf8",
        env: { ...process.env, TZ },
      });
      expect(printed.trim().split("\n"), TZ).toEqual(["[[0,3600000],[0],[0]]", "[0,3600000]"]);
    }
  });

  const keysOf = async () => {
    const rows = await world.session.rows(
      `SELECT card_id, event_id, "request:country" AS country FROM read_parquet('${world.out}/*.parquet')`,
    );
    return rows.map((row) => [row["card_id"], row["event_id"], row["country"]]);
  };
  const UUID = "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11";

  it.each([
    [
      "CSV",
      (time: number) =>
        csv(`as_of_ms,card_id,event_id,country\n${time},007,98765432109876543210,1e3\n${time + 1},,${UUID},\n`),
    ],
    [
      "JSON",
      (time: number) => {
        const file = world.newFile("json");
        writeFileSync(
          file,
          `[{"as_of_ms":${time},"card_id":"007","event_id":98765432109876543210,"country":"1e3"},` +
            `{"as_of_ms":${time + 1},"card_id":null,"event_id":"${UUID}"}]`,
        );
        return { kind: "file" as const, path: file, format: "json" as const };
      },
    ],
  ])("leaves ids in %s as they are written", async (_, spine) => {
    await build(spine(at(60)));
    expect(await keysOf()).toEqual([
      ["007", "98765432109876543210", "1e3"],
      [null, UUID, null],
    ]);
  });

  it.each(["DOUBLE", "FLOAT", "DECIMAL(18, 2)"])(
    "takes whole numbers of type %s as ids, and refuses others",
    async (type) => {
      const query = (ids: string) => ({
        kind: "query" as const,
        query: `SELECT ${at(60)} AS as_of_ms, CAST(id AS ${type}) AS card_id FROM (VALUES ${ids}) AS t(id)`,
      });
      const missing = type.startsWith("DECIMAL") ? "NULL" : "'nan'";
      await build(query(`('123'), (${missing}), (NULL)`));
      expect((await keysOf()).map(([card]) => card).sort()).toEqual(["123", null, null]);
      world.nextSet();
      await expect(build(query("('123'), ('1.5')"))).rejects.toMatchObject({
        code: "spine_key_invalid",
        message: `card_id of the spine is a ${type.replace(", ", ",")}, and in 1 rows no whole number that it holds exactly`,
      });
      if (type === "DOUBLE")
        await expect(build(query("('1e16')"))).rejects.toMatchObject({ code: "spine_key_invalid" });
    },
  );

  it("tells of each entity how many rows name one that the archive knows", async () => {
    const { entities } = await build(
      csv(`as_of_ms,card_id,device_id\n${at(60)},c1,D1\n${at(60)},c2,\n${at(60)},c1,\n${at(60)},C1,\n`),
    );
    expect(entities).toEqual([
      { name: "card", join_key: "card_id", rows_with_key: 4, found_share: 0.75 },
      { name: "merchant", join_key: "merchant_id", rows_with_key: 0, found_share: null },
      { name: "device", join_key: "device_id", rows_with_key: 1, found_share: 0 },
      { name: "user", join_key: "user_id", rows_with_key: 0, found_share: null },
    ]);
  });

  it("takes Parquet and queries", async () => {
    const file = world.newFile("parquet");
    await world.session.run(
      `COPY (SELECT 'c2' AS card_id, ${at(60)} AS as_of_ms, 1 AS label) TO '${file}' (FORMAT parquet)`,
    );
    expect((await build(spineFile(file))).positives).toBe(1);
    expect(
      await world.session.rows(`SELECT "card_activity:tx_count_1h" AS n FROM read_parquet('${world.out}/*.parquet')`),
    ).toEqual([{ n: 3n }]);
  });

  it("keeps the digits of further columns of CSV that only look like numbers", async () => {
    const set = await build(csv(`as_of_ms,card_id,branch,account,n,x\n${at(60)},c2,007,98765432109876543210,7,0.5\n`));
    expect(set.row_count).toBe(1);
    expect(
      await world.session.rows(`SELECT branch, account, n, x FROM read_parquet('${world.out}/*.parquet')`),
    ).toEqual([{ branch: "007", account: "98765432109876543210", n: 7n, x: 0.5 }]);
  });

  it("keeps further columns of any type as they are, and takes NaN for a number that is missing", async () => {
    const kept =
      "{'a': 1, 'b': [true]} AS struct, [1, 2] AS list, MAP {'k': 1.5} AS map, CAST(1.25 AS DECIMAL(9, 3)) AS decimal, " +
      "CAST('170141183460469231731687303715884105727' AS HUGEINT) AS huge, '\\xAA'::BLOB AS bytes, " +
      "CAST('12:30:00' AS TIME) AS clock, CAST('2026-01-31' AS DATE) AS day, CAST('a' AS ENUM('a', 'b')) AS enum, " +
      "uuid() AS uuid, INTERVAL 3 DAY AS span, NULL AS nothing, 'x' AS \"with \"\" quote\", '{}'::JSON AS json";
    await world.session.run(`CREATE OR REPLACE TABLE odd AS SELECT ${kept}`);
    const query = `SELECT ${at(60)} AS as_of_ms, 'c2' AS card_id, CAST('nan' AS DOUBLE) AS label, CAST('nan' AS FLOAT) AS amount, odd.* FROM odd`;
    await build({ kind: "query", query });
    const read = `SELECT * FROM read_parquet('${world.out}/*.parquet')`;
    expect(await world.session.rows(`SELECT label, "request:amount" AS amount FROM (${read})`)).toEqual([
      { label: null, amount: null },
    ]);
    const names = (await world.session.rows("DESCRIBE odd")).map(({ column_name: name }) => name as string);
    for (const name of names) {
      const column = `"${name.replaceAll('"', '""')}"`;
      const [{ same }] = await world.session.rows(
        `SELECT (SELECT CAST(${column} AS VARCHAR) FROM (${read})) IS NOT DISTINCT FROM (SELECT CAST(${column} AS VARCHAR) FROM odd) AS same`,
      );
      expect([name, same]).toEqual([name, true]);
    }
  });

  it.each([
    [
      "no time column",
      "card_id,when\nc1,3\n",
      "spine_time_missing",
      "the spine has no time column; found card_id, when",
    ],
    [
      "no join key",
      "as_of_ms,account\n1,a\n",
      "spine_key_missing",
      "the spine has no join key of fraud; found as_of_ms, account",
    ],
    ["a time that is none", "as_of_ms,card_id\nsoon,c1\n", "spine_time_invalid", "the spine's as_of_ms is a VARCHAR"],
    [
      "a row without time",
      "as_of_ms,card_id\n1,c1\n,c2\n",
      "spine_time_invalid",
      "1 rows of the spine have no as_of_ms",
    ],
    [
      "a column named as an output",
      `as_of_ms,card_id,amount_to_mean\n1,c1,2\n`,
      "spine_column_taken",
      "amount_to_mean",
    ],
    [
      "a column named as one of the engine's",
      "as_of_ms,card_id,Row ID\n1,c1,2\n",
      "spine_column_taken",
      "column Row ID",
    ],
    ["a column that differs in case alone", "as_of_ms,card_id,Label\n1,c1,2\n", "spine_column_taken", "column Label"],
    [
      "a label that is no number",
      "as_of_ms,card_id,label\n1,c1,1\n1,c1,yes\n1,c1,\n",
      "spine_value_invalid",
      "label of the spine is a VARCHAR, and in 1 rows neither 1 nor 0",
    ],
    [
      "a label of a third kind",
      "as_of_ms,card_id,label\n1,c1,1\n1,c1,2\n1,c1,\n",
      "spine_value_invalid",
      "label of the spine is a BIGINT, and in 1 rows neither 1 nor 0",
    ],
    [
      "a request field of another type",
      "as_of_ms,card_id,amount\n1,c1,1.5\n1,c1,much\n1,c1,inf\n",
      "spine_value_invalid",
      "amount of the spine is a VARCHAR, and in 2 rows no finite number",
    ],
    ["no row in the range", "as_of_ms,card_id\n1,c1\n", "spine_empty", "no row of the spine lies in the range"],
  ])("refuses %s", async (_, text, code, message) => {
    await expect(build(csv(text))).rejects.toMatchObject({ code, message: expect.stringContaining(message) });
    expect(existsSync(world.out)).toBe(false);
  });

  it("says why a file cannot be read", async () => {
    await expect(build(spineFile("/nowhere/x.csv"))).rejects.toMatchObject({
      code: "spine_unreadable",
      message: expect.stringContaining("No files found"),
    });
    expect(() => spineFile("spine.xlsx")).toThrow("a spine is a .parquet or .csv file, given spine.xlsx");
  });
});
