/** What a ranking reads, who scores it, what is logged of it: over doubles of the store and the models. */
import { beforeEach, describe, expect, it } from "vitest";
import { hash64 } from "../../../../adapters/hash.ts";
import type { InferenceRow } from "../../../../adapters/inference-log/inference-log-format.ts";
import { outcomesOf } from "../../../../adapters/offline/scored-outcomes.ts";
import { InfrastructureError } from "../../../../core/errors.ts";
import type { FeatureValue, Scalar } from "../../../../core/plan.ts";
import { fractionOf } from "../../../../core/scoring/variant.ts";
import { type ApiDependencies, createApp } from "../../../../functions/api/app.ts";
import { createKey } from "../../../../functions/api/keys/keys.ts";
import { createScoreLogger, type ScoreLogger } from "../../../../functions/api/scoring/score-log.ts";
import { plan, testDependencies } from "../doubles.ts";

const ports = testDependencies();
const { reader } = ports;
const service = plan.services.find(({ name }) => name === "recommendation")!;
const present = (value: Scalar): FeatureValue => ({ value, status: "PRESENT", eventTimeMs: 1 });
const shown = service.features.indexOf("item_activity:shown_7d");

type Logged = Parameters<ScoreLogger["record"]>[0];

/** A model whose score is a thousandth of how often the item was shown. */
function model(name: string, scale = 1) {
  const runs: number[] = [];
  const score = async (vectors: readonly Float64Array[]) => {
    runs.push(vectors.length);
    return vectors.map((vector) => ({ probability: (scale * (vector[shown] || 0)) / 1000, raw: 0 }));
  };
  const encode = (values: readonly Scalar[]) =>
    Float64Array.from(values, (value) => (typeof value === "number" ? value : Number.NaN));
  const explain = () => ({ method: "path", base: 0, contributions: new Array(20).fill(0) });
  return { name, runs, encode, model: { score, explain, manifest: { features: [] } } };
}

async function ranker(arms: object = {}) {
  const logged: Logged[] = [];
  const served = { champion: null, challenger: null, shadow: null, share: null, fault: null, ...arms };
  const scoring: any = {
    serving: { served: () => served, state: () => ({ polledMs: 1, loaded: 0, refused: [] }) },
    logger: { record: (row: Logged) => logged.push(row) },
  };
  const app = createApp({ ...ports.dependencies, scoring } as ApiDependencies);
  const { key } = await createKey(ports.keys, { tenant: "team-a", scopes: ["score"], nowMs: 0 });
  const rank = async (more: object = {}): Promise<any> => {
    const body = { user_id: "u1", category: null, candidates: ["a", "b"], ...more };
    const headers = { "x-api-key": key, "content-type": "application/json" };
    const answer = await app.request("/v1/rank/recommendation", {
      method: "POST",
      headers,
      body: JSON.stringify(body),
    });
    expect(answer.status).toBe(200);
    return answer.json();
  };
  return { rank, logged };
}
const ids = ({ items }: any) => items.map(({ id }: any) => id);
const item = (id: string, values: Record<string, Scalar>) =>
  reader.values.set(
    `team-a/item/${id}`,
    Object.fromEntries(Object.entries(values).map(([name, value]) => [`item_activity:${name}`, present(value)])),
  );

beforeEach(() => {
  Object.assign(reader, { down: false, fault: null, degraded: null, control: "ok" });
  reader.requests.length = 0;
  reader.values.clear();
});

it("reads its user once and each candidate once, in one call, however often they are named", async () => {
  const { rank } = await ranker();
  const candidates = ["a", "b", "a", { item_id: "b", category: "fuel" }, "c"];
  expect(ids(await rank({ candidates }))).toEqual(["a", "b", "c"]);
  expect(reader.requests.map(({ entity, id }) => `${entity}/${id}`)).toEqual(["user/u1", "item/a", "item/b", "item/c"]);
});

it("takes of an id that comes twice what came first", async () => {
  reader.values.set("team-a/user/u1", { "user_clicks:last_category_7d": present("fuel") });
  const { rank } = await ranker();
  const twice = [{ item_id: "a", category: "fuel" }, "b", { item_id: "b", category: "fuel" }, "a"];
  const { items } = await rank({ candidates: twice });
  expect(items.map(({ id, score }: any) => [id, score > 0.1])).toEqual([
    ["a", true],
    ["b", false],
  ]);
});

it("keeps the order given among equals, at any number of them", async () => {
  const candidates = Array.from({ length: 500 }, (_, i) => `i${(i * 7919) % 500}`);
  candidates.forEach((id, i) => void item(id, { shown_7d: i % 5 }));
  const { rank } = await ranker({ champion: model("m@1") });
  const byHand = [4, 3, 2, 1, 0].flatMap((rest) => candidates.filter((_, i) => i % 5 === rest));
  expect(ids(await rank({ candidates, k: 500 }))).toEqual(byHand);
});

describe("who scores", () => {
  it("is one arm for all of a user's candidates, dealt by the user", async () => {
    const [champion, challenger] = [model("m@1"), model("m@2", -1)];
    const { rank, logged } = await ranker({ champion, challenger, share: 0.5 });
    const candidates = Array.from({ length: 50 }, (_, i) => `i${i}`);
    const variants = new Set<string>();
    for (let u = 0; u < 12; u++) {
      const { variant } = await rank({ user_id: `u${u}`, candidates });
      variants.add(variant);
      expect(variant).toBe(fractionOf(`recommendation/u${u}`, hash64) < 0.5 ? "challenger" : "champion");
      expect(new Set(logged[u].rows.map((row) => `${row.variant} ${row.assigned}`))).toEqual(
        new Set([`${variant} hash`]),
      );
    }
    expect([...variants].sort()).toEqual(["challenger", "champion"]);
    expect([...champion.runs, ...challenger.runs]).toEqual(new Array(12).fill(50));
  });

  it("is the rules for all of them when the model fails, and it says so", async () => {
    const broken = model("m@1");
    broken.model.score = async () => Promise.reject(new Error("no such tensor"));
    const { rank } = await ranker({ champion: broken });
    expect(await rank()).toMatchObject({
      variant: "fallback",
      model_version: "popular-v1",
      degraded: true,
      degraded_reason: "model_failed",
    });
  });
});

describe("a store that does not answer", () => {
  it("leaves a ranking by what the request says", async () => {
    reader.fault = new InfrastructureError("store_unavailable", "the online store does not answer");
    const { rank } = await ranker({ champion: model("m@1") });
    const answer = await rank();
    expect(answer).toMatchObject({ variant: "fallback", degraded: true, degraded_reason: "store_unavailable" });
    expect(ids(answer)).toEqual(["a", "b"]);
    expect(answer.items[0].features_missing).toEqual(expect.arrayContaining([...service.features]));
  });

  it("that may lag behind is told", async () => {
    reader.degraded = "failover";
    const { rank } = await ranker();
    expect(await rank()).toMatchObject({ degraded: true, degraded_reason: "failover" });
  });
});

describe("the log", () => {
  it("has what was answered, in its order, each under the event id that the answer gives", async () => {
    item("a", { shown_7d: 1 });
    item("b", { shown_7d: 9 });
    item("c", { shown_7d: 5 });
    const { rank, logged } = await ranker({ champion: model("m@1"), shadow: model("m@3") });
    const { items, request_id } = await rank({ candidates: ["a", "b", "c"], k: 2 });
    expect(items.map(({ id, score }: any) => [id, score])).toEqual([
      ["b", 0.009],
      ["c", 0.005],
    ]);
    const [{ requests, rows, requestId }] = logged;
    expect(requestId).toBe(request_id);
    expect(requests.map(({ keys, eventId }) => [keys["user_id"], keys["item_id"], eventId])).toEqual(
      items.map(({ id, event_id }: any) => ["u1", id, event_id]),
    );
    expect(rows.map(({ score, shadow }) => [score, shadow?.name])).toEqual([
      [0.009, "m@3"],
      [0.005, "m@3"],
    ]);
  });

  it("and the clicks that follow are an experiment's outcomes, by the event ids of the answers", async () => {
    const [champion, challenger] = [model("m@1"), model("m@2", 2)];
    for (const [i, id] of ["a", "b", "c"].entries()) item(id, { shown_7d: 10 * i });
    const { rank, logged } = await ranker({ champion, challenger, share: 0.5 });
    const answers = [];
    for (let u = 0; u < 20; u++) answers.push(await rank({ user_id: `u${u}`, candidates: ["a", "b", "c"], k: 2 }));
    const rows: InferenceRow[] = [];
    const log = { add: (row: InferenceRow) => void rows.push(row), flush: async () => {}, close: async () => {} };
    const logger = createScoreLogger({ log, plan, onFault: ({ error }) => Promise.reject(error) });
    for (const one of logged) logger.record(one);
    await logger.settle();
    expect(rows).toHaveLength(40);
    expect(rows[0]).toMatchObject({
      service: "recommendation",
      row: 0,
      eventId: answers[0].items[0].event_id,
      keys: { user_id: "u0", item_id: "c" },
      request: { category: null },
      assigned: "hash",
    });
    // Everybody clicks the first item that they are shown, and not the second.
    const clicked = new Map(
      answers.flatMap(({ items: [one, two] }) => [
        [one.event_id, true],
        [two.event_id, false],
      ]),
    );
    const inLog = (async function* () {
      yield* rows;
    })();
    const { outcomes, leftOut } = await outcomesOf(inLog, clicked, { review: 0.5, decline: 0.9 }, "user_id");
    expect(leftOut).toEqual({ asked_for: 0, not_dealt: 0, no_event_id: 0, scored_again: 0 });
    expect(outcomes).toHaveLength(40);
    expect(new Set(outcomes.map(({ arm }) => arm))).toEqual(new Set(["champion m@1", "challenger m@2"]));
    for (const { unit, arm, score, positive } of outcomes) {
      expect(unit).toMatch(/^key u\d+$/);
      expect(score).toBe(((arm.startsWith("challenger") ? 2 : 1) * (positive ? 20 : 10)) / 1000);
    }
  });

  it("gives each ranking event ids of its own, under the same request id too", async () => {
    const { rank } = await ranker();
    const [one, two] = [await rank(), await rank()];
    const all = [...one.items, ...two.items].map(({ event_id }: any) => event_id);
    expect(new Set(all).size).toBe(4);
  });
});

it("is logged without an event id where what was sent as one is no text", async () => {
  const { rank, logged } = await ranker();
  await rank();
  const [one] = logged;
  const sent = Object.fromEntries(plan.streams.map(({ eventId }) => [eventId, { toString: null, valueOf: null }]));
  const requests = one.requests.map(({ eventId, keys, ...rest }) => ({ ...rest, keys: { ...keys, ...sent } }));
  const rows: InferenceRow[] = [];
  const log: any = { add: (row: InferenceRow) => rows.push(row), flush: async () => {} };
  const faults: unknown[] = [];
  const logger = createScoreLogger({ log, plan, onFault: (fault) => faults.push(fault) });
  logger.record({ ...one, requests });
  await logger.settle();
  expect([rows.map(({ eventId }) => eventId), faults]).toEqual([[null, null], []]);
});

it("copies for each candidate what it needs of a body, however much else was sent", async () => {
  const { rank, logged } = await ranker();
  const rest = Object.fromEntries(Array.from({ length: 2_000 }, (_, i) => [`field_${i}`, i]));
  await rank({ ...rest, candidates: ["a", { item_id: "b", category: "shoes" }] });
  const [{ requests }] = logged;
  expect(requests.map(({ keys }) => keys)).toEqual([
    { user_id: "u1", category: null, item_id: "a" },
    { user_id: "u1", category: null, item_id: "b" },
  ]);
  expect(requests.map(({ request }) => request["category"])).toEqual([null, "shoes"]);
});

it("explains the first ten and no more", async () => {
  const { rank } = await ranker();
  const { items } = await rank({ candidates: Array.from({ length: 12 }, (_, i) => `i${i}`), k: 12, explain: true });
  expect(items.filter(({ explanation }: any) => explanation !== undefined)).toHaveLength(10);
  expect(items[9].explanation.method).toBe("rules");
});
