/** `GET /v1/audit` on a whole app, with an audit log in memory. */
import { beforeEach, expect, it } from "vitest";
import { auditId } from "../../../../adapters/audit-log.ts";
import { auditAnswer } from "../../../../functions/api/administration/admin-schemas.ts";
import { createApp } from "../../../../functions/api/app.ts";
import { createKey } from "../../../../functions/api/keys/keys.ts";
import { testDependencies } from "../doubles.ts";

const { dependencies, keys, audit, lines } = testDependencies();
const app = createApp(dependencies);
let key: string;

beforeEach(async () => {
  audit.broken = false;
  audit.records.length = 0;
  key = (await createKey(keys, { tenant: "team-a", scopes: ["admin"], nowMs: 0 })).key;
  for (const [tenant, atMs] of [
    ["team-a", 1],
    ["team-b", 2],
    ["team-a", 3],
    ["team-a", 5],
  ] as const) {
    const entry = { who: "key abc", action: "keys.create", target: "key def", outcome: "done", requestId: null };
    await audit.write({ tenant, id: auditId(atMs), atMs, ...entry });
  }
});

async function get(query = "") {
  const reply = await app.request(`/v1/audit${query}`, { headers: { "x-api-key": key } });
  return { status: reply.status, body: (await reply.json()) as any };
}

it("lists the tenant's own, newest first, page by page; what was looked at is listed, too", async () => {
  const first = await get("?limit=2");
  expect([first.status, auditAnswer.parse(first.body).records.map(({ at_ms }) => at_ms)]).toEqual([200, [5, 3]]);
  const second = await get(`?limit=2&before=${first.body.next}`);
  expect(second.body.records.map(({ at_ms }: any) => at_ms)).toEqual([1]);
  expect(second.body.next).toBeNull();
  const newest = (await get("?limit=1")).body.records[0];
  expect(newest).toMatchObject({ action: "audit.read", target: "/v1/audit", outcome: "done" });
  expect(newest.request_id).toBe(second.body.request_id);
  expect((await get("?before=0000000000003")).body.records.map(({ at_ms }: any) => at_ms)).toEqual([1]);
});

it.each([
  ["?limit=0", "limit", 'limit is a whole number from 1 to 500, given "0"'],
  ["?limit=501", "limit", 'given "501"'],
  ["?limit=1e2", "limit", 'given "1e2"'],
  ["?limit=1&limit=2", "limit", "limit is one value, given 2"],
  ["?before=yesterday", "before", 'before is an id of a record or epoch milliseconds, given "yesterday"'],
  ["?before=", "before", 'given ""'],
])("refuses %s", async (query, field, detail) => {
  const { status, body } = await get(query);
  expect([status, body.code, body.field]).toEqual([400, "wrong_type", field]);
  expect(body.detail).toContain(detail);
});

it("says when the log does not answer, and tells its own log who asked", async () => {
  audit.broken = true;
  lines.length = 0;
  const { status, body } = await get();
  expect([status, body.code]).toEqual([503, "audit_unavailable"]);
  expect(lines.map(({ message, details }) => [message, details["action"] ?? details["code"]])).toEqual([
    ["audit record not written", "audit.read"],
    ["request failed", "audit_unavailable"],
  ]);
});
