/** Events that benchmarks send: the same for the same seed. */
import { EventCodec, type EventFields } from "../adapters/avro/event-codec.ts";

/** Uniform in [0, 1); mulberry32, small and good enough to spread keys. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export const POPULATION = { cards: 20_000, merchants: 3_000, devices: 20_000, users: 15_000 } as const;

/** A payment. Merchants are skewed as in life: a tenth of them takes almost half of the payments. */
export function transaction(random: () => number, id: string, eventTimeMs: number): EventFields {
  const pick = (kind: string, count: number, skew = 1): string => `${kind}_${Math.floor(random() ** skew * count)}`;
  return {
    tenant: "default",
    transaction_id: id,
    event_time: eventTimeMs,
    card_id: pick("card", POPULATION.cards),
    user_id: pick("user", POPULATION.users),
    merchant_id: pick("merchant", POPULATION.merchants, 3),
    amount: Math.round(random() * 20_000) / 100,
    currency: "EUR",
    country: random() < 0.9 ? "SE" : "DE",
    merchant_category: "grocery",
    status: random() < 0.95 ? "approved" : "declined",
    device_id: pick("device", POPULATION.devices),
    channel: "online",
  };
}

/** Avro, as producers write it. Event times rise evenly over the `spanMs` before `untilMs`. */
export function encodedTransactions(seed: number, count: number, untilMs: number, spanMs: number): Buffer[] {
  const random = seededRandom(seed);
  const codec = EventCodec.for("transactions.v1");
  return Array.from({ length: count }, (_, i) =>
    codec.encode(transaction(random, `tx-${seed}-${i}`, Math.floor(untilMs - spanMs + (i / count) * spanMs))),
  );
}
