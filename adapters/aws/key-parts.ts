/**
 * Composite DynamoDB keys: `("default", "card", "c1")` → `7:default4:card2:c1`. Parts may hold any character, so they are
 * length-prefixed (UTF-8 bytes) instead of separated: no choice of tenant, entity or id makes one key equal another's.
 * Tenants, ids and names are bounded where events are checked, so four of them stay under DynamoDB's 2,048 bytes.
 */
export const joinKeyParts = (...parts: readonly string[]): string =>
  parts.map((part) => `${Buffer.byteLength(part, "utf8")}:${part}`).join("");
