/** Rankings over the whole path: what is shown and clicked decides the order. */
import { randomUUID } from "node:crypto";
import { describe, expect, it } from "vitest";
import * as schemas from "../../../../functions/api/openapi/schemas.ts";
import { rankAnswer } from "../../../../functions/api/scoring/rank-schemas.ts";
import { type ContractTarget, caller, conforming } from "./contract-calls.ts";

const VISIBLE_WITHIN_MS = 60_000;

export function describeRank(target: ContractTarget): void {
  const call = caller(target);
  const click = (item: string, user: string, action: string, category: string | null = null) => ({
    click_id: randomUUID(),
    event_time: Date.now(),
    user_id: user,
    item_id: item,
    action,
    category,
  });
  const rank = async (body: object, key?: string) => {
    const reply = await call("/v1/rank/recommendation", { body, key });
    expect([reply.status, reply.body.detail]).toEqual([200, undefined]);
    return conforming(rankAnswer, reply);
  };

  describe("rankings", () => {
    it("put what is clicked often, and fits the user, first; what nobody knows keeps its place behind", async () => {
      const { second } = target.keys();
      const user = `user-${randomUUID()}`;
      const [loved, fitting, ...unknown] = Array.from({ length: 6 }, (_, i) => `item-${i}-${randomUUID()}`);
      const others = Array.from({ length: 8 }, () => `user-${randomUUID()}`);
      const events = [
        ...others.map((other) => click(loved, other, "view")),
        ...others.map((other) => click(loved, other, "click")),
        click(loved, others[0], "purchase"),
        click("item-seen-before", user, "click", "travel"),
      ];
      const sent = await call("/v1/events/clicks", { body: events });
      expect([sent.status, sent.body.queued]).toEqual([202, events.length]);
      const read = async (entities: object, name: string) => {
        const reply = await call("/v1/features/online", { body: { entities, features: [name] } });
        return conforming(schemas.onlineAnswer, reply).features[name].value;
      };
      const patience = { timeout: VISIBLE_WITHIN_MS };
      await expect.poll(() => read({ item_id: loved }, "item_activity:purchases_7d"), patience).toBe(1);
      // They lie in several shards, each of which comes when it comes.
      await expect.poll(() => read({ item_id: loved }, "item_activity:clicked_7d"), patience).toBe(others.length);
      await expect.poll(() => read({ item_id: loved }, "item_activity:shown_7d"), patience).toBe(others.length);
      await expect.poll(() => read({ user_id: user }, "user_clicks:last_category_7d"), patience).toBe("travel");

      const candidates = [
        unknown[0],
        { item_id: fitting, category: "travel" },
        unknown[1],
        { item_id: loved, category: "fuel" },
        ...unknown.slice(2),
        unknown[0],
      ];
      const body = { user_id: user, category: null, candidates, explain: true };
      const answer = await rank(body);
      expect(answer.items.map(({ id }) => id)).toEqual([loved, fitting, ...unknown]);
      expect(answer).toMatchObject({
        candidates: 6,
        variant: "fallback",
        model_version: "popular-v1",
        degraded: false,
      });
      expect(answer.items[0].explanation?.reasons.map(({ name }) => name).sort()).toEqual([
        "bought",
        "often_clicked",
        "very_often_clicked",
      ]);
      expect(answer.items[1].explanation?.reasons.map(({ name }) => name)).toEqual(["same_category"]);
      // Nothing is known of the item, much of the user.
      expect(answer.items[1].features_missing).toContain("item_activity:shown_7d");
      expect(answer.items[1].features_missing).not.toContain("user_clicks:last_category_7d");
      expect(new Set(answer.items.map(({ event_id }) => event_id)).size).toBe(6);

      // Another tenant has seen none of it, and each of its candidates keeps its place.
      const stranger = await rank(body, second);
      expect(stranger.items.map(({ id }) => id)).toEqual([unknown[0], fitting, unknown[1], loved, ...unknown.slice(2)]);
    });

    it("answer the best k, all where there are fewer, and nothing for nothing", async () => {
      const candidates = Array.from({ length: 500 }, (_, i) => `nobody-${i}`);
      const body = { user_id: null, category: null, candidates };
      const ids = async (more: object) => (await rank({ ...body, ...more })).items.map(({ id }) => id);
      expect(await ids({})).toEqual(candidates.slice(0, 10));
      expect(await ids({ k: 500 })).toEqual(candidates);
      expect(await ids({ k: 500, candidates: ["a", "b"] })).toEqual(["a", "b"]);
      const empty = await rank({ ...body, candidates: [] });
      expect(empty).toMatchObject({ items: [], candidates: 0, model_version: null, variant: null, degraded: false });
    });
  });
}
