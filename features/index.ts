/** Everything that this app declares, in the order in which it is listed. */
import type { Definitions } from "../core/definition.ts";
import { cardActivity } from "./card.ts";
import { deviceActivity } from "./device.ts";
import { card, device, item, merchant, user } from "./entities.ts";
import { fraud } from "./fraud.ts";
import { itemActivity } from "./item.ts";
import { merchantActivity } from "./merchant.ts";
import { merchantRisk } from "./merchant-risk.ts";
import { recommendation } from "./recommendation.ts";
import { clicks, featureEvents, labels, transactions } from "./streams.ts";
import { userClicks, userSpend } from "./user.ts";

export const definitions: Definitions = {
  entities: [card, merchant, device, user, item],
  streams: [transactions, clicks, labels, featureEvents],
  views: [cardActivity, merchantActivity, deviceActivity, userClicks, userSpend, itemActivity],
  batchViews: [merchantRisk],
  services: [fraud, recommendation],
};
