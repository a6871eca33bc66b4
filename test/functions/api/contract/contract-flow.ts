/** The part of the contract that needs the whole path: events in, through the broker and the store, features and scores out. */
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import * as schemas from "../../../../functions/api/openapi/schemas.ts";
import { type ContractTarget, caller, conforming, transaction } from "./contract-calls.ts";

/** A value that never comes is a failure; how soon it comes is for the benchmarks. */
const VISIBLE_WITHIN_MS = 60_000;

export function describeFlow(target: ContractTarget): void {
  const call = caller(target);
  const send = async (events: Record<string, unknown>[], key?: string) => {
    const reply = await call("/v1/events/transactions", { body: events, key });
    expect([reply.status, reply.body.queued]).toEqual([202, events.length]);
  };
  const card = async (id: string, key?: string) => {
    const reply = await call(`/v1/features/card/${encodeURIComponent(id)}`, { key });
    expect(reply.status).toBe(200);
    return conforming(schemas.entityAnswer, reply).features;
  };
  /** Polls until the card's count of payments in the hour is the given one. */
  const seen = async (id: string, count: number, key?: string) => {
    const deadline = Date.now() + VISIBLE_WITHIN_MS;
    for (;;) {
      const features = await card(id, key);
      const { value } = features["card_activity:tx_count_1h"];
      if (value === count) return features;
      if (Date.now() > deadline || (value as number) > count) throw new Error(`card has ${value} events, not ${count}`);
      await sleep(50);
    }
  };
  const newCard = () => `card-${randomUUID()}`;

  describe("events become features", () => {
    it("counts, exact sums, newest value and event time of what was sent", async () => {
      const id = newCard();
      const at = Date.now();
      await send([
        transaction({ card_id: id, amount: 0.1, event_time: at - 3_000, country: "DE" }),
        transaction({ card_id: id, amount: 0.2, event_time: at - 1_000, country: "NO" }),
        transaction({ card_id: id, amount: 0.3, event_time: at - 2_000, country: "SE", status: "declined" }),
      ]);
      const features = await seen(id, 3);
      const value = (name: string) => features[`card_activity:${name}`].value;
      expect([value("amount_sum_1h"), value("amount_mean_24h"), value("amount_max_24h")]).toEqual([0.6, 0.2, 0.3]);
      expect([value("declines_1h"), value("merchants_24h"), value("countries_24h")]).toEqual([1, 3, 3]);
      expect(Object.entries(features).find(([name]) => name.startsWith("card_activity:last_country"))?.[1]).toEqual({
        value: "NO",
        status: "PRESENT",
        event_time_ms: at - 1_000,
      });
    });

    it("an event that is sent again, alone or in the same request, counts once", async () => {
      const id = newCard();
      const first = transaction({ card_id: id, amount: 5 });
      await send([first, first]);
      await seen(id, 1);
      await send([first]);
      // A later event of the same card shows that the repeated one has been through.
      await send([transaction({ card_id: id, amount: 7 })]);
      expect((await seen(id, 2))["card_activity:amount_sum_1h"].value).toBe(12);
    });

    it("an id with any characters is one id", async () => {
      const id = `é/ü {1}% "x" \u{1f4b3} ${randomUUID()}`;
      await send([transaction({ card_id: id })]);
      const body = { entities: { card_id: id }, features: ["card_activity:tx_count_1h"] };
      await expect
        .poll(
          async () => (await call("/v1/features/online", { body })).body.features["card_activity:tx_count_1h"].value,
          {
            timeout: VISIBLE_WITHIN_MS,
          },
        )
        .toBe(1);
    });
  });

  describe("features", () => {
    it("online answers the names asked for, in their order, with NOT_FOUND for who is not known", async () => {
      const id = newCard();
      await send([transaction({ card_id: id })]);
      await seen(id, 1);
      const features = ["merchant_activity:tx_count_1h", "card_activity:tx_count_1h", "card_activity:amount_sum_24h"];
      const entities = { card_id: id, merchant_id: `nobody-${randomUUID()}` };
      const reply = await call("/v1/features/online", { body: { entities, features } });
      const answer = conforming(schemas.onlineAnswer, reply);
      expect(Object.keys(answer.features)).toEqual(features);
      expect(answer.features[features[0]]).toEqual({ value: null, status: "NOT_FOUND", event_time_ms: null });
      expect(answer.features[features[1]]).toMatchObject({ value: 1, status: "PRESENT" });
      expect([answer.degraded, answer.degraded_reason]).toEqual([false, null]);
      expect(Math.abs(answer.as_of_ms - Date.now())).toBeLessThan(60_000);
    });

    it("a service answers all of its features, and the on-demand ones with its request fields", async () => {
      const id = newCard();
      await send([transaction({ card_id: id, amount: 20 })]);
      await seen(id, 1);
      const [service] = target.plan.services;
      const entities = { card_id: id, merchant_id: null };
      const bare = await call("/v1/features/online", { body: { entities, service: service.name } });
      expect(Object.keys(conforming(schemas.onlineAnswer, bare).features)).toEqual(service.features);
      const request = { amount: 100, country: "SE" };
      const reply = await call("/v1/features/online", { body: { entities, service: service.name, request } });
      const answer = conforming(schemas.onlineAnswer, reply);
      expect(Object.keys(answer.features)).toEqual([...service.features, ...service.onDemand]);
      expect(answer.features["amount_to_mean"]).toEqual({ value: 5, status: "PRESENT", event_time_ms: null });
    });

    it("batch keeps rows and columns apart: known, unknown and null entities, each in its place", async () => {
      const [one, two] = [newCard(), newCard()];
      await send([transaction({ card_id: one, amount: 1 }), transaction({ card_id: two, amount: 2 })]);
      await seen(one, 1);
      await seen(two, 1);
      const features = ["card_activity:amount_sum_1h", "card_activity:tx_count_1h"];
      const entities = [
        { card_id: one },
        { card_id: newCard() },
        { card_id: null },
        { card_id: two },
        { card_id: one },
      ];
      const reply = await call("/v1/features/batch", { body: { entities, features } });
      const answer = conforming(schemas.batchAnswer, reply);
      expect(answer.features).toEqual(features);
      expect(answer.rows.map(({ values }) => values)).toEqual([
        [1, 1],
        [null, null],
        [null, null],
        [2, 1],
        [1, 1],
      ]);
      expect(answer.rows.map(({ statuses }) => statuses[1])).toEqual([
        "PRESENT",
        "NOT_FOUND",
        "NOT_FOUND",
        "PRESENT",
        "PRESENT",
      ]);
    });

    it("a hundred rows are one request", async () => {
      const entities = Array.from({ length: 100 }, (_, i) => ({ card_id: `nobody-${i}`, merchant_id: "nobody" }));
      const reply = await call("/v1/features/batch", { body: { entities, service: "fraud" } });
      expect(conforming(schemas.batchAnswer, reply).rows).toHaveLength(100);
    });
  });

  describe("scores", () => {
    it("names what it used, what it missed, and why it decided", async () => {
      const id = newCard();
      await send(Array.from({ length: 5 }, () => transaction({ card_id: id, amount: 1 })));
      await seen(id, 5);
      const body = { card_id: id, merchant_id: newCard(), amount: 2, country: "SE", explain: true };
      const reply = await call("/v1/score/fraud", { body });
      expect(reply.status).toBe(200);
      const answer = conforming(schemas.scoreAnswer, reply);
      expect(answer).toMatchObject({ model_version: "rule-based-v1", variant: "fallback", degraded: false });
      const { base, contributions, features } = answer.explanation!;
      expect(contributions.map(({ name }) => name)).toContain("card_testing");
      const raised = contributions.reduce((sum, { contribution }) => sum + contribution, 0);
      expect(raised).toBeCloseTo(answer.score - base, 10);
      expect(features["card_activity:tx_count_5m"]).toBe(5);
      expect(answer.features_used).toContain("card_activity:tx_count_5m");
      expect(answer.features_missing).toContain("device_activity:cards_24h");
      const { features: stored, onDemand } = target.plan.services[0];
      expect([...answer.features_used, ...answer.features_missing].sort()).toEqual([...stored, ...onDemand].sort());
    });

    it("a card that nobody knows gets the base score, and no explanation unless asked", async () => {
      const body = { card_id: newCard(), merchant_id: newCard(), amount: 2, country: "SE" };
      const answer = conforming(schemas.scoreAnswer, await call("/v1/score/fraud", { body }));
      expect(answer.score).toBeCloseTo(0.01, 10);
      expect([answer.decision, answer.explanation, answer.degraded]).toEqual(["approve", undefined, false]);
    });

    it("takes a whole event as it is, and null for what the caller does not know", async () => {
      const reply = await call("/v1/score/fraud", { body: transaction({ amount: null, country: null }) });
      expect(reply.status).toBe(200);
      conforming(schemas.scoreAnswer, reply);
    });
  });

  describe("two tenants", () => {
    it("with the same ids see neither each other's events, nor features, nor scores", async () => {
      const { second } = target.keys();
      const id = newCard();
      const merchant = newCard();
      const shared = transaction({ card_id: id, merchant_id: merchant, amount: 1 });
      const more = Array.from({ length: 4 }, () => transaction({ card_id: id, merchant_id: merchant, amount: 1 }));
      await send([shared, ...more]);
      await seen(id, 5);
      const stranger = await card(id, second);
      expect(new Set(Object.values(stranger).map(({ status }) => status))).toEqual(new Set(["NOT_FOUND"]));

      // The same event id in the other tenant is another event.
      await send([{ ...shared, amount: 500 }], second);
      expect((await seen(id, 1, second))["card_activity:amount_sum_1h"].value).toBe(500);
      expect((await seen(id, 5))["card_activity:amount_sum_1h"].value).toBe(5);

      const body = { card_id: id, merchant_id: merchant, amount: 2, country: "SE", explain: true };
      const rulesOf = async (key?: string) => {
        const answer = conforming(schemas.scoreAnswer, await call("/v1/score/fraud", { body, key }));
        return answer.explanation!.contributions.map(({ name }) => name);
      };
      expect(await rulesOf()).toContain("card_testing");
      expect(await rulesOf(second)).not.toContain("card_testing");

      const online = { entities: { merchant_id: merchant }, features: ["merchant_activity:tx_count_1h"] };
      const counts = [];
      for (const key of [undefined, second]) {
        const reply = await call("/v1/features/online", { body: online, key });
        counts.push(conforming(schemas.onlineAnswer, reply).features["merchant_activity:tx_count_1h"].value);
      }
      expect(counts).toEqual([5, 1]);
    });
  });

  it("/ready says that the store is whole", async () => {
    const reply = await call("/ready", { key: null });
    expect([reply.status, reply.body.detail]).toEqual([200, undefined]);
    const { status, checks } = conforming(schemas.readyAnswer, reply);
    expect([status, checks.online_store.control]).toEqual(["ready", "ok"]);
  });
}
