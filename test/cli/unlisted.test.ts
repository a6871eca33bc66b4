import { expect, it } from "vitest";
import { featureFiles, unlisted } from "../../cli/unlisted.ts";
import { count, entity, featureView } from "../../core/definition.ts";
import { cardActivity } from "../../features/card.ts";
import { card } from "../../features/entities.ts";
import { definitions } from "../../features/index.ts";
import { merchantRisk } from "../../features/merchant-risk.ts";
import { transactions } from "../../features/streams.ts";

it("what features/ exports and its index leaves out is told, with the list that it belongs to", () => {
  const features = { tx_count: count().over("1h") };
  const spare = featureView("spare", { entity: card, source: transactions, ttl: "1d", owner: "o", features });
  const shop = entity("shop", { joinKey: "shop_id" });
  const query = { ...merchantRisk, name: "query" };
  const files = { "features/spare.ts": { spare, shop, query, cardActivity, merchantRisk, LIMIT: 5, none: null } };
  expect(unlisted(files, definitions)).toEqual([
    "features/spare.ts exports spare, which features/index.ts does not list: add it to views",
    "features/spare.ts exports shop, which features/index.ts does not list: add it to entities",
    "features/spare.ts exports query, which features/index.ts does not list: add it to batchViews",
  ]);
});

it("this app lists all that it declares", async () => {
  const files = await featureFiles();
  expect(Object.keys(files["features/card.ts"])).toContain("cardActivity");
  expect(unlisted(files, definitions)).toEqual([]);
});
