/** Registered and pushed features, asked over HTTP alone: for every host that has them. */
import { randomUUID } from "node:crypto";
import { describe, expect, it } from "vitest";
import * as schemas from "../../../../functions/api/openapi/schemas.ts";
import { pushAnswer } from "../../../../functions/api/registered/pushed-schemas.ts";
import { type ContractTarget, conforming } from "./contract-calls.ts";
import { pushedCalls } from "./contract-registered.ts";

const REGISTER = "/v1/features/register";
const PUSH = "/v1/features/push";
const HOUR = 3_600_000;

export function describePushed(target: ContractTarget): void {
  const { call, freshView, register, push, settled, read } = pushedCalls(target);

  describe("pushed features", () => {
    it("are registered, pushed, and read as declared ones are: by name, in a batch, and as all of an entity", async () => {
      const [view, card] = [freshView(), randomUUID()];
      const [age, city] = [`${view}:age`, `${view}:city`];
      expect(await register({ name: age, ttl: "2h", unit: "days" })).toMatchObject({
        ...{ status: 201, outcome: "created", name: age, version: 1, versioned_name: `${age}@1`, current_version: 1 },
        ...{ ttl_ms: 2 * HOUR, unit: "days", dtype: "double", tags: [], deprecated: null },
      });
      expect(await register({ name: city, dtype: "str" })).toMatchObject({ dtype: "string", ttl_ms: HOUR });
      const now = Date.now();
      const body = {
        features: [city, age],
        rows: [
          { id: card, event_time_ms: now - 1_000, values: ["Oslo", 412.5] },
          { card_id: `${card}-2`, event_time_ms: new Date(now - 90 * 60_000).toISOString(), values: ["Rome", null] },
        ],
      };
      await settled(() => push(body));
      const pushed = await push(body);
      expect([pushed.body.detail, pushed.status]).toEqual([undefined, 200]);
      const answer = conforming(pushAnswer, pushed);
      expect(answer).toMatchObject({ accepted: 2, refused: 0, results: [] });
      expect(answer.visible_ms).toBeGreaterThan(now - 60_000);
      await settled(() =>
        call("/v1/features/online", { body: { entities: { card_id: card }, features: [city, age] } }),
      );
      expect(await read(card, [age, "card_activity:tx_count_1h", `${city}@1`])).toEqual({
        [age]: { value: 412.5, status: "PRESENT", event_time_ms: now - 1_000 },
        "card_activity:tx_count_1h": { value: null, status: "NOT_FOUND", event_time_ms: null },
        [`${city}@1`]: { value: "Oslo", status: "PRESENT", event_time_ms: now - 1_000 },
      });
      const entities = [{ card_id: card }, { card_id: `${card}-2` }, { card_id: `${card}-3` }];
      const batch = await call("/v1/features/batch", { body: { entities, features: [age, city] } });
      expect(conforming(schemas.batchAnswer, batch).rows.map(({ values, statuses }) => [values, statuses])).toEqual([
        [
          [412.5, "Oslo"],
          ["PRESENT", "PRESENT"],
        ],
        // Each feature has its own ttl.
        [
          [null, null],
          ["NULL_VALUE", "OUTSIDE_MAX_AGE"],
        ],
        [
          [null, null],
          ["NOT_FOUND", "NOT_FOUND"],
        ],
      ]);
      const all = conforming(schemas.entityAnswer, await call(`/v1/features/card/${card}`));
      expect(all.features[age]).toMatchObject({ value: 412.5 });
      expect(all.features).toHaveProperty("card_activity:tx_count_1h");
    });

    it("the newest value wins, whatever the order and repetition of pushes; rows may name their values", async () => {
      const [view, card] = [freshView(), randomUUID()];
      const name = `${view}:n`;
      await register({ name, dtype: "int64" });
      const now = Date.now();
      const at = (ageMs: number, n: number) => ({
        rows: [{ id: card, event_time_ms: now - ageMs, values: { [name]: n } }],
      });
      await settled(() => push(at(3_000, 3)));
      for (const body of [at(1_000, 1), at(2_000, 2), at(1_000, 1), at(3_000, 3)]) {
        expect((await push(body)).status).toBe(200);
      }
      await settled(() => call("/v1/features/online", { body: { entities: { card_id: card }, features: [name] } }));
      expect((await read(card, [name]))[name]).toEqual({ value: 1, status: "PRESENT", event_time_ms: now - 1_000 });
    });

    it("belong to their tenant: another's of the same name is another feature, with other values", async () => {
      const [view, card] = [freshView(), randomUUID()];
      const name = `${view}:age`;
      const { second, secondAdmin } = target.keys();
      await register({ name });
      const row = (value: unknown) => ({
        features: [name],
        rows: [{ id: card, event_time_ms: Date.now() - 1_000, values: [value] }],
      });
      await settled(() => push(row(1)));
      expect((await push(row(1))).status).toBe(200);
      for (const path of ["/v1/features/online", PUSH]) {
        const body = path === PUSH ? row(2) : { entities: { card_id: card }, features: [name] };
        const reply = await call(path, { body, key: second });
        expect([reply.status, reply.body.code, reply.body.field]).toEqual([404, "feature_unknown", "features[0]"]);
        expect(reply.body.repair).not.toContain(view);
      }
      const all = await call(`/v1/features/card/${card}`, { key: second });
      expect(JSON.stringify(all.body)).not.toContain(view);
      await register({ name, dtype: "string" }, secondAdmin);
      await settled(() => push(row("two"), second));
      expect((await push(row("two"), second)).status).toBe(200);
      await settled(() =>
        call("/v1/features/online", { body: { entities: { card_id: card }, features: [name] }, key: second }),
      );
      expect((await read(card, [name], second))[name].value).toBe("two");
      expect((await read(card, [name]))[name].value).toBe(1);
    });

    it("a push tells each row its own fate, and takes the others", async () => {
      const view = freshView();
      const [n, text] = [`${view}:n`, `${view}:text`];
      await register({ name: n, dtype: "int64" });
      await register({ name: text, dtype: "string" });
      const now = Date.now();
      const good = { id: "g", event_time_ms: now, values: [1, "a"] };
      const rows = [
        good,
        { ...good, id: 7 },
        { ...good, id: "" },
        { ...good, id: "x".repeat(300) },
        { ...good, event_time_ms: now + 3_600_000 },
        { ...good, event_time_ms: 1_794_268_800 },
        { id: "no time", values: [1, "a"] },
        { ...good, event_time_ms: "yesterday" },
        { ...good, values: ["1", "a"] },
        { ...good, values: [1.5, "a"] },
        { ...good, values: [1, "x".repeat(1_025)] },
        { ...good, values: [1, "\ud800"] },
        { ...good, values: [1] },
        { ...good, values: { [n]: 2 } },
      ];
      await settled(() => push({ features: [n, text], rows: [good] }));
      const reply = await push({ features: [n, text], rows });
      expect(reply.status).toBe(207);
      const { accepted, refused, results } = conforming(pushAnswer, reply);
      expect([accepted, refused]).toEqual([2, 12]);
      expect(results.map(({ index, code, field }) => [index, code, field])).toEqual([
        [1, "wrong_type", "rows[1].id"],
        [2, "key_invalid", "rows[2].id"],
        [3, "key_too_long", "rows[3].id"],
        [4, "event_time_future", "rows[4].event_time_ms"],
        [5, "event_time_invalid", "rows[5].event_time_ms"],
        [6, "event_time_invalid", "rows[6].event_time_ms"],
        [7, "event_time_invalid", "rows[7].event_time_ms"],
        [8, "value_type", "rows[8].values[0]"],
        [9, "value_range", "rows[9].values[0]"],
        [10, "value_too_long", "rows[10].values[1]"],
        [11, "text_invalid", "rows[11].values[1]"],
        [12, "row_shape", "rows[12].values"],
      ]);
      expect(results[7].detail).toBe(`${n}@1: a value of type int64 is a number, given a string`);
      const none = await push({ features: [n, text], rows: rows.slice(8, 9) });
      expect([none.status, none.body.code, none.body.field]).toEqual([400, "value_type", "rows[0].values[0]"]);
      expect((await push({ features: [n, text], rows: rows.slice(12, 13) })).body.detail).toBe(
        "values is an array as long as features, in their order, or one or more by name",
      );
      // Whose time is misspelt would else be of the request's own.
      for (const [wrong, code, field] of [
        [{ ...good, evnt_time_ms: 1 }, "field_unknown", "rows[1].evnt_time_ms"],
        [{ ...good, card_id: "another" }, "row_shape", "rows[1].card_id"],
      ] as const) {
        const told = await push({ features: [n, text], rows: [good, wrong], event_time_ms: now });
        expect([told.status, told.body.code, told.body.field]).toEqual([400, code, field]);
      }
      expect((await push({ features: [n, text], rows: [{ ...good, card_id: good.id }] })).status).toBe(200);
      const various = await push({ features: [n, text], rows: rows.slice(1, 6) });
      expect([various.status, various.body.code, various.body.refused]).toEqual([400, "records_invalid", 5]);
    });

    const row = { id: "c", event_time_ms: 1_794_268_800_000, values: [1] };
    it.each([
      [{}, 400, "field_missing", "rows"],
      [{ rows: {} }, 400, "wrong_type", "rows"],
      [{ rows: [row], feature: ["a:b"] }, 400, "field_unknown", "feature"],
      [{ rows: [] }, 400, "body_empty", "rows"],
      [{ rows: [[]] }, 400, "row_shape", "rows[0]"],
      [{ rows: [row] }, 400, "field_missing", "features"],
      [{ rows: [row], features: [] }, 400, "wrong_type", "features"],
      [{ rows: [row], features: [3] }, 400, "wrong_type", "features"],
      [{ rows: [row], features: ["none:such"] }, 404, "feature_unknown", "features[0]"],
      // Declared features are computed, nobody pushes them.
      [{ rows: [row], features: ["card_activity:tx_count_1h"] }, 404, "feature_unknown", "features[0]"],
      [{ rows: Array(1_001).fill(row), features: ["a:b"] }, 400, "too_many_rows", "rows"],
      [{ rows: [row], features: Array(501).fill("a:b") }, 400, "too_many_features", "features"],
    ])("pushing %.60j → %i %s", async (body, status, code, field) => {
      const reply = await push(body);
      const problem = conforming(schemas.problem, reply);
      expect([reply.status, problem.code, problem.field]).toEqual([status, code, field]);
      expect(problem.repair).not.toBe("");
    });

    it("a value that a row names is pushed or refused, whatever the request lists", async () => {
      const [view, card] = [freshView(), randomUUID()];
      const names = ["a", "b", "c"].map((key) => `${view}:${key}`);
      for (const name of names) await register({ name });
      const eventTimeMs = Date.now() - 1_000;
      const rows = [
        { id: card, event_time_ms: eventTimeMs, values: { [names[0]]: 1, [names[2]]: 3 } },
        { id: `${card}-2`, event_time_ms: eventTimeMs, values: [4, 5] },
        { id: `${card}-3`, event_time_ms: eventTimeMs, values: [4, 5, 6] },
      ];
      const body = { features: names.slice(0, 2), rows };
      await settled(() => push(body));
      const reply = await push(body);
      expect([reply.status, reply.body.accepted, reply.body.results]).toMatchObject([207, 2, [{ index: 2 }]]);
      const valuesOf = async (id: string) => Object.values(await read(id, names)).map(({ value }) => value);
      expect(await valuesOf(card)).toEqual([1, null, 3]);
      expect(await valuesOf(`${card}-2`)).toEqual([4, 5, null]);
      const unknown = { ...rows[0], values: { [names[0]]: 1, [`${view}:typo`]: 2 } };
      const refused = await push({ ...body, rows: [rows[0], unknown] });
      const field = `rows[1].values.${view}:typo`;
      expect([refused.status, refused.body.code, refused.body.field]).toEqual([404, "feature_unknown", field]);
      const nobody = await push({ ...body, rows: [{ ...rows[0], id: "" }] });
      expect([nobody.body.code, nobody.body.repair]).toEqual(["key_invalid", "send the entity's id"]);
    });

    it("features of two entities, or one twice, are not pushed together", async () => {
      const view = freshView();
      await register({ name: `${view}:a` });
      await register({ name: `${view}:b`, entity: "merchant" });
      const body = (features: string[], more = {}) => ({ features, rows: [{ ...row, values: [1, 2] }], ...more });
      await settled(() => push(body([`${view}:b`, `${view}:a`])));
      const refused = async (given: unknown) => {
        const reply = await push(given);
        return [reply.status, reply.body.code, reply.body.field];
      };
      expect(await refused(body([`${view}:a`, `${view}:b`]))).toEqual([400, "entities_differ", "features"]);
      for (const entity of ["user", 7, null, { toString: null, valueOf: null }]) {
        expect(await refused(body([`${view}:a`], { entity }))).toEqual([400, "entities_differ", "entity"]);
      }
      expect(await refused(body([`${view}:a`, `${view}:a@1`]))).toEqual([400, "selection_invalid", "features"]);
    });

    it.each([
      [REGISTER, "admin"],
      [PUSH, "write"],
    ])("a key without the scope of %s → 403 scope_missing naming %s", async (path, scope) => {
      const reply = await call(path, { body: {}, key: target.keys().readOnly });
      expect([reply.status, reply.body.code]).toEqual([403, "scope_missing"]);
      expect(reply.body.repair).toContain(`--scopes ${scope}`);
    });

    it("a name without a view is of the view pushed", async () => {
      const key = `k${freshView()}`;
      await register({ name: key });
      const body = { features: [key], rows: [{ id: "p1", event_time_ms: Date.now(), values: [5] }] };
      await settled(() => push(body));
      expect((await push(body)).status).toBe(200);
      const names = [key, `pushed:${key}`];
      await settled(() => call("/v1/features/online", { body: { entities: { card_id: "p1" }, features: names } }));
      const found = await read("p1", names);
      expect(names.map((name) => found[name].value)).toEqual([5, 5]);
    });
  });
}
