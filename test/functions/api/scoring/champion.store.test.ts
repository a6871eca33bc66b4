/** Scoring with a champion: what it answers, explains, and does without a store; alone and in batches. */
import { describe, expect, it } from "vitest";
import type { SnapshotSource } from "../../../../adapters/online-store/online-store.ts";
import * as schemas from "../../../../functions/api/openapi/schemas.ts";
import { modelPlan } from "../../../support/model-fixture.ts";
import { conforming } from "../contract/contract-calls.ts";
import { computing, golden, keysBody, openModelHost, plain } from "./model-host.ts";

const host = openModelHost();
const { reader, start, call, score, register, give, recall, logged } = host;
const [service] = modelPlan.services;

describe("a champion", () => {
  it("scores what the store holds as training did", async () => {
    const version = await register();
    await give(version.version);
    expect(plain.length).toBeGreaterThan(10);
    for (const at of plain.slice(0, 4)) {
      const row: (number | null)[] = golden.rows[at];
      const request = recall(row);
      await start(computing(row));
      const answer = await score(request);
      expect(answer).toMatchObject({ model_version: "fraud-lightgbm@1", variant: "champion", degraded: false });
      expect(Math.abs(answer.score - golden.probability[at])).toBeLessThan(1e-12);
      reader.values.clear();
    }
  });

  it("explains along the path, or exactly, and says which; both add up to the raw score", async () => {
    await give((await register()).version);
    const row = golden.rows[plain[0]];
    const request = recall(row);
    await start(computing(row));
    const sums: number[] = [];
    for (const [explain, method] of [
      [true, "path"],
      ["exact", "shap"],
    ] as const) {
      const { explanation, score: given } = await score({ ...request, explain });
      const { base, raw_score, contributions, reasons } = explanation!;
      expect(explanation!.method).toBe(method);
      expect(contributions.reduce((sum, one) => sum + one.contribution, base)).toBeCloseTo(raw_score!, 9);
      expect(1 / (1 + Math.exp(-raw_score!))).toBeCloseTo(given, 12);
      expect(contributions.map(({ contribution }) => Math.abs(contribution))).toEqual(
        contributions.map(({ contribution }) => Math.abs(contribution)).sort((a, b) => b - a),
      );
      expect(reasons.length).toBeLessThanOrEqual(5);
      for (const { contribution, text } of reasons) {
        expect(contribution).toBeGreaterThan(0);
        expect(text).toMatch(/^[\w ]+: \S/);
      }
      sums.push(base);
    }
    expect(sums[0]).toBeCloseTo(sums[1], 9);
  });

  it("is held to the service's own limits", async () => {
    await give((await register()).version);
    await start({ decision: { review: 1e-9, decline: 1 } });
    expect((await score(recall())).decision).toBe("review");
  });

  it("gives way to the rules when the store is away and features lack defaults; with defaults it goes on", async () => {
    await give((await register()).version);
    const request = recall();
    await start();
    reader.down = true;
    const away = { variant: "fallback", model_version: "rule-based-v1", degraded_reason: "store_unavailable" };
    expect(await score(request)).toMatchObject(away);
    await start({
      defaults: Object.fromEntries(service.features.map((name) => [name, name.includes("country") ? "SE" : 0])),
    });
    expect(await score(request)).toMatchObject({ variant: "champion", degraded_reason: "store_unavailable" });
  });

  it("goes on from snapshots alone, with the same score; the rules take over where one entity has none", async () => {
    await give((await register()).version);
    const request = recall();
    let lost = "";
    const snapshots: SnapshotSource = {
      keeps: () => true,
      warm: async () => {},
      async read(requests) {
        const values = await Promise.all(
          requests.map(({ tenant: of, entity, id, features }) => {
            const known = reader.values.get(`${of}/${entity}/${id}`) ?? {};
            return features.map(
              (name) => known[name] ?? { value: null, status: "NOT_FOUND" as const, eventTimeMs: null },
            );
          }),
        );
        return requests.map(({ entity }, i) =>
          entity === lost ? { lost: "corrupt" } : { values: values[i], ageMs: 7 },
        );
      },
    };
    await start({}, undefined, { snapshots, budget: { totalMs: 2_000, storeMs: 1_000 } });
    const whole = await score(request);
    reader.down = true;
    const alike = { variant: "champion", score: whole.score, degraded_reason: "snapshot", snapshot_age_ms: 7 };
    expect(await score(request)).toMatchObject(alike);
    lost = "card";
    expect(await score(request)).toMatchObject({ variant: "fallback", degraded_reason: "snapshot" });
  });
});

describe("a batch", () => {
  it("scores its rows as single requests do, in order, and logs each", async () => {
    for (let i = 0; i < 2; i++) await register();
    await give(1);
    await give(2, "challenger", { share: 0.5 });
    await start();
    const request = recall();
    const [{ joinKey }] = modelPlan.entities;
    const bodies = Array.from({ length: 40 }, (_, i) => ({
      ...keysBody,
      ...request,
      [joinKey]: i % 3 === 0 ? "c" : `b${i}`,
    }));
    const reply = await call("/v1/score/fraud/batch", { body: { rows: bodies } });
    expect(reply.status).toBe(200);
    const { rows } = conforming(schemas.batchScoreAnswer, reply);
    for (const [i, body] of bodies.entries()) {
      const { latency_ms: _, as_of_ms: __, request_id: ___, ...alone } = await score(body);
      expect(rows[i]).toEqual(alone);
    }
    expect(new Set(rows.map(({ variant }) => variant))).toEqual(new Set(["champion", "challenger"]));
    expect(
      (await logged()).filter(({ requestId }) => requestId === reply.body.request_id).map(({ row }) => row),
    ).toEqual(bodies.map((_, i) => i));
  });
});
