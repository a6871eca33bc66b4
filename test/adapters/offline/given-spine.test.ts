/** Training sets from a spine of the user's: files and queries, their times, keys and further columns. */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { spineFile } from "../../../adapters/offline/given-spine.ts";
import { at, labelledPayments } from "../../support/labelled-payments.ts";

const world = labelledPayments();
const { build } = world;

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

  it("is the same set, byte for byte, from the same rows, in whatever order they come", async () => {
    const lines = Array.from({ length: 1_000 }, (_, i) => `${at(60)},c${i % 3},${i % 7},note ${i}`);
    const made: Buffer[][] = [];
    for (const rows of [lines, lines, lines.toReversed()]) {
      await build(csv(`as_of_ms,card_id,amount,note\n${rows.join("\n")}\n`));
      made.push(readdirSync(world.out).map((name) => readFileSync(join(world.out, name))));
      world.nextSet();
    }
    expect(made[1]!.map((bytes, i) => bytes.equals(made[0]![i]!))).toEqual([true, true]);
    expect(made[2]!.map((bytes, i) => bytes.equals(made[0]![i]!))).toEqual([true, true]);
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
