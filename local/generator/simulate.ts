/** Simulated time: payments, some of them fraud, clicks, and labels that arrive late. Deterministic by seed. */
import type { EventFields } from "../../adapters/avro/event-codec.ts";
import { episode, type Pattern } from "./fraud.ts";
import { type Payment, price } from "./payment.ts";
import { CURRENCY, liveliness, type Merchant, makePopulation, type Population, rhythmAt } from "./population.ts";
import { Random } from "./random.ts";
import { Risk } from "./risk.ts";
import { Shop, type ShopEvent } from "./shop.ts";
import { TimeQueue } from "./time-queue.ts";

export type StreamName = "transactions" | "clicks" | "labels";

export interface SimulatedEvent {
  readonly stream: StreamName;
  readonly timeMs: number;
  readonly id: string;
  /** What the broker's shard is chosen by. */
  readonly partitionKey: string;
  /** By the stream's contract, tenant included. */
  readonly fields: Readonly<EventFields>;
  /** What the fraud looks like, null for an honest event; of a label, that of its transaction. */
  readonly fraud: Pattern | "unseen" | null;
  /** Of a transaction: the chance that it is fraud by all that could be known before its outcome; else null. */
  readonly probability: number | null;
  /** Of a transaction: what its payment is part of, fraud or not; else null. */
  readonly behaviour: Pattern | null;
  /** Of an item that is shown: the chance that it is clicked, and whether it is; else null. */
  readonly showing: ShopEvent["showing"];
}

export interface SimulationOptions {
  readonly seed: number;
  readonly fromMs: number;
  readonly toMs: number;
  /** Payments a second, on average. @default 10 */
  readonly transactionsPerSecond?: number;
  /** @default half of the payments */
  readonly clicksPerSecond?: number;
  /** Share of payments that begin an episode that looks like fraud. @default 0.0015 */
  readonly fraudRate?: number;
  /** @default 2000 */
  readonly customers?: number;
  /** @default 300 */
  readonly merchants?: number;
  /** @default "default" */
  readonly tenant?: string;
  /**
   * Nights and weekdays differ in how much happens, not only in who acts.
   * @default true for a day or more, false for less: who asks for 500 events a second at night means 500
   */
  readonly rhythm?: boolean;
  /** @default all */
  readonly streams?: readonly StreamName[];
}

const DAY_MS = 86_400_000;
const REMEMBERED = 12;
/** As features/fraud.ts declares: by then outcomes are known, but for some late chargebacks. */
const SETTLED_DAYS = 7;
/** Median of a log-normal delay; one in twenty-five comes after a week. */
const CHARGEBACK_DAYS = 2.5;
const LAST_CHARGEBACK_DAYS = 30;
/** Share of fraud that neither an analyst nor the customer reports. */
const NEVER_REPORTED = 0.07;

/**
 * What is simulated before the first event that is given out, so that sessions and episodes are under way in a short run as
 * in a long one; bounded in events, because it costs time before anything is sent.
 */
const WARM_UP_MS = 7_200_000;
const WARM_UP_EVENTS = 50_000;

/**
 * Events of all streams in order of event time. Labels are given for transactions of the interval only: one of a
 * transaction that nobody has seen would be of no use.
 */
export function* simulate(options: SimulationOptions): Generator<SimulatedEvent> {
  const { seed, fromMs, toMs, transactionsPerSecond = 10, tenant = "default", fraudRate = 0.0015 } = options;
  const wanted = new Set(options.streams ?? ["transactions", "clicks", "labels"]);
  const clicksPerSecond = wanted.has("clicks") ? (options.clicksPerSecond ?? transactionsPerSecond / 2) : 0;
  const population = makePopulation(seed, options.customers ?? 2000, options.merchants ?? 300);
  const random = new Random(seed, 2);
  // Ids come from the start time too: the same id at another time would be another event under a known name.
  const ids = new Random(fromMs, seed);
  const recent = new RecentPayments();
  const risk = new Risk(seed);
  const shop = new Shop(population, seed);
  const { rhythm = toMs - fromMs >= DAY_MS } = options;
  const pace = (timeMs: number): number => (rhythm ? rhythmAt(timeMs) : 1);
  const queue = new TimeQueue<() => Iterable<SimulatedEvent>>();
  const later = (timeMs: number, make: () => Iterable<SimulatedEvent>) => {
    if (timeMs < toMs) queue.add(timeMs, make);
  };

  function* pay(payment: Payment): Generator<SimulatedEvent> {
    const id = `tx_${ids.hex(20)}`;
    const { probability, fraud } = risk.judge(payment);
    const label = outcome(payment.timeMs, fraud, random);
    if (payment.timeMs < fromMs) return;
    const kind = fraud ? (payment.behaviour ?? "unseen") : null;
    if (label !== null && wanted.has("labels")) {
      later(label.timeMs, function* () {
        yield labelEvent(tenant, id, label.timeMs, label.source, kind, ids);
      });
    }
    if (wanted.has("transactions")) yield transactionEvent(tenant, id, payment, kind, probability);
  }

  const nextPayment = (): void => {
    if (!(transactionsPerSecond > 0)) return;
    const timeMs = now + random.exponential(1000 / (transactionsPerSecond * pace(now)));
    later(timeMs, function* () {
      now = timeMs;
      nextPayment();
      const payment = honestPayment(population, random, timeMs);
      yield* pay(payment);
      recent.add(payment);
      if (random.chance(fraudRate)) {
        for (const fraud of episode(population, random, payment, recent.at(payment.merchant)))
          later(fraud.timeMs, () => pay(fraud));
      }
    });
  };
  const nextVisit = (): void => {
    if (!(clicksPerSecond > 0)) return;
    const timeMs = clock + shop.pauseMs(clicksPerSecond * pace(clock));
    later(timeMs, () => {
      clock = timeMs;
      nextVisit();
      for (const event of shop.visit(ids, tenant, timeMs)) {
        later(event.timeMs, function* () {
          yield clickEvent(event);
        });
      }
      return [];
    });
  };
  const warmUpMs = Math.min(WARM_UP_MS, (1000 * WARM_UP_EVENTS) / (transactionsPerSecond + clicksPerSecond));
  let now = fromMs - warmUpMs;
  let clock = now;
  nextPayment();
  nextVisit();
  for (let next = queue.take(); next !== null; next = queue.take()) {
    for (const event of next()) if (event.timeMs >= fromMs) yield event;
  }
}

/** The newest payments at each merchant: whose cards a thief who has broken in there can copy. */
class RecentPayments {
  private readonly byMerchant = new Map<Merchant, Payment[]>();

  add(payment: Payment): void {
    const known = this.byMerchant.get(payment.merchant);
    if (known === undefined) this.byMerchant.set(payment.merchant, [payment]);
    else {
      known.push(payment);
      if (known.length > 2 * REMEMBERED) known.splice(0, REMEMBERED);
    }
  }

  at(merchant: Merchant): readonly Payment[] {
    return this.byMerchant.get(merchant) ?? [];
  }
}

/** Customers come by activity and hour; they go where they always go, or somewhere new, sometimes abroad. */
function honestPayment(population: Population, random: Random, timeMs: number): Payment {
  const { customers, merchants, activity, popularity } = population;
  let customer = customers[random.weighted(activity)];
  for (let i = 0; i < 8 && !random.chance(liveliness(customer, timeMs)); i++) {
    customer = customers[random.weighted(activity)];
  }
  const merchant = merchants[random.chance(0.75) ? random.pick(customer.regulars) : random.weighted(popularity)];
  // Honest people travel and buy a sofa now and then: neither alone is fraud.
  const abroad = random.chance(0.03);
  const splurge = random.chance(0.02) ? random.between(3, 9) : 1;
  return {
    timeMs,
    customer,
    card: random.pick(customer.cards),
    device: merchant.online || random.chance(0.5) ? random.pick(customer.devices) : null,
    merchant,
    amount: price(random.logNormal(merchant.price * customer.spending, merchant.spread) * splurge),
    country: abroad ? merchant.country : customer.country,
    declined: random.chance(0.025),
    behaviour: null,
  };
}

function transactionEvent(
  tenant: string,
  id: string,
  payment: Payment,
  fraud: SimulatedEvent["fraud"],
  probability: number,
): SimulatedEvent {
  const { timeMs, customer, card, device, merchant } = payment;
  return {
    stream: "transactions",
    timeMs: Math.floor(timeMs),
    id,
    partitionKey: card,
    fraud,
    probability,
    behaviour: payment.behaviour,
    showing: null,
    fields: {
      tenant,
      transaction_id: id,
      event_time: Math.floor(timeMs),
      card_id: card,
      user_id: customer.userId,
      merchant_id: merchant.merchantId,
      amount: payment.amount,
      currency: CURRENCY[payment.country] ?? "EUR",
      country: payment.country,
      merchant_category: merchant.category,
      status: payment.declined ? "declined" : "approved",
      device_id: device,
      channel: merchant.online ? "online" : "pos",
    },
  };
}

/**
 * A review within minutes for a few, a chargeback after days for fraud, settlement after a week for the rest. Some fraud
 * is never reported, and has no label.
 */
function outcome(
  timeMs: number,
  fraud: boolean,
  random: Random,
): { source: "analyst" | "chargeback" | "settlement"; timeMs: number } | null {
  if (random.chance(fraud ? 0.12 : 0.01))
    return { source: "analyst", timeMs: timeMs + random.between(20_000, 600_000) };
  if (!fraud) return { source: "settlement", timeMs: timeMs + SETTLED_DAYS * DAY_MS };
  if (random.chance(NEVER_REPORTED)) return null;
  const days = Math.min(LAST_CHARGEBACK_DAYS, Math.max(0.25, random.logNormal(CHARGEBACK_DAYS, 0.6)));
  return { source: "chargeback", timeMs: timeMs + days * DAY_MS };
}

function labelEvent(
  tenant: string,
  transactionId: string,
  timeMs: number,
  source: string,
  fraud: SimulatedEvent["fraud"],
  ids: Random,
): SimulatedEvent {
  const id = `label_${ids.hex(16)}`;
  return {
    stream: "labels",
    timeMs: Math.floor(timeMs),
    id,
    partitionKey: transactionId,
    fraud,
    probability: null,
    behaviour: null,
    showing: null,
    fields: {
      tenant,
      label_id: id,
      transaction_id: transactionId,
      event_time: Math.floor(timeMs),
      is_fraud: fraud !== null,
      source,
      reason: fraud === null ? null : source === "chargeback" ? "10.4" : fraud,
    },
  };
}

const clickEvent = ({ timeMs, id, userId, fields, showing }: ShopEvent): SimulatedEvent => ({
  stream: "clicks",
  timeMs,
  id,
  partitionKey: userId,
  fraud: null,
  probability: null,
  behaviour: null,
  showing,
  fields,
});
