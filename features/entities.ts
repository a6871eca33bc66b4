import { entity } from "../core/definition.ts";

// What scoring a payment needs is kept beside the online store, so that models go on without it.
const fallback = true;
export const card = entity("card", { joinKey: "card_id", fallback, description: "A payment card." });
export const merchant = entity("merchant", {
  joinKey: "merchant_id",
  fallback,
  description: "A shop that takes payments.",
});
export const device = entity("device", {
  joinKey: "device_id",
  fallback,
  description: "A phone or browser that pays.",
});
export const user = entity("user", {
  joinKey: "user_id",
  fallback,
  description: "A customer, who may hold several cards.",
});
export const item = entity("item", { joinKey: "item_id", description: "Something that the shop shows and sells." });
