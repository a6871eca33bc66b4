/** Feast's contract for values that are pushed, asked over HTTP alone: for every host that has them. */
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { feastOnlineAnswer } from "../../../../functions/api/feast/schemas.ts";
import { type ContractTarget, caller, conforming, type Reply } from "./contract-calls.ts";

const WRITE = "/write-to-online-store";

export function describeFeast(target: ContractTarget): void {
  const call = caller(target);
  const view = `f${randomUUID().replaceAll("-", "").slice(0, 12)}`;
  const register = (name: string, dtype: string, key = target.keys().firstAdmin, entity = "card") =>
    call("/v1/features/register", { body: { name, dtype, entity, ttl: "1h" }, key });
  const told = ({ status, body }: Reply) => ({
    status,
    ...(typeof body === "string" && body ? JSON.parse(body) : body),
  });
  /** Another process of a host may answer, which learns of a registration within seconds. */
  async function settled(ask: () => Promise<Reply>): Promise<Reply> {
    for (let i = 0; ; i++) {
      const reply = await ask();
      if (i === 20 || !["view_unknown", "push_source_unknown"].includes(told(reply).code)) return reply;
      await sleep(250);
    }
  }
  const writeOnce = (df: unknown, key?: string) => call(WRITE, { body: { feature_view_name: view, df }, key });
  const write = (df: unknown) => settled(() => writeOnce(df));
  const names = ["age", "income", "segment", "vip"].map((name) => `${view}:${name}`);
  const readOnce = (ids: readonly unknown[], key?: string) =>
    call("/get-online-features", { body: { entities: { card_id: ids }, features: names }, key });
  /** Name, values and statuses of each column. */
  async function read(ids: readonly unknown[]) {
    const reply = await settled(() => readOnce(ids));
    expect([reply.status, told(reply).message]).toEqual([200, undefined]);
    const { results, metadata } = conforming(feastOnlineAnswer, reply);
    return metadata.feature_names.map((name, i) => [name, results[i].values, results[i].statuses]);
  }
  const time = () => new Date(Date.now() - 1_000).toISOString();

  describe("Feast's contract", () => {
    it("writes columns to registered features and reads them back, by texts and by whole numbers", async () => {
      for (const [i, dtype] of ["int64", "double", "string", "boolean"].entries()) {
        expect([200, 201]).toContain((await register(names[i], dtype)).status);
      }
      // As pandas and Feast's client write times: with a blank, without a zone, and with one.
      const stamp = time();
      const times = [stamp.replace("T", " ").replace("Z", "+00:00"), stamp.slice(0, -1), stamp];
      const df = {
        card_id: [`${view}-1`, 7_001, null],
        age: [34, 35, 36],
        income: [1000, 0.5, 1],
        segment: ["Malmö", null, "x"],
        vip: [true, false, true],
        event_timestamp: times,
        created: times,
      };
      // A null key refuses its row, the others are stored.
      const reply = told(await write(df));
      expect(reply).toMatchObject({ status: 422, code: "wrong_type", field: "df.card_id[2]" });
      expect(reply.detail[0].msg).toContain("1 of 3 rows were refused, the other 2 are stored");
      const whole = Object.fromEntries(Object.entries(df).map(([name, column]) => [name, column.slice(0, 2)]));
      const again = await write(whole);
      expect([again.status, again.body]).toEqual([200, null]);
      const present = ["PRESENT", "PRESENT", "PRESENT", "NOT_FOUND"];
      expect(await read([`${view}-1`, 7_001, "7001", `${view}-9`])).toEqual([
        ["card_id", [`${view}-1`, 7_001, "7001", `${view}-9`], Array(4).fill("PRESENT")],
        ["age", [34, 35, 35, null], present],
        ["income", [1000, 0.5, 0.5, null], present],
        ["segment", ["Malmö", null, null, null], ["PRESENT", "NULL_VALUE", "NULL_VALUE", "NOT_FOUND"]],
        ["vip", [true, false, false, null], present],
      ]);
    });

    it("pushes by the view's name, some columns alone, and answers nothing", async () => {
      const df = { card_id: [`${view}-2`], age: [50], event_timestamp: [time()] };
      const push = (to: string) => call("/push", { body: { push_source_name: view, df, to } });
      const reply = await settled(() => push("online"));
      expect([reply.status, reply.body]).toEqual([200, ""]);
      expect((await read([`${view}-2`])).slice(0, 3)).toEqual([
        ["card_id", [`${view}-2`], ["PRESENT"]],
        ["age", [50], ["PRESENT"]],
        ["income", [null], ["NOT_FOUND"]],
      ]);
      expect(told(await push("offline"))).toMatchObject({ status: 422, code: "push_target_invalid" });
    });

    it("keeps tenants apart: another's view is not there, neither to read nor to write", async () => {
      const { second } = target.keys();
      const df = { card_id: [`${view}-1`], age: [1], event_timestamp: [time()] };
      expect(told(await writeOnce(df, second))).toMatchObject({ status: 404, class: "FeatureViewNotFoundException" });
      const push = await call("/push", { body: { push_source_name: view, df }, key: second });
      expect(told(push)).toMatchObject({ status: 422, class: "PushSourceNotFoundException" });
      expect(told(await readOnce([`${view}-1`], second))).toMatchObject({
        status: 404,
        class: "FeatureViewNotFoundException",
      });
    });

    it("writes need the scope write", async () => {
      const { readOnly } = target.keys();
      for (const [path, body] of [
        [WRITE, { feature_view_name: view, df: {} }],
        ["/push", { push_source_name: view, df: {} }],
      ] as const) {
        const reply = told(await call(path, { body, key: readOnly }));
        expect(reply).toMatchObject({ status: 403, class: "FeastPermissionError", code: "scope_missing" });
      }
    });

    const row = { card_id: ["c"], age: [1] };
    it.each([
      ["no time", row, "field_missing", "df.event_timestamp"],
      ["no feature", { card_id: ["c"], event_timestamp: [time()] }, "selection_invalid", "df"],
      ["no key", { age: [1], event_timestamp: [time()] }, "key_missing_in_body", "df.card_id"],
      ["a time that is none", { ...row, event_timestamp: ["yesterday"] }, "wrong_type", "df.event_timestamp[0]"],
      ["a number for a time", { ...row, event_timestamp: [1_769_860_800] }, "wrong_type", "df.event_timestamp[0]"],
      [
        "a day that is none",
        { ...row, event_timestamp: ["2026-02-31T00:00:00Z"] },
        "wrong_type",
        "df.event_timestamp[0]",
      ],
      [
        "a time ahead",
        { ...row, event_timestamp: [new Date(Date.now() + 3_600_000).toISOString()] },
        "event_time_future",
        "df.event_timestamp[0]",
      ],
      ["another type", { ...row, age: ["many"], event_timestamp: [time()] }, "value_type", "df.age[0]"],
      ["a number that is not whole", { ...row, age: [1.5], event_timestamp: [time()] }, "value_range", "df.age[0]"],
      ["columns of different lengths", { ...row, age: [1, 2], event_timestamp: [time()] }, "entities_uneven", "df.age"],
      ["a column that is no list", { ...row, age: 1, event_timestamp: [time()] }, "wrong_type", "df.age"],
      [
        "a column that nobody registered",
        { ...row, height: [1], event_timestamp: [time()] },
        "feature_unknown",
        "df.height",
      ],
      ["a key that is no id", { ...row, card_id: [1.5], event_timestamp: [time()] }, "wrong_type", "df.card_id[0]"],
      ["rows instead of columns", [row], "wrong_type", "df"],
      [
        "too many rows",
        { card_id: Array(1_001).fill("c"), age: Array(1_001).fill(1), event_timestamp: Array(1_001).fill(time()) },
        "too_many_rows",
        "df",
      ],
    ])("a write with %s is refused", async (_, df, code, field) => {
      const reply = told(await write(df));
      expect({ status: reply.status, code: reply.code, field: reply.field }).toEqual({
        status: code === "feature_unknown" ? 404 : 422,
        code,
        field,
      });
    });

    it("says in headers that a feature is on its way out", async () => {
      const [name, key] = [`${view}old:age`, target.keys().firstAdmin];
      const body = { name, dtype: "int64", entity: "card", deprecated: { date: "2027-01-31" } };
      expect([200, 201]).toContain((await call("/v1/features/register", { body, key })).status);
      const ask = () => call("/get-online-features", { body: { entities: { card_id: ["c"] }, features: [name] } });
      const reply = await settled(ask);
      expect([reply.status, reply.headers.get("deprecation")]).toEqual([200, "@1801353600"]);
    });

    it("takes the key as a bearer token, as Feast's client sends it", async () => {
      const body = { entities: { card_id: ["c"] }, features: ["card_activity:tx_count_1h"] };
      const headers = { authorization: `Bearer ${target.keys().first}` };
      expect((await call("/get-online-features", { body, key: null, headers })).status).toBe(200);
    });

    it("materializes a batch view for the caller's tenant", async () => {
      const [start_ts, end_ts] = [Date.now() - 86_400_000, Date.now()].map((ms) => new Date(ms).toISOString());
      const body = { start_ts, end_ts, feature_views: ["merchant_risk"] };
      const reply = await call("/materialize", { body, key: target.keys().firstAdmin });
      // Within 20 s, else it goes on by itself.
      expect([
        [200, null],
        [202, { status: "accepted", feature_views: ["merchant_risk"] }],
      ]).toContainEqual([reply.status, reply.body]);
    }, 60_000);

    it("a declared view takes no writes, and says where its values come from", async () => {
      const df = { card_id: ["c"], tx_count_1h: [1], event_timestamp: [time()] };
      const reply = told(await call(WRITE, { body: { feature_view_name: "card_activity", df } }));
      expect(reply).toMatchObject({ status: 404, code: "view_unknown" });
      expect(reply.message).toContain("card_activity is a declared view");
    });

    it("no row is nothing to do", async () => {
      expect([(await write({})).status, (await write({ card_id: [], event_timestamp: [] })).status]).toEqual([
        200, 200,
      ]);
    });
  });
}
