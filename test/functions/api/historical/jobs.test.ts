/** What is told of historical jobs that are lost, or end while they are cancelled, and when their table does not answer: over doubles. */
import { expect, it } from "vitest";
import { InfrastructureError } from "../../../../core/errors.ts";
import { createApp } from "../../../../functions/api/app.ts";
import { createKey } from "../../../../functions/api/keys/keys.ts";
import { testDependencies } from "../doubles.ts";

const ports = testDependencies();
const { key } = await createKey(ports.keys, { tenant: "team-a", scopes: ["read", "write", "score"], nowMs: 0 });

it.each([
  ["running", 15, "running", undefined],
  ["running", 17, "failed", "job_lost"],
  // Behind others it is silent and will be done all the same.
  ["queued", 17, "queued", undefined],
] as const)(
  "a historical job that is %s and was heard of %i minutes ago is told as %s",
  async (state, minutes, told, code) => {
    const nowMs = 1_800_000_000_000;
    const request = {
      service: "fraud",
      labels: "labels",
      asOf: "event_time",
      fromMs: null,
      toMs: null,
      spineKey: null,
    };
    const job: any = { ...{ tenant: "team-a", id: "j", request, runner: "process", state, progress: 0, createdMs: 0 } };
    Object.assign(job, { updatedMs: nowMs - minutes * 60_000, files: [], manifest: null, error: null });
    const historical: any = { jobs: { get: async () => job } };
    const app = createApp({ ...ports.dependencies, historical, clock: () => nowMs });
    const reply = await app.request("/v1/features/historical/j", { headers: { "x-api-key": key } });
    const answer = (await reply.json()) as any;
    expect([answer.state, answer.error?.code]).toEqual([told, code]);
  },
);

it("the record of a job that was started names it", async () => {
  const jobs = { open: async () => [], create: async () => {} };
  const historical: any = { jobs, runner: "process", start: () => {} };
  const app = createApp({ ...ports.dependencies, historical });
  const headers = { "x-api-key": key, "content-type": "application/json" };
  const reply = await app.request("/v1/features/historical", { method: "POST", headers, body: '{"service": "fraud"}' });
  const { job_id } = (await reply.json()) as any;
  expect(ports.audit.records.at(-1)).toMatchObject({
    ...{ action: "features.historical", target: `job ${job_id} for fraud`, outcome: "done" },
  });
});

async function startWith(rows: readonly unknown[]) {
  const kept: unknown[] = [];
  const putSpine = async (_: unknown, given: readonly unknown[]) => `key of ${kept.push(...given)}`;
  const jobs = { open: async () => [], create: async () => {} };
  const historical: any = { jobs, runner: "process", start: () => {}, putSpine };
  const app = createApp({ ...ports.dependencies, historical });
  const headers = { "x-api-key": key, "content-type": "application/json" };
  const body = JSON.stringify({ service: "fraud", rows });
  const reply = await app.request("/v1/features/historical", { method: "POST", headers, body });
  const { code, field, detail } = (await reply.json()) as any;
  return { status: reply.status, code, field, detail, kept };
}
const ownRow = { as_of_ms: 1_794_268_800_000, card_id: "c1", amount: 12.5 };

it("5,000 rows of a kilobyte are a job's, and more are not", async () => {
  const wide = { ...ownRow, note: "x".repeat(900) };
  expect(await startWith(new Array(5_000).fill(wide))).toMatchObject({ status: 202, kept: { length: 5_000 } });
  const more = await startWith(new Array(5_001).fill(ownRow));
  expect([more.status, more.code, more.kept]).toEqual([400, "too_many_rows", []]);
});

it.each([
  [{ card_id: "\ud800" }, "key_invalid", "rows[1].card_id", "rows[1].card_id is not valid Unicode text"],
  [{ note: "a\udc00" }, "text_invalid", "rows[1].note", "rows[1].note is not valid Unicode text"],
  [{ note: { of: [1, "\ud800"] } }, "text_invalid", "rows[1].note", "rows[1].note is not valid Unicode text"],
  [{ "\ud800": 1 }, "text_invalid", "rows[1]", "rows[1] has a name that is not valid Unicode text"],
  [
    { note: JSON.parse(`${"[".repeat(2_000)}1${"]".repeat(2_000)}`) },
    "row_shape",
    "rows[1].note",
    "rows[1].note is nested in more than 32 levels",
  ],
])("a row that no job could read is refused before there is one: %#", async (wrong, code, field, detail) => {
  const told = await startWith([ownRow, { ...ownRow, ...wrong }]);
  expect(told).toEqual({ status: 400, code, field, detail, kept: [] });
});

it("texts of every kind and nested columns are taken as they are", async () => {
  const rows = [{ ...ownRow, card_id: "🂡", note: { of: ["ä", null, { "😀": [] }] } }];
  expect(await startWith(rows)).toMatchObject({ status: 202, kept: rows });
});

it.each([
  ["done", "done"],
  ["failed", "failed"],
  ["running", "failed"],
] as const)("a job that is %s by the time that its cancelling is written is %s", async (state, told) => {
  const nowMs = 1_800_000_000_000;
  const request = { service: "fraud", labels: "labels", asOf: "event_time", fromMs: null, toMs: null, spineKey: null };
  const job: any = {
    tenant: "team-a",
    id: "j",
    request,
    runner: "process",
    state: "queued",
    progress: 0,
    createdMs: 0,
  };
  Object.assign(job, { updatedMs: nowMs, files: [], manifest: null, error: null });
  const stopped: unknown[] = [];
  const jobs = {
    get: async () => ({ ...job }),
    cancel: async () => {
      Object.assign(job, { state, updatedMs: nowMs - 17 * 60_000 });
      return false;
    },
  };
  const historical: any = { jobs, stop: (one: unknown) => stopped.push(one) };
  const app = createApp({ ...ports.dependencies, historical, clock: () => nowMs });
  const options = { method: "DELETE", headers: { "x-api-key": key } };
  const reply = await app.request("/v1/features/historical/j", options);
  expect([reply.status, await reply.json()]).toMatchObject([
    409,
    { code: "job_ended", detail: `the job is ${told} already`, field: "job" },
  ]);
  expect(stopped).toEqual([]);
});

it("a table of jobs that does not answer is told as such, and not as the online store", async () => {
  const gone = async () => {
    throw new InfrastructureError("jobs_unavailable", "reading a job failed: ResourceNotFoundException");
  };
  const app = createApp({ ...ports.dependencies, historical: { jobs: { get: gone, open: gone } } as any });
  const headers = { "x-api-key": key, "content-type": "application/json" };
  const body = JSON.stringify({ service: "fraud" });
  for (const [path, options] of [
    ["/v1/features/historical/j", { headers }],
    ["/v1/features/historical/j", { method: "DELETE", headers }],
    ["/v1/features/historical", { method: "POST", headers, body }],
  ] as const) {
    const reply = await app.request(path, options);
    expect([reply.status, reply.headers.get("retry-after")]).toEqual([503, "2"]);
    expect(await reply.json()).toMatchObject({
      ...{ code: "jobs_unavailable", detail: "the table or the bucket of jobs does not answer" },
    });
  }
});
