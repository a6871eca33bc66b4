/**
 * Behaviours that fraud has, and sometimes an honest customer. Each begins with an honest payment and goes on with something
 * that it shows. Which of their payments are fraud is drawn by `Risk`.
 */

import { type Payment, price } from "./payment.ts";
import type { Merchant, Population } from "./population.ts";
import type { Random } from "./random.ts";

export type Pattern = "card_testing" | "account_takeover" | "merchant_compromise" | "velocity";
const PATTERNS: readonly Pattern[] = ["card_testing", "account_takeover", "merchant_compromise", "velocity"];

/**
 * Payments of one episode, all later than the payment that it starts from.
 * @param atMerchant the newest honest payments at the victim's merchant, the victim's last
 */
export function episode(
  population: Population,
  random: Random,
  victim: Payment,
  atMerchant: readonly Payment[],
): Payment[] {
  const pattern = random.pick(PATTERNS);
  // Careful thieves look like their victim: some fraud cannot be told apart by anything that is recorded.
  const careful = random.chance(0.2);
  switch (pattern) {
    case "card_testing":
      return cardTesting(population, random, victim, careful);
    case "account_takeover":
      return accountTakeover(population, random, victim, careful);
    case "merchant_compromise":
      return merchantCompromise(population, random, victim, atMerchant, careful);
    case "velocity":
      return velocity(population, random, victim, careful);
  }
}

const online = (population: Population, random: Random): Merchant => {
  for (let i = 0; i < 50; i++) {
    const merchant = population.merchants[random.weighted(population.popularity)];
    if (merchant.online) return merchant;
  }
  return population.merchants[0];
};

/** Tiny payments at one shop until one goes through, then a large one elsewhere. */
function cardTesting(population: Population, random: Random, victim: Payment, careful: boolean): Payment[] {
  const merchant = online(population, random);
  const device = `device_x${random.hex(8)}`;
  let timeMs = victim.timeMs + random.between(60_000, 1_800_000);
  const tests = careful ? 2 : random.whole(5, 12);
  const payments: Payment[] = [];
  for (let i = 0; i < tests; i++) {
    const amount = price(random.between(0.5, 3));
    payments.push({
      ...victim,
      timeMs,
      device,
      merchant,
      amount,
      declined: random.chance(0.4),
      behaviour: "card_testing",
    });
    timeMs += random.exponential(careful ? 600_000 : 15_000);
  }
  const amount = price(random.between(150, 900));
  payments.push({
    ...victim,
    timeMs: timeMs + 30_000,
    device,
    merchant: online(population, random),
    amount,
    declined: random.chance(0.2),
    behaviour: "card_testing",
  });
  return payments;
}

/** A new device, often another country, larger amounts over some minutes. */
function accountTakeover(population: Population, random: Random, victim: Payment, careful: boolean): Payment[] {
  const device = careful ? victim.device : `device_x${random.hex(8)}`;
  const country = careful ? victim.country : random.pick(["US", "GB", "PL", "RO", "BR"]);
  let timeMs = victim.timeMs + random.between(300_000, 7_200_000);
  return Array.from({ length: random.whole(2, 6) }, () => {
    timeMs += random.exponential(240_000);
    const merchant = online(population, random);
    const amount = price(random.logNormal(merchant.price * (careful ? 1.5 : random.between(2, 8)), 0.4));
    return {
      ...victim,
      timeMs,
      device,
      country,
      merchant,
      amount,
      declined: random.chance(0.15),
      behaviour: "account_takeover" as const,
    };
  });
}

/** Cards that were used at one shop are misused elsewhere, a payment or two each. */
function merchantCompromise(
  population: Population,
  random: Random,
  victim: Payment,
  atMerchant: readonly Payment[],
  careful: boolean,
): Payment[] {
  const device = `device_x${random.hex(8)}`;
  const copied = new Map(atMerchant.slice(careful ? -2 : -12).map((payment) => [payment.card, payment]));
  return [...copied.values()].flatMap((owner) => {
    let timeMs = victim.timeMs + random.between(600_000, 5_400_000);
    return Array.from({ length: random.whole(1, 2) }, () => {
      timeMs += random.exponential(120_000);
      const merchant = online(population, random);
      return {
        ...owner,
        timeMs,
        device: careful ? random.pick(owner.customer.devices) : device,
        country: owner.customer.country,
        merchant,
        amount: price(random.logNormal(merchant.price * 1.8, 0.5)),
        declined: random.chance(0.12),
        behaviour: "merchant_compromise" as const,
      };
    });
  });
}

/** As many payments as the card will take, before it is blocked. */
function velocity(population: Population, random: Random, victim: Payment, careful: boolean): Payment[] {
  let timeMs = victim.timeMs + random.between(30_000, 900_000);
  return Array.from({ length: careful ? 3 : random.whole(9, 20) }, (_, i) => {
    timeMs += random.exponential(careful ? 400_000 : 50_000);
    const merchant = population.merchants[random.weighted(population.popularity)];
    const amount = price(random.logNormal(merchant.price * 1.3, 0.5));
    return {
      ...victim,
      timeMs,
      merchant,
      amount,
      declined: random.chance(i > 6 ? 0.35 : 0.08),
      behaviour: "velocity" as const,
    };
  });
}
