import { eq, featureService, ratio, rules } from "../core/definition.ts";
import { item } from "./entities.ts";
import { itemActivity } from "./item.ts";
import { clicks } from "./streams.ts";
import { userClicks } from "./user.ts";

const request = { category: "string" } as const;
const number = (value: unknown): number => (typeof value === "number" ? value : 0);
/** A share that is not taken in by an item of one showing: it counts as if there had been twenty more, one of them clicked. */
const steady = (clicked: unknown, shown: unknown): number => (number(clicked) + 1) / (number(shown) + 20);

/** The chance that a user clicks an item that is shown to them. */
export const recommendation = featureService("recommendation", {
  features: [
    userClicks.only(
      "clicks_1h",
      "clicks_24h",
      "clicked_24h",
      "clicked_7d",
      "last_category_7d",
      "seconds_since_last_24h",
    ),
    itemActivity,
  ],
  // Of the item: callers know their range, so no view has to keep it.
  request,
  onDemand: {
    user_click_share: ({ f }) => ratio(f("user_clicks:clicked_24h"), f("user_clicks:clicks_24h")),
    item_click_share: ({ f }) => steady(f("item_activity:clicked_7d"), f("item_activity:shown_7d")),
    item_click_share_24h: ({ f }) => steady(f("item_activity:clicked_24h"), f("item_activity:shown_24h")),
    same_category: ({ request, f }) => {
      const before = f("user_clicks:last_category_7d");
      return before === null || request.category === null ? null : before === request.category;
    },
  },
  task: "binary",
  rank: { candidate: item },
  labels: { stream: clicks, outcome: { of: eq("action", "view"), namedBy: "impression_id" }, delay: "30m" },
  experiment: { key: "user_id", challenger: 0.1 },
  fallback: rules<typeof request>("popular-v1", {
    base: 0.05,
    // Nothing is declined here: a ranking only orders.
    review: 1,
    decline: 1,
    rules: [
      {
        name: "often_clicked",
        weight: 0.06,
        reason: "of those that saw it lately, more than one in ten clicked it",
        when: ({ f }) => steady(f("item_activity:clicked_7d"), f("item_activity:shown_7d")) > 0.1,
      },
      {
        name: "very_often_clicked",
        weight: 0.06,
        reason: "of those that saw it lately, more than one in five clicked it",
        when: ({ f }) => steady(f("item_activity:clicked_7d"), f("item_activity:shown_7d")) > 0.2,
      },
      {
        name: "bought",
        weight: 0.03,
        reason: "somebody bought it this week",
        when: ({ f }) => number(f("item_activity:purchases_7d")) > 0,
      },
      {
        name: "same_category",
        weight: 0.1,
        reason: "of the category that the user clicked last",
        when: ({ request, f }) => request.category !== null && f("user_clicks:last_category_7d") === request.category,
      },
    ],
  }),
});
