/** The events behind the golden entity of `test/fixtures/golden/valkey`: every field that an entity's hash can have. */
import type { RawEvent } from "./one-entity.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
export const GOLDEN_TENANT = "golden";
const GOLDEN_START = Date.UTC(2026, 0, 5);
const at = (hours: number, minutes = 0) => GOLDEN_START + hours * HOUR + minutes * MINUTE;
const event = (id: string, timeMs: number, n: number): RawEvent => ({
  id,
  timeMs,
  fields: {
    amount: n % 13 === 0 ? null : n - 30.25,
    country: n % 5 === 0 ? null : ["NO", "Ås", "𝄞"][n % 3],
    shop: n % 7 === 0 ? null : `s${n}`,
    online: n % 3 === 0 ? null : n % 2 === 0,
  },
});

export const GOLDEN_STEPS: readonly { events: readonly RawEvent[]; sealMs: number }[] = [
  // A day that is absorbed, with more distinct shops than the sparse form holds.
  { events: Array.from({ length: 90 }, (_, n) => event(`day-${n}`, at(n % 24, n), n)), sealMs: at(30) },
  // Hours that are folded, and minutes that are open, one of them busy enough for its identities to be split.
  { events: Array.from({ length: 20 }, (_, n) => event(`hour-${n}`, at(30 + (n % 4), n), n)), sealMs: at(34, 30) },
  { events: Array.from({ length: 345 }, (_, n) => event(`busy-${n}`, at(34, 40), n)), sealMs: at(34, 35) },
  { events: [event("open", at(34, 41), 1), event("newest", at(34, 43) + 1_234, 2)], sealMs: at(34, 36) },
];
