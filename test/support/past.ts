/** Pasts of one entity for properties: events late, repeated, out of order, at equal times, after long silence, with values that hurt. */
import fc from "fast-check";
import { hash64 } from "../../adapters/hash.ts";
import { identityText } from "../../core/event.ts";

export const PAST_START = Date.UTC(2026, 0, 5, 22, 17);
const MINUTE = 60_000;
const DAY = 86_400_000;

export interface PastEvent {
  readonly eventId: string;
  readonly identity: string;
  readonly timeMs: number;
  readonly visibleMs: number;
  readonly fields: Readonly<Record<string, string | number | boolean | null>>;
}

/** Of a whole. Not `fc.double`, which draws nearly all of its values close to 0. */
const share = fc.nat(1_000_000).map((n) => n / 1_000_000);
const amount = fc.oneof(
  fc.constantFrom(null, 0, -0, 0.005, 1.005, -12.34, 100, 87960930222.07, -87960930222.07, 5e-324),
  fc.double({ min: -1e6, max: 1e6, noNaN: true }),
);
/** At once, within the lateness, late by an outage, late by days, or at most a minute before its own time. */
const delayMs = fc.oneof(
  fc.constantFrom(0, 0, 1, -MINUTE, 59_999),
  fc.integer({ min: -MINUTE, max: 15 * MINUTE }),
  fc.integer({ min: 0, max: 12 * 3_600_000 }),
  fc.integer({ min: 0, max: 9 * DAY }),
);
const raw = fc.record({
  id: fc.nat(40),
  /** Share of the run's span; often one of few, so that times are equal. */
  at: fc.oneof(
    fc.nat(12).map((n) => n / 12),
    share,
  ),
  delayMs,
  amount,
  country: fc.constantFrom("NO", "SE", "Ås", "𝄞", "", null),
  shop: fc.oneof(
    fc.constant(null),
    fc.nat(200).map((n) => `s${n}`),
  ),
  online: fc.constantFrom(true, false, null),
});

/** Runs play within minutes, hours, days or months: each has its own boundaries to fall on. */
const span = fc.constantFrom(40 * MINUTE, 7 * 3_600_000, 9 * DAY, 60 * DAY);

/** Each identity once, the first visible delivery: what an archive's readers agree on. */
export const past: fc.Arbitrary<PastEvent[]> = fc
  .tuple(
    span,
    fc.oneof(
      { weight: 4, arbitrary: fc.array(raw, { maxLength: 40 }) },
      fc.array(raw, { minLength: 60, maxLength: 120 }),
    ),
  )
  .map(([spanMs, raws]) => {
    const once = new Map<string, PastEvent>();
    for (const { id, at, delayMs, ...fields } of raws) {
      const timeMs = PAST_START + Math.round(at * spanMs);
      const eventId = `e${id}`;
      const identity = hash64(identityText("default", "payments", timeMs, eventId));
      const visibleMs = timeMs + delayMs;
      const known = once.get(identity);
      if (known !== undefined && known.visibleMs <= visibleMs) continue;
      const all = { tenant: "default", id: eventId, at: timeMs, card: "c", ...fields };
      once.set(identity, { eventId, identity, timeMs, visibleMs, fields: all });
    }
    return [...once.values()];
  });

/** Ascending, from before the first event to long after the last. */
export const instants: fc.Arbitrary<number[]> = fc
  .array(
    fc.oneof(
      fc.tuple(span, share).map(([ms, part]) => PAST_START + Math.round(ms * part)),
      fc.tuple(fc.nat(12), span).map(([n, ms]) => PAST_START + Math.round((n / 12) * ms)),
      fc.integer({ min: -DAY, max: 120 * DAY }).map((ms) => PAST_START + ms),
    ),
    { minLength: 1, maxLength: 8 },
  )
  .map((list) => list.sort((a, b) => a - b));
