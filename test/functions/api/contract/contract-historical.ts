/** Historical jobs, asked over HTTP alone: for every host that runs them. */
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { jobAnswer } from "../../../../functions/api/historical/historical-schemas.ts";
import * as schemas from "../../../../functions/api/openapi/schemas.ts";
import { type ContractTarget, caller, conforming } from "./contract-calls.ts";

const path = "/v1/features/historical";
const DONE_WITHIN_MS = 90_000;

/** Polls a job to its end. */
export async function ended(target: ContractTarget, id: string) {
  const deadline = Date.now() + DONE_WITHIN_MS;
  for (;;) {
    const job = conforming(jobAnswer, await caller(target)(`${path}/${id}`));
    if (job.state !== "queued" && job.state !== "running") return job;
    if (Date.now() > deadline) throw new Error(`the job is ${job.state} after ${DONE_WITHIN_MS} ms`);
    await sleep(100);
  }
}

export function describeHistorical(target: ContractTarget): void {
  const call = caller(target);
  const start = async (body: unknown, key?: string) => {
    const reply = await call(path, { body, key });
    expect([reply.status, reply.body.detail]).toEqual([202, undefined]);
    const job = conforming(jobAnswer, reply);
    expect(reply.headers.get("location")).toBe(`${path}/${job.job_id}`);
    return job;
  };

  describe("features as they were", () => {
    it("a job goes from queued to done, its files need no key, and nobody else's tenant sees it", async () => {
      const rows = [{ as_of_ms: Date.now() - 60_000, card_id: "never-seen", amount: 3, note: "kept" }];
      const { job_id, state } = await start({ service: "fraud", rows }, target.keys().readOnly);
      expect(state).toBe("queued");
      const job = await ended(target, job_id);
      expect(job).toMatchObject({ service: "fraud", state: "done", progress: 1, error: null });
      expect(job.manifest).toMatchObject({ row_count: 1, service: "fraud", as_of_rule: "spine" });
      expect(job.files.map(({ name }) => name)).toEqual(["manifest.json", "part-00000.parquet"]);
      const [manifest, parquet] = await Promise.all(job.files.map(({ url }) => fetch(url)));
      expect(await manifest.json()).toEqual(job.manifest);
      const bytes = Buffer.from(await parquet.arrayBuffer());
      expect(bytes.toString("latin1", 0, 4) + bytes.toString("latin1", bytes.length - 4)).toBe("PAR1PAR1");
      const other = await call(`${path}/${job_id}`, { key: target.keys().second });
      expect([other.status, other.body.code]).toEqual([404, "job_unknown"]);
    });

    it("a job that cannot be done says why", async () => {
      const { job_id } = await start({ service: "fraud", rows: [{ card_id: "c1", when: 5 }] });
      expect(await ended(target, job_id)).toMatchObject({
        state: "failed",
        files: [],
        error: { code: "spine_time_missing", detail: "the spine has no time column; found card_id, when" },
      });
    });

    it.each([
      [{}, 400, "field_missing", "service"],
      [{ service: "fraude" }, 404, "service_unknown", "service"],
      [{ service: "fraud", labels: "outcomes" }, 404, "stream_unknown", "labels"],
      [{ service: "fraud", from: "yesterday" }, 400, "wrong_type", "from"],
      [{ service: "fraud", to: "2026-11-01T00:00:00" }, 400, "wrong_type", "to"],
      [{ service: "fraud", from: 5, to: 5 }, 400, "selection_invalid", "to"],
      [{ service: "fraud", as_of: "noon" }, 400, "selection_invalid", "as_of"],
      [{ service: "fraud", from_log: "yes" }, 400, "wrong_type", "from_log"],
      [{ service: "fraud", from_log: true, as_of: "arrival" }, 400, "selection_invalid", "as_of"],
      [{ service: "fraud", from_log: true, rows: [{ as_of_ms: 5 }] }, 400, "selection_invalid", "rows"],
      [{ service: "fraud", rows: [] }, 400, "wrong_type", "rows"],
      [{ service: "fraud", rows: [{}, 3] }, 400, "wrong_type", "rows[1]"],
      [{ service: "fraud", query: "SELECT 1" }, 400, "field_unknown", "query"],
    ])("refuses %j → %i %s", async (body, status, code, field) => {
      const reply = await call(path, { body });
      const problem = conforming(schemas.problem, reply);
      expect([reply.status, problem.code, problem.field]).toEqual([status, code, field]);
      expect(problem.repair).not.toBe("");
    });

    it.each([
      ["GET", "nothing"],
      ["DELETE", "nothing"],
      ["GET", "x".repeat(3_000)],
      ["DELETE", "x".repeat(3_000)],
    ])("%s of an id that no job has → 404 job_unknown: %.20s", async (method, id) => {
      const reply = await call(`${path}/${id}`, { method });
      expect([reply.status, reply.body.code]).toEqual([404, "job_unknown"]);
    });

    it("a job that is cancelled stays so; one that was done first stays done, and says so", async () => {
      const { job_id } = await start({ service: "fraud", rows: [{ as_of_ms: Date.now(), card_id: "c", amount: 1 }] });
      const cancel = (key?: string) => call(`${path}/${job_id}`, { method: "DELETE", key });
      const other = await cancel(target.keys().second);
      expect([other.status, other.body.code]).toEqual([404, "job_unknown"]);
      const reply = await cancel();
      // Which of the two was faster is nobody's to say.
      if (reply.status === 409) {
        expect(conforming(schemas.problem, reply)).toMatchObject({
          code: "job_ended",
          detail: "the job is done already",
        });
      } else {
        expect(reply.status).toBe(200);
        expect(conforming(jobAnswer, reply)).toMatchObject({
          ...{ job_id, state: "cancelled", files: [], manifest: null },
          error: { code: "job_cancelled", detail: "the job was cancelled" },
        });
      }
      const { request_id: _, ...told } = (await call(`${path}/${job_id}`)).body;
      expect(told.state).toBe(reply.status === 409 ? "done" : "cancelled");
      const again = await cancel();
      expect(again.status).toBe(reply.status);
      if (again.status === 200) expect(again.body).toMatchObject(told);
    });

    it("a job that has ended is not cancelled any more", async () => {
      const done = await start({ service: "fraud", rows: [{ as_of_ms: Date.now(), card_id: "c", amount: 1 }] });
      const failed = await start({ service: "fraud", rows: [{ card_id: "c1", when: 5 }] });
      for (const [{ job_id }, state] of [
        [done, "done"],
        [failed, "failed"],
      ] as const) {
        const before = await ended(target, job_id);
        const reply = await call(`${path}/${job_id}`, { method: "DELETE" });
        expect([reply.status, reply.body.code, reply.body.detail]).toEqual([
          409,
          "job_ended",
          `the job is ${state} already`,
        ]);
        const after = await ended(target, job_id);
        expect([after.state, after.updated_ms]).toEqual([before.state, before.updated_ms]);
      }
    });
  });
}
