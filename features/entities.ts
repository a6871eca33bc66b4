import { entity } from "../core/definition.ts";

export const card = entity("card", { joinKey: "card_id", description: "A payment card." });
export const merchant = entity("merchant", { joinKey: "merchant_id", description: "A shop that takes payments." });
export const device = entity("device", { joinKey: "device_id", description: "A phone or browser that pays." });
export const user = entity("user", { joinKey: "user_id", description: "A customer, who may hold several cards." });
export const item = entity("item", { joinKey: "item_id", description: "Something that the shop shows and sells." });
