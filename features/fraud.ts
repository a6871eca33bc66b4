import { featureService, ratio, rules } from "../core/definition.ts";
import { cardActivity } from "./card.ts";
import { deviceActivity } from "./device.ts";
import { merchantActivity } from "./merchant.ts";
import { labels } from "./streams.ts";
import { userSpend } from "./user.ts";

const request = { amount: "double", country: "string" } as const;
const number = (value: unknown): number => (typeof value === "number" ? value : 0);

export const fraud = featureService("fraud", {
  features: [cardActivity, merchantActivity, deviceActivity.only("cards_24h"), userSpend.only("tx_count_24h")],
  request,
  aliases: { transaction_amount: "amount" },
  onDemand: {
    amount_to_mean: ({ request, f }) => ratio(request.amount, f("card_activity:amount_mean_7d")),
    country_changed: ({ request, f }) => {
      const before = f("card_activity:last_country");
      return before === null || request.country === null ? null : before !== request.country;
    },
  },
  task: "binary",
  labels: { stream: labels, delay: "7d" },
  // Of a model, whose scores are calibrated probabilities; the rules have limits of their own.
  decision: { review: 0.1, decline: 0.4 },
  // Takes effect when a challenger is named: freshet models promote 8 --alias challenger.
  experiment: { key: "card_id", challenger: 0.1 },
  fallback: rules<typeof request>("rule-based-v1", {
    base: 0.01,
    review: 0.5,
    decline: 0.85,
    rules: [
      {
        name: "card_testing",
        weight: 0.7,
        reason: "many small payments within five minutes",
        when: ({ request, f }) => number(f("card_activity:tx_count_5m")) >= 5 && number(request.amount) < 10,
      },
      {
        name: "velocity",
        weight: 0.5,
        reason: "more than ten payments within an hour",
        when: ({ f }) => number(f("card_activity:tx_count_1h")) > 10,
      },
      {
        name: "declined_often",
        weight: 0.6,
        reason: "three or more declined payments within an hour",
        when: ({ f }) => number(f("card_activity:declines_1h")) >= 3,
      },
      {
        name: "unusual_amount",
        weight: 0.45,
        reason: "five times the card's usual amount",
        when: ({ request, f }) => number(ratio(request.amount, f("card_activity:amount_mean_7d"))) >= 5,
      },
      {
        name: "large_amount_unknown_card",
        weight: 0.3,
        reason: "a large first payment",
        when: ({ request, f }) => f("card_activity:tx_count_7d") === null && number(request.amount) > 1000,
      },
      {
        name: "country_changed",
        weight: 0.35,
        reason: "another country than the payment before, within the day",
        when: ({ request, f }) =>
          request.country !== null &&
          f("card_activity:last_country") !== null &&
          f("card_activity:last_country") !== request.country &&
          number(f("card_activity:tx_count_24h")) > 0,
      },
      {
        name: "device_shared",
        weight: 0.55,
        reason: "one device pays with five or more cards within a day",
        when: ({ f }) => number(f("device_activity:cards_24h")) >= 5,
      },
      {
        name: "merchant_declines",
        weight: 0.25,
        reason: "a third of the merchant's payments were declined within the hour",
        when: ({ f }) =>
          number(f("merchant_activity:tx_count_1h")) >= 20 &&
          number(f("merchant_activity:declines_1h")) * 3 >= number(f("merchant_activity:tx_count_1h")),
      },
    ],
  }),
});
