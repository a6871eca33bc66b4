/** What `/v1/quarantine` refuses, and what it says when its table does not answer. How records come and go: quarantine.store.test.ts. */
import { beforeEach, describe, expect, it } from "vitest";
import { createApp } from "../../../../functions/api/app.ts";
import { createKey } from "../../../../functions/api/keys/keys.ts";
import { memoryQuarantine, testDependencies } from "../doubles.ts";

const { dependencies, keys, audit, lines } = testDependencies();
let quarantine = memoryQuarantine();
let key: string;
beforeEach(async () => {
  quarantine = memoryQuarantine();
  audit.records.length = 0;
  key = (await createKey(keys, { tenant: "team-a", scopes: ["admin"], nowMs: 0 })).key;
});

async function call(url: string, body?: unknown) {
  const app = createApp({ ...dependencies, quarantine });
  const headers = { "x-api-key": key, "content-type": "application/json" };
  const init = body === undefined ? { headers } : { headers, method: "POST", body: JSON.stringify(body) };
  const reply = await app.request(url, init);
  return { status: reply.status, body: (await reply.json()) as any };
}

it.each([
  ["?reson=x", "field_unknown", "reson", "GET /v1/quarantine has no parameter reson", "did you mean reason?"],
  ["?status=open&status=all&status=all", "wrong_type", "status", "status is one value, given 3", "send it once"],
  ["?stream=payments", "stream_unknown", "stream", 'no stream is named "payments"', "transactions"],
  ["?since=soon", "wrong_type", "since", 'since is a time, given "soon"', "ISO 8601"],
  [
    "?status=lost",
    "wrong_type",
    "status",
    "status is one of open, still_refused, replayed, dropped or all",
    "leave it out",
  ],
  ["/records?limit=0", "wrong_type", "limit", "limit is a whole number from 1 to 500", "leave it out"],
  ["/records?after=5.x", "wrong_type", "after", "after is what `next` of a page was", "send `next`"],
  ["/records?after=__proto__", "wrong_type", "after", "after is what `next` of a page was", "send `next`"],
  ["/x", "record_unknown", "id", 'no record of the quarantine has the id "x"', "GET /v1/quarantine/records"],
  [
    `/${"0".repeat(32)}`,
    "record_unknown",
    "id",
    "no record of the quarantine has the id",
    "GET /v1/quarantine/records",
  ],
  [`?reason=${"x".repeat(201)}`, "value_too_long", "reason", "reason is at most 200 characters, given 201", "as GET"],
  ["/jobs/none", "job_unknown", "job", 'no job has the id "none"', "POST /v1/quarantine/replay"],
])("refuses GET %s", async (query, code, field, detail, repair) => {
  const { body } = await call(`/v1/quarantine${query}`);
  expect(body).toMatchObject({
    code,
    field,
    detail: expect.stringContaining(detail),
    repair: expect.stringContaining(repair),
  });
});

const ID = "0123456789abcdef0123456789abcdef";

describe.each(["replay", "drop"])("a %s", (kind) => {
  it.each([
    [{}, "field_missing", "reason", "which records are meant is not said", '{"all": true}'],
    [{ all: false }, "wrong_type", "all", "all is true, given", "schema_unknown"],
    [{ reason: 5 }, "wrong_type", "reason", "reason is a string, given", "schema_unknown"],
    [{ ids: ID }, "wrong_type", "ids", "ids is a list of ids, given", "schema_unknown"],
    [{ ids: [] }, "wrong_type", "ids", "ids is a list of 1 to 500 ids", "GET /v1/quarantine/records"],
    [{ ids: [ID, "x"] }, "wrong_type", "ids", "ids is a list of 1 to 500 ids", "GET /v1/quarantine/records"],
    [
      { ids: new Array(501).fill(ID) },
      "wrong_type",
      "ids",
      "ids is a list of 1 to 500 ids",
      "GET /v1/quarantine/records",
    ],
    [{ tenant: "team-b" }, "field_unknown", "tenant", 'this call has no field "tenant"', "use one of"],
    [{ stream: "payments" }, "stream_unknown", "stream", 'no stream is named "payments"', "transactions"],
    [
      { field: "x".repeat(300), all: true },
      "value_too_long",
      "field",
      "field is at most 200 characters, given 300",
      "as GET /v1/quarantine shows it",
    ],
    [{ since: "soon" }, "wrong_type", "since", 'since is a time, given "soon"', "ISO 8601"],
  ])("is refused for %j", async (sent, code, field, detail, repair) => {
    const { body } = await call(`/v1/quarantine/${kind}`, sent);
    expect(body).toMatchObject({
      code,
      field,
      detail: expect.stringContaining(detail),
      repair: expect.stringContaining(repair),
    });
    expect(quarantine.asked).toEqual([]);
  });

  it("is written down for the key's tenant, and in the audit log under its job", async () => {
    const { status, body } = await call(`/v1/quarantine/${kind}`, {
      reason: "schema_unknown",
      ids: [ID],
      since: "2026-11-01",
    });
    expect([status, body.state, body.kind]).toEqual([202, "queued", kind]);
    expect(quarantine.asked).toMatchObject([
      {
        ...{ tenant: "team-a", id: body.job_id, kind, ids: [ID] },
        filter: { tenant: "team-a", reason: "schema_unknown", sinceMs: Date.UTC(2026, 10, 1) },
      },
    ]);
    expect(audit.records.at(-1)).toMatchObject({
      action: `quarantine.${kind}`,
      target: `job ${body.job_id}`,
      outcome: "done",
    });
  });

  it("waits while ten of the tenant's are under way", async () => {
    for (let i = 0; i < 10; i++) expect((await call(`/v1/quarantine/${kind}`, { all: true })).status).toBe(202);
    const { status, body } = await call(`/v1/quarantine/${kind}`, { all: true });
    expect([status, body.code, body.detail]).toEqual([
      ...[429, "too_many_jobs", "10 jobs of the tenant wait or run, the limit is 10"],
    ]);
  });
});

it("says when the quarantine does not answer, and logs why", async () => {
  quarantine.broken.it = true;
  lines.length = 0;
  const { status, body } = await call("/v1/quarantine");
  expect([status, body.code]).toEqual([503, "quarantine_unavailable"]);
  expect(lines).toMatchObject([{ message: "request failed", details: { code: "quarantine_unavailable" } }]);
});
