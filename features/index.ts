/** Everything that this app declares, in the order in which it is listed. */
import type { Definitions } from "../core/definition.ts";
import { cardActivity } from "./card.ts";
import { deviceActivity } from "./device.ts";
import { card, device, merchant, user } from "./entities.ts";
import { fraud } from "./fraud.ts";
import { merchantActivity } from "./merchant.ts";
import { merchantRisk } from "./merchant-risk.ts";
import { clicks, featureEvents, labels, transactions } from "./streams.ts";
import { userClicks, userSpend } from "./user.ts";

export const definitions: Definitions = {
  entities: [card, merchant, device, user],
  streams: [transactions, clicks, labels, featureEvents],
  views: [cardActivity, merchantActivity, deviceActivity, userClicks, userSpend],
  batchViews: [merchantRisk],
  services: [fraud],
};
