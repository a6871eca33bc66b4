/** `/v1/erasures` on a whole app: what is taken, what is refused, and what nobody is told. */
import { beforeEach, expect, it } from "vitest";
import { erasureAnswer, erasuresAnswer } from "../../../../functions/api/administration/admin-schemas.ts";
import { createApp } from "../../../../functions/api/app.ts";
import { createKey } from "../../../../functions/api/keys/keys.ts";
import { testDependencies } from "../doubles.ts";

const { dependencies, keys, audit, erasures } = testDependencies();
const app = createApp(dependencies);
let key: string;
let other: string;

beforeEach(async () => {
  erasures.all.length = 0;
  erasures.broken = false;
  audit.records.length = 0;
  key = (await createKey(keys, { tenant: "team-a", scopes: ["admin"], nowMs: 0 })).key;
  other = (await createKey(keys, { tenant: "team-b", scopes: ["admin"], nowMs: 0 })).key;
});

async function ask(path: string, body?: unknown, by = key) {
  const init = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  const headers = { "x-api-key": by, "content-type": "application/json" };
  const reply = await app.request(`/v1/erasures${path}`, { ...init, headers });
  return { status: reply.status, headers: reply.headers, body: (await reply.json()) as any };
}
const card = { entity: "card", id: "card-of-somebody" };

it("takes a request whether or not anything is known of the entity, and names nobody from then on", async () => {
  const { status, headers, body } = await ask("", { subjects: [card, { entity: "user", id: "u9" }] });
  expect([status, headers.get("location"), headers.get("cache-control")]).toEqual([
    202,
    `/v1/erasures/${body.id}`,
    "no-store",
  ]);
  expect(erasureAnswer.parse(body)).toMatchObject({ state: "running", block: false, looks: [], confirmed_ms: null });
  expect(body.hashes).toHaveLength(2);
  expect(erasures.all[0]).toMatchObject({ tenant: "team-a", subjects: [card, { entity: "user", id: "u9" }] });
  const shown = await ask(`/${body.id}`);
  expect(shown.body).toEqual({ ...body, request_id: expect.any(String) });
  const listed = await ask("");
  expect(erasuresAnswer.parse(listed.body).erasures.map(({ id }) => id)).toEqual([body.id]);
  const told = JSON.stringify([body, shown.body, listed.body, audit.records]);
  expect(told).not.toContain(card.id);
  expect(audit.records.map(({ action, target }) => [action, target])).toContainEqual([
    "erasures.create",
    `erasure ${body.id} of 2`,
  ]);
});

it("blocks for ever where it is asked to", async () => {
  const { body } = await ask("", { subjects: [card], block: true });
  expect(body).toMatchObject({ block: true, before_ms: 253_402_300_799_999 });
});

it("shows a tenant its own alone", async () => {
  const { body } = await ask("", { subjects: [card] });
  expect((await ask("", undefined, other)).body.erasures).toEqual([]);
  expect(await ask(`/${body.id}`, undefined, other)).toMatchObject({ status: 404, body: { code: "erasure_unknown" } });
  // Longer than a table takes for a key.
  expect(await ask(`/${"x".repeat(3_000)}`)).toMatchObject({ status: 404, body: { code: "erasure_unknown" } });
});

it.each([
  [{}, "field_missing", "subjects", "subjects is required"],
  [{ subjects: [] }, "wrong_type", "subjects", "subjects is an array of one or more entities"],
  [{ subjects: "card" }, "wrong_type", "subjects", "given a string"],
  [{ subjects: [card], block: 1 }, "wrong_type", "block", "block is true or false, given a number"],
  [{ subjects: [card], when: 1 }, "field_unknown", "when", 'this call has no field "when"'],
  [{ subjects: [null] }, "wrong_type", "subjects[0]", "subjects[0] is an object, given null"],
  [{ subjects: [{ id: "c" }] }, "field_missing", "subjects[0].entity", "given nothing"],
  [{ subjects: [card, { entity: "car", id: "c" }] }, "entity_unknown", "subjects[1].entity", 'no entity "car"'],
  [
    { subjects: [{ entity: "card", id: 7 }] },
    "wrong_type",
    "subjects[0].id",
    "subjects[0].id is a string, given a number",
  ],
  [{ subjects: [{ entity: "card", id: "" }] }, "key_invalid", "subjects[0].id", "is empty"],
  [{ subjects: [{ entity: "card", id: "\ud800" }] }, "key_invalid", "subjects[0].id", "not valid Unicode"],
  [{ subjects: [{ entity: "card", id: "x".repeat(257) }] }, "key_too_long", "subjects[0].id", "given 257"],
  [{ subjects: [{ ...card, tenant: "b" }] }, "field_unknown", "subjects[0].tenant", 'no field "tenant"'],
  [
    { subjects: Array(101).fill(card) },
    "too_many_rows",
    "subjects",
    "at most 100 entities are erased at once, given 101",
  ],
])("refuses %j", async (given, code, field, detail) => {
  const { body } = await ask("", given);
  expect([body.code, body.field]).toEqual([code, field]);
  expect(body.detail).toContain(detail);
  expect(erasures.all).toEqual([]);
});

it("says when its table does not answer", async () => {
  erasures.broken = true;
  const { status, headers, body } = await ask("", { subjects: [card] });
  expect([status, body.code, headers.get("retry-after")]).toEqual([503, "erasures_unavailable", "2"]);
});

it("is for administrators", async () => {
  const reader = (await createKey(keys, { tenant: "team-a", scopes: ["read", "write", "score"], nowMs: 0 })).key;
  expect(await ask("", { subjects: [card] }, reader)).toMatchObject({ status: 403, body: { code: "scope_missing" } });
});
