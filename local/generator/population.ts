/** Who pays whom: customers with habits and merchants with prices. */
import { Random } from "./random.ts";

export interface Customer {
  readonly userId: string;
  readonly cards: readonly string[];
  readonly devices: readonly string[];
  readonly country: string;
  /** Multiplies typical prices: some people buy dearer things. */
  readonly spending: number;
  /** Hour of the day (UTC) at which the customer is most active. */
  readonly peakHour: number;
  /** How much livelier the customer is at weekends, around 1. */
  readonly weekend: number;
  /** Merchants that they return to. */
  readonly regulars: readonly number[];
}

export interface Merchant {
  readonly merchantId: string;
  readonly category: string;
  readonly country: string;
  readonly online: boolean;
  /** Median price and the spread (sigma of its logarithm). */
  readonly price: number;
  readonly spread: number;
}

export interface Population {
  readonly customers: readonly Customer[];
  readonly merchants: readonly Merchant[];
  /** Cumulative weights to draw from: activity of customers, popularity of merchants. */
  readonly activity: readonly number[];
  readonly popularity: readonly number[];
  readonly items: readonly string[];
  readonly itemPopularity: readonly number[];
}

const COUNTRIES = ["NO", "SE", "DK", "FI", "DE", "GB", "FR", "ES", "PL", "US"];
const COUNTRY_WEIGHTS = cumulative([40, 18, 12, 8, 6, 5, 4, 3, 2, 2]);
export const CURRENCY: Readonly<Record<string, string>> = {
  NO: "NOK",
  SE: "SEK",
  DK: "DKK",
  FI: "EUR",
  DE: "EUR",
  GB: "GBP",
  FR: "EUR",
  ES: "EUR",
  PL: "PLN",
  US: "USD",
};
/** Category, share, median price, spread, chance of being online. */
const CATEGORIES: readonly [string, number, number, number, number][] = [
  ["grocery", 30, 32, 0.7, 0.08],
  ["restaurant", 18, 24, 0.6, 0.1],
  ["fuel", 9, 55, 0.4, 0],
  ["transport", 12, 6, 0.6, 0.6],
  ["fashion", 8, 60, 0.8, 0.6],
  ["electronics", 5, 180, 1.0, 0.7],
  ["travel", 3, 320, 0.9, 0.9],
  ["digital", 11, 9, 0.7, 1],
  ["pharmacy", 4, 18, 0.6, 0.2],
];

function cumulative(weights: readonly number[]): number[] {
  let sum = 0;
  return weights.map((weight) => {
    sum += weight;
    return sum;
  });
}

const zipf = (count: number, exponent: number): number[] =>
  cumulative(Array.from({ length: count }, (_, i) => 1 / (i + 1) ** exponent));

export function makePopulation(seed: number, customers: number, merchants: number): Population {
  const random = new Random(seed, 1);
  const categoryWeights = cumulative(CATEGORIES.map(([, share]) => share));
  const shops = Array.from({ length: merchants }, (_, i): Merchant => {
    const [category, , median, spread, online] = CATEGORIES[random.weighted(categoryWeights)];
    return {
      merchantId: `merchant_${String(i + 1).padStart(5, "0")}`,
      category,
      country: COUNTRIES[random.weighted(COUNTRY_WEIGHTS)],
      online: random.chance(online),
      price: random.logNormal(median, 0.3),
      spread,
    };
  });
  const popularity = zipf(merchants, 1.05);
  const people = Array.from({ length: customers }, (_, i): Customer => {
    const id = String(i + 1).padStart(6, "0");
    const country = COUNTRIES[random.weighted(COUNTRY_WEIGHTS)];
    const regulars: number[] = [];
    for (let tries = 0; regulars.length < 8 && tries < 200; tries++) {
      const shop = random.weighted(popularity);
      if (shops[shop].online || shops[shop].country === country || tries > 150) regulars.push(shop);
    }
    return {
      userId: `user_${id}`,
      cards: Array.from({ length: random.chance(0.25) ? 2 : 1 }, (_, k) => `card_${id}_${k + 1}`),
      devices: Array.from({ length: random.chance(0.4) ? 2 : 1 }, (_, k) => `device_${id}_${k + 1}`),
      country,
      spending: random.logNormal(1, 0.4),
      peakHour: random.chance(0.15) ? random.between(21, 26) % 24 : random.between(10, 20),
      weekend: random.logNormal(1, 0.35),
      regulars,
    };
  });
  const items = Array.from({ length: Math.max(200, merchants) }, (_, i) => `item_${String(i + 1).padStart(5, "0")}`);
  return {
    customers: people,
    merchants: shops,
    activity: cumulative(people.map(() => random.logNormal(1, 0.8))),
    popularity,
    items,
    itemPopularity: zipf(items.length, 0.9),
  };
}

/** How lively a moment is for a customer, from 0.05 to 1, by hour of the day and weekday. */
export function liveliness({ peakHour, weekend }: Customer, timeMs: number): number {
  const hour = (timeMs / HOUR_MS) % 24;
  const away = Math.min(Math.abs(hour - peakHour), 24 - Math.abs(hour - peakHour));
  const byHour = 0.1 + 0.9 * Math.exp(-((away / 4.5) ** 2));
  return Math.max(0.05, Math.min(1, isWeekend(timeMs) ? byHour * weekend : byHour / weekend));
}

const HOUR_MS = 3_600_000;
/** Sunday first; the mean is 1. */
const WEEKDAYS = [0.9, 0.88, 0.92, 0.95, 1.02, 1.2, 1.13];

/** How busy a moment is for everybody together: quiet at four in the morning, busy in the afternoon and on Fridays. Mean 1. */
export function rhythmAt(timeMs: number): number {
  return (1 + 0.75 * Math.cos(((timeMs / HOUR_MS - 16) * Math.PI) / 12)) * WEEKDAYS[weekday(timeMs)];
}

const isWeekend = (timeMs: number): boolean => weekday(timeMs) % 6 === 0;
/** 1970 began on a Thursday. */
const weekday = (timeMs: number): number => (Math.floor(timeMs / (24 * HOUR_MS)) + 4) % 7;
