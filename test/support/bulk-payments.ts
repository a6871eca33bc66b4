/** Payments in order of their arrival, for tests of snapshots: of one card and shop, or of a dozen cards. */
import { hash64 } from "../../adapters/hash.ts";
import { compile, EMPTY_LOCK } from "../../core/compile/compile.ts";
import type { BulkPayment } from "./bulk-world.ts";
import { contracts, definitions } from "./fixture-plan.ts";

export const MINUTE = 60_000;
export const START = Date.UTC(2026, 0, 5, 22, 17);
export const compiled = compile(definitions, contracts, EMPTY_LOCK, hash64);

let events = 0;
export const pay = (minute: number, more: Partial<BulkPayment> = {}): BulkPayment => ({
  id: `e${events++}`,
  arrivalMs: START + minute * MINUTE,
  timeMs: START + minute * MINUTE - 5_000,
  ...{ card: "c1", shop: "s1", amount: 10, country: "NO" },
  ...more,
});

/** One of each of twelve cards. */
const cards = Array.from({ length: 12 }, (_, i) => `c${i}`);
export const each = (minute: number) => cards.map((card) => pay(minute, { card, shop: null }));
