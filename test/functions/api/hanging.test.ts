/**
 * Each part that a score asks, and all of them at once, keep silent for ever: the score is answered within its budget all the same. The clock is
 * the test's, so that what is measured is what is waited for and nothing of the machine.
 */
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { SnapshotSource } from "../../../adapters/online-store/online-store.ts";
import { createApp } from "../../../functions/api/app.ts";
import { createKey } from "../../../functions/api/keys/keys.ts";
import { definitions, registeredPlan as plan } from "../../support/registered-plan.ts";
import { memoryPushed, testDependencies } from "./doubles.ts";

const PARTS = ["keys", "tenants", "limits", "registered", "store", "snapshots"] as const;
type Part = (typeof PARTS)[number];
const BUDGET = { totalMs: 250, storeMs: 100 };
/** For the table of keys, by a key that the host has not met. */
const LOOKUP_MS = 1_500;
/** The end of a wait takes two turns of the loop, each a ms of the test's clock. */
const TURNS_MS = 10;
const LIMIT = { perSecond: 100, burst: 100, perDay: null };

beforeEach(() => void vi.useFakeTimers({ now: 1_700_000_000_000 }));
afterEach(() => void vi.useRealTimers());

async function world() {
  const silent = new Set<Part>();
  /** An answer that never comes where the part is silent. */
  const of = async <T>(part: Part, answer: () => T | Promise<T>): Promise<T> =>
    silent.has(part) ? new Promise<never>(() => {}) : answer();
  const { dependencies, keys, reader } = testDependencies();
  const pushed = memoryPushed();
  const { load } = pushed.registry;
  pushed.registry.load = (...args) => of("registered", () => load(...args));
  const snapshots: SnapshotSource = {
    keeps: () => true,
    warm: async () => {},
    read: (requests) => of("snapshots", () => requests.map(() => ({ lost: "not_covered" }) as const)),
  };
  const bucket = { fullAtUs: 0, day: 0, usedToday: 0 };
  const app = createApp({
    ...dependencies,
    ...{ plan, services: definitions.services, ingest: null, pushed },
    keys: { ...keys, get: (id) => of("keys", () => keys.get(id)) },
    reader: { ...reader, read: (...args) => of("store", () => reader.read(...args)) },
    fallback: { snapshots, budget: BUDGET },
    limits: {
      defaults: { score: LIMIT },
      tenants: { get: () => of("tenants", () => null) },
      store: { charge: () => of("limits", () => ({ admitted: true, bucket, nowUs: Date.now() * 1_000 })) },
    },
  });
  const keyOf = async (tenant: string) => (await createKey(keys, { tenant, scopes: ["score"], nowMs: 0 })).key;
  const score = async (key: string): Promise<Response> =>
    app.request("/v1/score/trust", {
      method: "POST",
      headers: { "x-api-key": key, "content-type": "application/json" },
      body: JSON.stringify({ shop: "s1", owner_id: "o1" }),
    });
  return { silent, keyOf, score };
}

/** @returns the answer, and how long it took at most, by the test's clock */
async function answered(asked: Promise<Response>, withinMs: number) {
  let answer: Response | null = null;
  void asked.then((found) => {
    answer = found;
  });
  const sinceMs = Date.now();
  while (answer === null && Date.now() - sinceMs < withinMs) await vi.advanceTimersByTimeAsync(10);
  expect(answer, `no answer within ${withinMs} ms`).not.toBeNull();
  const found = answer as unknown as Response;
  const body: any = await found.json();
  return { status: found.status, body, tookMs: Date.now() - sinceMs };
}

describe("a score of a caller that the host knows", () => {
  it.each([...PARTS.map((part) => [[part]]), [[...PARTS]]])("is answered in time while %j is silent", async (parts) => {
    const { silent, keyOf, score } = await world();
    const key = await keyOf("team-a");
    expect(await answered(score(key), 20)).toMatchObject({ status: 200, body: { degraded: false } });
    // Everything that the host keeps has grown old by then.
    await vi.advanceTimersByTimeAsync(31_000);
    for (const part of parts) silent.add(part);
    const first = await answered(score(key), BUDGET.totalMs);
    expect(first.status).toBe(200);
    expect(first.body.degraded_reason).toBe(silent.has("store") ? "store_unavailable" : null);
    // Whatever has hung beside the store is not waited for again.
    const second = await answered(score(key), BUDGET.totalMs);
    expect(second.status).toBe(200);
    if (!silent.has("store")) expect(second.tookMs).toBeLessThanOrEqual(10);
  });
});

describe("a score of a caller that the host meets for the first time", () => {
  it("is answered in time while everything hangs but the table of keys", async () => {
    const { silent, keyOf, score } = await world();
    for (const part of PARTS) if (part !== "keys") silent.add(part);
    const { status, body } = await answered(score(await keyOf("team-b")), BUDGET.totalMs);
    expect([status, body.degraded_reason]).toEqual([200, "store_unavailable"]);
  });

  it("is told that its key cannot be looked up, and does not hang", async () => {
    const { silent, keyOf, score } = await world();
    silent.add("keys");
    const { status, body } = await answered(score(await keyOf("team-c")), LOOKUP_MS + TURNS_MS);
    expect([status, body.code]).toEqual([503, "keys_unavailable"]);
  });
});
