/**
 * How likely each payment is to be fraud, given all that could be known when it was made; and whether it was.
 *
 * Behaviour alone decides nothing: thieves may look honest, and honest people buy in bursts, abroad and by a new phone. So
 * the probability is a formula over what can be observed before the payment's outcome, and the truth is drawn by it. No
 * score can rank better than this probability does, which makes the best possible AUC a number that can be measured.
 */
import type { Payment } from "./payment.ts";
import { Random } from "./random.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
/**
 * One draw decides for a card over this time: of a theft that grows, all payments beyond some suspicion are fraud, not
 * every second one. The draw is independent of what happens, so each probability holds by itself.
 */
const THEFT_MS = 6 * HOUR_MS;
const AMOUNT_MEMORY = 20;

/** Logarithms of odds: of a payment with nothing unusual, and what each sign adds. */
const ODDS = {
  nothing: -7.9,
  /** For each payment of the hour before, up to 12. */
  payment: 0.4,
  /** For each declined one of them, up to 4. */
  decline: 1.1,
  /** For each factor e over the card's usual amount, up to 2.5. */
  amount: 0.9,
  /** Away from home, and another country than the time before. */
  abroad: 0.7,
  countryChanged: 0.9,
  /** A device that the card has used for less than a day, having had another before. */
  newDevice: 3.1,
  /** For each other card on the same device within the day, up to 6. */
  sharedDevice: 0.9,
  /** A tiny amount after other payments of the last minutes. */
  tiny: 1.8,
  online: 0.3,
} as const;

interface CardHistory {
  /** Of the last hour, ascending. */
  readonly times: number[];
  readonly declines: number[];
  usualAmount: number;
  payments: number;
  lastCountry: string;
  /** When each was first used. */
  readonly devices: Map<string, number>;
  /** Uniform in [0, 1): payments with a greater probability are fraud, until `drawEndMs`. */
  draw: number;
  drawEndMs: number;
}

/** Keeps what a card and a device have done. Payments have to come in order of time. */
export class Risk {
  private readonly cards = new Map<string, CardHistory>();
  /** Last use of each card, by device. */
  private readonly devices = new Map<string, Map<string, number>>();
  private readonly random: Random;

  constructor(seed: number) {
    this.random = new Random(seed, 5);
  }

  /** @returns the probability that the payment is fraud, and whether it is; remembers the payment */
  judge(payment: Payment): { probability: number; fraud: boolean } {
    const card = this.cardOf(payment);
    const others = this.otherCards(payment);
    const probability = 1 / (1 + Math.exp(-logOdds(payment, card, others)));
    if (payment.timeMs >= card.drawEndMs) {
      card.draw = this.random.next();
      card.drawEndMs = payment.timeMs + THEFT_MS;
    }
    remember(payment, card);
    return { probability, fraud: card.draw < probability };
  }

  private cardOf({ card, timeMs }: Payment): CardHistory {
    let known = this.cards.get(card);
    if (known === undefined) {
      known = {
        times: [],
        declines: [],
        usualAmount: 0,
        payments: 0,
        lastCountry: "",
        devices: new Map(),
        draw: 0,
        drawEndMs: Number.NEGATIVE_INFINITY,
      };
      this.cards.set(card, known);
    }
    forget(known.times, timeMs - HOUR_MS);
    forget(known.declines, timeMs - HOUR_MS);
    return known;
  }

  /** How many other cards the device has paid with within a day. */
  private otherCards({ device, card, timeMs }: Payment): number {
    if (device === null) return 0;
    let uses = this.devices.get(device);
    if (uses === undefined) this.devices.set(device, (uses = new Map()));
    uses.set(card, timeMs);
    if (uses.size === 1) return 0;
    for (const [other, lastMs] of uses) if (lastMs < timeMs - DAY_MS) uses.delete(other);
    return uses.size - 1;
  }
}

function logOdds(payment: Payment, card: CardHistory, others: number): number {
  const { amount, country, customer, device, merchant, timeMs } = payment;
  let sum: number = ODDS.nothing;
  sum += ODDS.payment * Math.min(12, card.times.length);
  sum += ODDS.decline * Math.min(4, card.declines.length);
  if (card.usualAmount > 0) sum += ODDS.amount * Math.min(2.5, Math.max(0, Math.log(amount / card.usualAmount)));
  if (country !== customer.country) sum += ODDS.abroad;
  if (card.lastCountry !== "" && card.lastCountry !== country) sum += ODDS.countryChanged;
  if (device !== null && isNew(device, timeMs, card)) sum += ODDS.newDevice;
  sum += ODDS.sharedDevice * Math.min(6, others);
  const newest = card.times.at(-1);
  if (amount < 4 && newest !== undefined && newest > timeMs - 10 * MINUTE_MS) sum += ODDS.tiny;
  if (merchant.online) sum += ODDS.online;
  return sum;
}

function isNew(device: string, timeMs: number, { devices }: CardHistory): boolean {
  const [first] = devices.keys();
  if (first === undefined || first === device) return false;
  return (devices.get(device) ?? timeMs) > timeMs - DAY_MS;
}

function remember({ timeMs, amount, country, device, declined }: Payment, card: CardHistory): void {
  card.times.push(timeMs);
  if (declined) card.declines.push(timeMs);
  card.payments++;
  // A mean that forgets: of about the last twenty payments.
  card.usualAmount += (amount - card.usualAmount) / Math.min(AMOUNT_MEMORY, card.payments);
  card.lastCountry = country;
  if (device !== null && !card.devices.has(device)) card.devices.set(device, timeMs);
}

function forget(times: number[], beforeMs: number): void {
  let gone = 0;
  while (gone < times.length && times[gone] <= beforeMs) gone++;
  if (gone > 0) times.splice(0, gone);
}
