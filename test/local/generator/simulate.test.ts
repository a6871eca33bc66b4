import { describe, expect, test } from "vitest";
import { EventCodec } from "../../../adapters/avro/event-codec.ts";
import { checkEvent } from "../../../core/event.ts";
import { plan } from "../../../features/plan.ts";
import { Ceiling } from "../../../local/generator/ceiling.ts";
import type { Pattern } from "../../../local/generator/fraud.ts";
import { type SimulatedEvent, type SimulationOptions, simulate } from "../../../local/generator/simulate.ts";

const DAY_MS = 86_400_000;
const MONDAY = Date.UTC(2026, 0, 5);
const week: SimulationOptions = {
  seed: 7,
  fromMs: MONDAY,
  toMs: MONDAY + 7 * DAY_MS,
  transactionsPerSecond: 0.1,
  fraudRate: 0.005,
  customers: 500,
};
// Nine weeks, so that the labels of the first have arrived.
const season: SimulationOptions = {
  ...week,
  toMs: MONDAY + 63 * DAY_MS,
  transactionsPerSecond: 0.006,
  clicksPerSecond: 0,
  customers: 300,
};

const events = [...simulate(week)];
const payments = events.filter(({ stream }) => stream === "transactions");
const byPattern = (pattern: Pattern | null) => payments.filter(({ behaviour }) => behaviour === pattern);
const text = (event: SimulatedEvent, field: string) => String(event.fields[field]);

function groups(all: readonly SimulatedEvent[], field: string): SimulatedEvent[][] {
  return [...Map.groupBy(all, (event) => text(event, field)).values()];
}

describe("determinism", () => {
  const day = { ...week, toMs: MONDAY + DAY_MS };
  const one = [...simulate(day)];

  test("the same seed gives the same events", () => {
    expect([...simulate(day)]).toEqual(one);
  });

  test("another seed gives others", () => {
    const others = [...simulate({ ...day, seed: 8, toMs: MONDAY + 3_600_000 })];
    expect(others.slice(0, 5).map(({ fields }) => fields)).not.toEqual(one.slice(0, 5).map(({ fields }) => fields));
  });

  test("another start gives other ids, so no id ever has two times", () => {
    const ids = new Set(one.map(({ id }) => id));
    const later = [...simulate({ ...day, fromMs: MONDAY + 3_600_000 })];
    expect(later.length).toBeGreaterThan(1000);
    expect(later.filter(({ id }) => ids.has(id))).toEqual([]);
  });

  test("streams can be left out", () => {
    const alone = [...simulate({ ...day, streams: ["transactions"], clicksPerSecond: 0 })];
    expect(new Set(alone.map(({ stream }) => stream))).toEqual(new Set(["transactions"]));
    expect(alone.length).toBeGreaterThan(6_000);
  });
});

describe("every event", () => {
  test("is in order and in the interval", () => {
    expect(events.filter(({ timeMs }, i) => i > 0 && timeMs < events[i - 1].timeMs)).toEqual([]);
    expect(events[0].timeMs).toBeGreaterThanOrEqual(week.fromMs);
    expect(events.at(-1)!.timeMs).toBeLessThan(week.toMs);
  });

  test("has an id of its own", () => {
    expect(new Set(events.map(({ id }) => id)).size).toBe(events.length);
  });

  test("is one that the contract and the engine take", () => {
    for (const event of events.slice(0, 1_000)) {
      const stream = plan.streams.find(({ name }) => name === event.stream)!;
      const fields = EventCodec.for(stream.contract).fromJson(JSON.parse(JSON.stringify(event.fields)));
      expect(fields).toEqual(event.fields);
      const checked = checkEvent(stream, fields, event.timeMs);
      expect(checked).toEqual({ tenant: "default", eventId: event.id, eventTimeMs: event.timeMs });
      expect(fields[stream.partitionKey]).toBe(event.partitionKey);
    }
  });
});

describe("life", () => {
  const at = (match: (date: Date) => boolean) => payments.filter(({ timeMs }) => match(new Date(timeMs))).length;

  test("the rate is the one that was asked for, over a week", () => {
    const honest = byPattern(null).length / (7 * 86_400);
    expect(honest).toBeGreaterThan(0.097);
    expect(honest).toBeLessThan(0.103);
  });

  test("nights are quiet and Fridays busy", () => {
    expect(at((d) => d.getUTCHours() === 16)).toBeGreaterThan(3 * at((d) => d.getUTCHours() === 4));
    expect(at((d) => d.getUTCDay() === 5)).toBeGreaterThan(1.2 * at((d) => d.getUTCDay() === 1));
  });

  test("less than a day keeps the rate, at night too", () => {
    const night = { ...week, fromMs: MONDAY + 3 * 3_600_000, toMs: MONDAY + 4 * 3_600_000, transactionsPerSecond: 10 };
    const honest = [...simulate(night)].filter(
      ({ stream, behaviour }) => stream === "transactions" && behaviour === null,
    );
    expect(Math.abs(honest.length / 36_000 - 1)).toBeLessThan(0.02);
  });

  test("a short run has clicks at their rate, fraud, and no label without its transaction", () => {
    const minute = { seed: 7, fromMs: MONDAY, toMs: MONDAY + 60_000, transactionsPerSecond: 100, clicksPerSecond: 50 };
    const short = [...simulate({ ...minute, fraudRate: 0.005 })];
    const of = (name: string) => short.filter(({ stream }) => stream === name);
    expect(of("clicks").length).toBeGreaterThan(2_500);
    expect(of("transactions").filter(({ fraud }) => fraud !== null).length).toBeGreaterThan(5);
    const known = new Set(of("transactions").map(({ id }) => id));
    expect(of("labels").length).toBeGreaterThan(0);
    expect(of("labels").filter(({ partitionKey }) => !known.has(partitionKey))).toEqual([]);
  });

  test("customers have their own hours", () => {
    const hours = groups(byPattern(null), "user_id")
      .filter((own) => own.length > 100)
      .map((own) => new Set(own.map(({ timeMs }) => new Date(timeMs).getUTCHours())).size);
    expect(hours.length).toBeGreaterThan(50);
    // With a hundred payments or more, somebody who paid at any hour alike would miss none.
    expect(hours.filter((covered) => covered < 24).length).toBeGreaterThan(hours.length / 2);
  });

  test("some merchants are much busier than others", () => {
    const sizes = groups(byPattern(null), "merchant_id")
      .map((own) => own.length)
      .sort((a, b) => b - a);
    const top = sizes.slice(0, Math.ceil(sizes.length / 10)).reduce((a, b) => a + b, 0);
    expect(top / byPattern(null).length).toBeGreaterThan(0.4);
  });

  test("visits are one user's", () => {
    const visits = groups(
      events.filter(({ stream }) => stream === "clicks"),
      "session_id",
    );
    expect(visits.length).toBeGreaterThan(1_000);
    expect(visits.filter((own) => new Set(own.map((click) => text(click, "user_id"))).size > 1)).toEqual([]);
  });
});

describe("what is clicked", () => {
  const clicks = events.filter(({ stream }) => stream === "clicks");
  const views = new Map(clicks.filter(({ showing }) => showing !== null).map((event) => [event.id, event]));
  const followers = clicks.filter(({ showing }) => showing === null);

  test("was shown before, at the same place, and is the item that was shown", () => {
    expect(followers.length).toBeGreaterThan(1_000);
    const whole = followers.filter(({ timeMs }) => timeMs > week.fromMs + 3_600_000);
    for (const event of whole) {
      const view = views.get(text(event, "impression_id"))!;
      expect(view.timeMs).toBeLessThan(event.timeMs);
      // The service's labels take half an hour to be complete.
      expect(event.timeMs - view.timeMs).toBeLessThan(30 * 60_000);
      for (const field of ["user_id", "item_id", "session_id", "position", "category"]) {
        expect(event.fields[field]).toBe(view.fields[field]);
      }
      expect(view.showing!.clicked).toBe(true);
    }
  });

  test("is all that the truth says is clicked, once, and little of what is shown", () => {
    const clicked = new Set(
      followers.flatMap((e) => (e.fields["action"] === "click" ? [text(e, "impression_id")] : [])),
    );
    const old = [...views.values()].filter(({ timeMs }) => timeMs < week.toMs - 3_600_000);
    expect(old.filter(({ id, showing }) => showing!.clicked !== clicked.has(id))).toEqual([]);
    expect(clicked.size).toBe(followers.filter(({ fields }) => fields["action"] === "click").length);
    expect(clicked.size / views.size).toBeGreaterThan(0.04);
    expect(clicked.size / views.size).toBeLessThan(0.12);
  });

  test("can be told in part, and never all of it", () => {
    const ceiling = new Ceiling();
    for (const { showing } of views.values()) ceiling.add(showing!.probability, showing!.clicked);
    const { rocAuc } = ceiling.best();
    expect(rocAuc).toBeGreaterThan(0.75);
    expect(rocAuc).toBeLessThan(0.9);
  });

  test("goes on at the rate that was asked for", () => {
    // Clicks are half of the payments.
    expect(clicks.length / (7 * 86_400)).toBeGreaterThan(0.045);
    expect(clicks.length / (7 * 86_400)).toBeLessThan(0.055);
  });
});

describe("what fraud looks like", () => {
  const MINUTE_MS = 60_000;
  const spanMs = (all: readonly SimulatedEvent[]) => all[all.length - 1].timeMs - all[0].timeMs;
  const amounts = (all: readonly SimulatedEvent[]) => all.map(({ fields }) => Number(fields["amount"]));

  test("is rare", () => {
    const share = payments.filter(({ fraud }) => fraud !== null).length / payments.length;
    expect(share).toBeGreaterThan(0.005);
    expect(share).toBeLessThan(0.05);
  });

  test("card testing: many tiny payments from one new device, then a large one", () => {
    const episodes = groups(byPattern("card_testing"), "device_id").filter((own) => own.length >= 6);
    expect(episodes.length).toBeGreaterThan(10);
    for (const own of episodes) {
      expect(new Set(own.map((event) => text(event, "card_id"))).size).toBe(1);
      expect(Math.max(...amounts(own).slice(0, -1))).toBeLessThanOrEqual(3);
      expect(amounts(own).at(-1)).toBeGreaterThanOrEqual(150);
    }
  });

  test("account takeover: a device that its card never had, and larger amounts", () => {
    const known = new Set(byPattern(null).map(({ fields }) => fields["device_id"]));
    const foreign = byPattern("account_takeover").filter(({ fields }) => !known.has(fields["device_id"]));
    expect(foreign.length).toBeGreaterThan(50);
    const mean = (all: number[]) => all.reduce((a, b) => a + b, 0) / all.length;
    expect(mean(amounts(foreign))).toBeGreaterThan(2 * mean(amounts(byPattern(null))));
  });

  test("merchant compromise: cards that were all at one shop before, from one device", () => {
    // Few shops, so that each has had new customers since the week began.
    const town = [
      ...simulate({ ...week, clicksPerSecond: 0, toMs: MONDAY + 3 * DAY_MS, merchants: 30, fraudRate: 0.01 }),
    ];
    const honest = town.filter(({ stream, behaviour }) => stream === "transactions" && behaviour === null);
    const shopsOf = Map.groupBy(honest, (event) => text(event, "card_id"));
    const known = new Set(honest.map(({ fields }) => fields["device_id"]));
    const compromised = town.filter(
      ({ behaviour, stream }) => stream === "transactions" && behaviour === "merchant_compromise",
    );
    const episodes = groups(compromised, "device_id").filter(
      (own) =>
        own[0].timeMs > MONDAY + DAY_MS &&
        !known.has(own[0].fields["device_id"]) &&
        new Set(own.map((event) => text(event, "card_id"))).size >= 4,
    );
    expect(episodes.length).toBeGreaterThan(5);
    for (const own of episodes) {
      const cards = [...new Set(own.map((event) => text(event, "card_id")))];
      const shops = cards.map(
        (card) =>
          new Set((shopsOf.get(card) ?? []).filter((e) => e.timeMs < own[0].timeMs).map((e) => text(e, "merchant_id"))),
      );
      const common = [...shops[0]].filter((shop) => shops.every((other) => other.has(shop)));
      expect(common.length, `cards ${cards.join(", ")} share a shop`).toBeGreaterThan(0);
    }
  });

  test("velocity: a card used again and again", () => {
    const often = groups(byPattern("velocity"), "card_id").filter((own) => own.length >= 9);
    // A card may have met a careful thief as well, at another time.
    const bursts = often.filter((own) => own.slice(8).some((_, i) => spanMs(own.slice(i, i + 9)) < 45 * MINUTE_MS));
    expect(bursts.length).toBeGreaterThan(10);
    expect(bursts.length).toBeGreaterThan(0.8 * often.length);
  });
});

describe("labels", () => {
  const all = [...simulate(season)];
  const truth = new Map(all.filter(({ stream }) => stream === "transactions").map((event) => [event.id, event]));
  const labels = all.filter(({ stream }) => stream === "labels");
  const delayDays = (label: SimulatedEvent) => (label.timeMs - truth.get(label.partitionKey)!.timeMs) / DAY_MS;

  test("come after their transaction, and say what is true of it", () => {
    expect(labels.length).toBeGreaterThan(10_000);
    const wrong = labels.filter((label) => {
      const judged = truth.get(label.partitionKey)!;
      const right = label.fields["is_fraud"] === (judged.fraud !== null) && label.fraud === judged.fraud;
      return label.timeMs <= judged.timeMs || !right;
    });
    expect(wrong).toEqual([]);
  });

  test("are late as in life: chargebacks after days, settlement after a week, few reviews at once", () => {
    const by = Map.groupBy(labels, (label) => text(label, "source"));
    expect([...by.keys()].sort()).toEqual(["analyst", "chargeback", "settlement"]);
    const chargebacks = by
      .get("chargeback")!
      .map(delayDays)
      .sort((a, b) => a - b);
    expect(chargebacks[0]).toBeGreaterThanOrEqual(0.25 - 1e-6);
    expect(chargebacks[chargebacks.length >> 1]).toBeGreaterThan(1.8);
    expect(chargebacks[chargebacks.length >> 1]).toBeLessThan(3.5);
    const late = chargebacks.filter((days) => days > 7).length / chargebacks.length;
    expect(late).toBeGreaterThan(0);
    expect(late).toBeLessThan(0.12);
    expect(chargebacks.at(-1)).toBeLessThanOrEqual(30 + 1e-6);
    expect(by.get("settlement")!.filter((label) => Math.abs(delayDays(label) - 7) > 1e-6)).toEqual([]);
    expect(by.get("analyst")!.filter((label) => delayDays(label) > 0.01)).toEqual([]);
  });

  test("every honest transaction gets one, when it is old enough, and most of fraud", () => {
    const labelled = new Map(labels.map((label) => [label.partitionKey, label]));
    expect(labelled.size).toBe(labels.length);
    const old = [...truth.values()].filter(({ timeMs }) => timeMs < season.toMs - 45 * DAY_MS);
    expect(old.length).toBeGreaterThan(5_000);
    expect(old.filter(({ id, fraud }) => fraud === null && !labelled.has(id))).toEqual([]);
    const frauds = old.filter(({ fraud }) => fraud !== null);
    const reported = frauds.filter(({ id }) => labelled.has(id)).length / frauds.length;
    expect(frauds.length).toBeGreaterThan(50);
    expect(reported).toBeGreaterThan(0.85);
    expect(reported).toBeLessThan(1);
  });
});
