/** The truth behind simulated payments: learnable, not trivial, and as probable as it says. */
import { beforeAll, describe, expect, test } from "vitest";
import { Ceiling } from "../../../local/generator/ceiling.ts";
import { type SimulatedEvent, simulate } from "../../../local/generator/simulate.ts";

const DAY_MS = 86_400_000;
const fromMs = Date.UTC(2026, 0, 5);
const month = (seed: number): SimulatedEvent[] =>
  [
    ...simulate({
      ...{ seed, fromMs, toMs: fromMs + 28 * DAY_MS, streams: ["transactions"] },
      ...{ transactionsPerSecond: 0.04, clicksPerSecond: 0, customers: 1_000 },
    }),
  ].filter(({ probability }) => probability !== null);

let months: SimulatedEvent[][];
let all: SimulatedEvent[];
const chance = ({ probability }: SimulatedEvent): number => probability as number;
const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
const rocAuc = (events: readonly SimulatedEvent[], score: (event: SimulatedEvent) => number): number => {
  const ceiling = new Ceiling();
  for (const event of events) ceiling.add(score(event), event.fraud !== null);
  return ceiling.best().rocAuc as number;
};

describe("the truth of simulated payments", { tags: ["slow"] }, () => {
  beforeAll(() => {
    months = [1, 2, 3].map(month);
    all = months.flat();
  });

  test("is rare: between 0.5 and 2 in a hundred", () => {
    const share = all.filter(({ fraud }) => fraud !== null).length / all.length;
    expect(share).toBeGreaterThan(0.005);
    expect(share).toBeLessThan(0.02);
  });

  test("happens as often as its probability says, wherever that lies", () => {
    // One draw holds for a card over hours, so counts vary more than those of independent draws.
    for (const [low, high, tolerance] of [
      [0, 0.01, 0.4],
      [0.01, 0.1, 0.3],
      [0.1, 0.5, 0.25],
      [0.5, 1, 0.1],
    ]) {
      const bin = all.filter((event) => chance(event) >= low && chance(event) < high);
      const expected = mean(bin.map(chance));
      const seen = mean(bin.map(({ fraud }) => (fraud === null ? 0 : 1)));
      expect(bin.length, `payments from ${low} to ${high}`).toBeGreaterThan(500);
      expect(Math.abs(seen / expected - 1), `${seen} against ${expected}`).toBeLessThan(tolerance);
    }
  });

  test("allows a good score and no perfect one", () => {
    const ceiling = new Ceiling();
    for (const event of all) ceiling.add(chance(event), event.fraud !== null);
    const best = ceiling.best();
    expect(best.rocAuc).toBeGreaterThan(0.93);
    expect(best.rocAuc).toBeLessThan(0.98);
    expect(best.prAuc).toBeGreaterThan(0.55);
    expect(best.prAuc).toBeLessThan(0.85);
  });

  test("shows in no single field, nor in behaviour alone", () => {
    const amount = (event: SimulatedEvent) => 1 - 1 / (2 + Number(event.fields["amount"]));
    expect(rocAuc(all, amount)).toBeLessThan(0.8);
    const suspicious = all.filter(({ behaviour }) => behaviour !== null);
    const share = suspicious.filter(({ fraud }) => fraud !== null).length / suspicious.length;
    expect(share).toBeGreaterThan(0.2);
    expect(share).toBeLessThan(0.8);
    expect(all.filter(({ fraud }) => fraud === "unseen").length).toBeGreaterThan(50);
  });

  test("of one card within hours is one theft: what is more suspicious than a fraud is fraud too", () => {
    const cards = Map.groupBy(all.slice(0, months[0].length), ({ fields }) => fields["card_id"]);
    let thefts = 0;
    let torn = 0;
    for (const own of cards.values()) {
      for (const [i, event] of own.entries()) {
        if (event.fraud === null) continue;
        const next = own[i + 1];
        if (next === undefined || next.timeMs - event.timeMs > 60 * 60_000 || chance(next) < chance(event)) continue;
        thefts++;
        if (next.fraud === null) torn++;
      }
    }
    expect(thefts).toBeGreaterThan(50);
    // Only where the hours of one draw end in between.
    expect(torn / thefts).toBeLessThan(0.1);
  });

  test("is the same again for the same seed, and another for another", () => {
    const told = (events: readonly SimulatedEvent[]) =>
      events.slice(0, 2_000).map((e) => [e.id, e.fraud, e.probability]);
    expect(told(month(1))).toEqual(told(months[0]));
    expect(told(months[1])).not.toEqual(told(months[0]));
  });
});
