/**
 * What customers see in the shop and click. A visit is some pages of a few items each: every item that is shown is a `view`, and
 * who clicks is drawn from what the item is, what the customer likes, and what they came for today. The draw uses no more than
 * the features of a recommendation can come to know, so that a model can learn it, and never all of it.
 */
import type { Customer, Population } from "./population.ts";
import { Random } from "./random.ts";

export interface ShopEvent {
  readonly timeMs: number;
  readonly id: string;
  readonly userId: string;
  readonly fields: Readonly<Record<string, string | number | null>>;
  /** Of a view: the chance that it is clicked, and whether it is. */
  readonly showing: { readonly probability: number; readonly clicked: boolean } | null;
}

const CATEGORIES = ["kitchen", "garden", "books", "toys", "sports", "clothing", "audio", "lighting"];
const PAGE = 5;
/** Pages after the first, before rounding down. */
const MORE_PAGES = 1.5;
/** What a visit comes to on average, measured; `clicksPerSecond` counts all events. */
const EVENTS_A_VISIT = 11.3;

/** In log odds. Two of a hundred showings are clicked for no reason at all. */
const BASE = -3.4;
const WANTED = 1.8;
const LIKED = 0.7;
/** For each place further down. */
const POSITION = -0.15;

interface Item {
  readonly id: string;
  readonly category: string;
  /** In log odds: how many are taken in by it. */
  readonly appeal: number;
}

export class Shop {
  private readonly population: Population;
  private readonly random: Random;
  private readonly items: readonly Item[];
  private readonly tastes: ReadonlyMap<Customer, { liked: string; eager: number }>;

  constructor(population: Population, seed: number) {
    this.population = population;
    const world = new Random(seed, 6);
    this.items = population.items.map((id) => ({ id, category: world.pick(CATEGORIES), appeal: 0.9 * world.normal() }));
    this.tastes = new Map(
      population.customers.map((one) => [one, { liked: world.pick(CATEGORIES), eager: 0.6 * world.normal() }]),
    );
    this.random = new Random(seed, 7);
  }

  /** How long until the next visit begins. @param eventsPerSecond of all visits together */
  pauseMs(eventsPerSecond: number): number {
    return this.random.exponential((1000 * EVENTS_A_VISIT) / eventsPerSecond);
  }

  /** Events of one visit, in no order of time: pages as they are shown, each with what follows from it. */
  *visit(ids: Random, tenant: string, startMs: number): Generator<ShopEvent> {
    const { random, population } = this;
    const customer = population.customers[random.weighted(population.activity)];
    const { liked, eager } = this.tastes.get(customer)!;
    const wanted = random.chance(0.6) ? liked : random.pick(CATEGORIES);
    const common = { tenant, user_id: customer.userId, session_id: `session_${ids.hex(12)}` };
    const pages = 1 + Math.floor(random.exponential(MORE_PAGES));
    let pageMs = startMs;
    for (let page = 0; page < pages; page++) {
      let nowMs = pageMs;
      for (const [position, item] of this.page().entries()) {
        const about = { ...common, item_id: item.id, category: item.category, position };
        const odds =
          BASE +
          item.appeal +
          eager +
          POSITION * position +
          (item.category === wanted ? WANTED : 0) +
          (item.category === liked ? LIKED : 0);
        const probability = 1 / (1 + Math.exp(-odds));
        const clicked = random.chance(probability);
        const view = this.event(ids, pageMs, "view", null, about, null, { probability, clicked });
        yield view;
        if (!clicked) continue;
        let doneMs = nowMs;
        for (const action of ["click", "cart", "purchase"]) {
          if (action !== "click" && !random.chance(action === "cart" ? 0.25 : 0.4)) break;
          const dwellMs = 1000 + Math.floor(random.exponential(12_000));
          doneMs += dwellMs;
          yield this.event(ids, doneMs, action, dwellMs, about, view.id, null);
        }
        nowMs = doneMs;
      }
      pageMs = nowMs + 2000 + random.exponential(15_000);
    }
  }

  /** Some items, none twice, popular ones more often. */
  private page(): Item[] {
    const { random, population, items } = this;
    const chosen = new Set<Item>();
    while (chosen.size < Math.min(PAGE, items.length)) chosen.add(items[random.weighted(population.itemPopularity)]);
    return [...chosen];
  }

  private event(
    ids: Random,
    timeMs: number,
    action: string,
    dwellMs: number | null,
    about: Readonly<Record<string, string | number>>,
    impressionId: string | null,
    showing: ShopEvent["showing"],
  ): ShopEvent {
    const id = `click_${ids.hex(16)}`;
    const at = Math.floor(timeMs);
    const { tenant, user_id, item_id, session_id, position, category } = about;
    return {
      timeMs: at,
      id,
      userId: String(user_id),
      showing,
      fields: {
        tenant,
        click_id: id,
        event_time: at,
        user_id,
        item_id,
        action,
        session_id,
        dwell_ms: dwellMs,
        position,
        impression_id: impressionId,
        category,
      },
    };
  }
}
