/** Memory over simulated weeks: what an entity takes stays what it is, and what nobody needs goes. */
import { hash64 } from "../adapters/hash.ts";
import { identityText } from "../core/event.ts";
import { floorTo } from "../core/tiles/window.ts";
import { type NaiveEvent, naive } from "../test/core/naive.ts";
import { startValkey } from "../test/support/valkey.ts";
import type { Benchmark, BenchmarkOptions, Row } from "./benchmark.ts";
import { type Footprint, type SoakEvent, SoakWorld, soakPlan } from "./soak-world.ts";
import { median } from "./statistics.ts";
import { seededRandom } from "./workload.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
/** Control runs each minute in life; so many less make identities last longer here, by as much. */
const CONTROL_EVERY_MS = 30 * MINUTE_MS;
/** The longest window is 7 days in hops of an hour: everything is in its place from here on. */
const STEADY_FROM = 9;
const LAST_DAY = STEADY_FROM + 14;
/** The seal stands still for so long afterwards, and has two days to catch up. */
const STANDSTILL_DAYS = 3;
const CATCH_UP_DAYS = 2;
/** Cards that pay on the first two days only. */
const SILENT_AFTER = 2;
/** Of the greatest memory in a week: growth of a percent a week would be 68 % a year. */
const FLAT = 1.01;

interface Day {
  readonly day: number;
  readonly card: Footprint;
  readonly hot: Footprint;
  readonly user: Footprint;
  readonly silentCards: number;
  readonly silentUser: Footprint;
  readonly keys: number;
}

export const benchmark: Benchmark = {
  title: "Soak: memory over simulated days, windows to 7 days and lifetimes",
  async run(options) {
    const valkey = await startValkey();
    const world = new SoakWorld(valkey);
    try {
      return await soak(world, options);
    } finally {
      await world.close();
      await valkey.stop();
    }
  },
};

async function soak(world: SoakWorld, { quick, signal, say }: BenchmarkOptions): Promise<Row[]> {
  const population = quick ? { cards: 30, silent: 30, perDay: 4 } : { cards: 1_000, silent: 300, perDay: 10 };
  const startMs = floorTo(Date.now(), DAY_MS) + DAY_MS;
  const random = seededRandom(11);
  const life = new Life(world, startMs, population, random);
  await world.begin(startMs);
  const days: Day[] = [];
  const silentFor = (soakPlan.groups.find(({ entity }) => entity === "card")!.expireMs as number) / DAY_MS;
  for (let day = 1; day <= LAST_DAY; day++) {
    signal.throwIfAborted();
    await life.day(day);
    const measured = await measure(world, day);
    days.push(measured);
    say(sentence(measured));
  }
  await life.expectRight();
  const standing: Day[] = [];
  for (let day = LAST_DAY + 1; day <= LAST_DAY + STANDSTILL_DAYS + CATCH_UP_DAYS; day++) {
    signal.throwIfAborted();
    await life.day(day, day <= LAST_DAY + STANDSTILL_DAYS);
    standing.push(await measure(world, day));
    say(`${day <= LAST_DAY + STANDSTILL_DAYS ? "the seal stands" : "it moves again"}: ${sentence(standing.at(-1)!)}`);
  }
  await life.expectRight();
  return rowsOf(days, standing, silentFor);
}

/** The population's days, and what it must add up to. */
class Life {
  private readonly world: SoakWorld;
  private readonly startMs: number;
  private readonly population: { cards: number; silent: number; perDay: number };
  private readonly random: () => number;
  private readonly watched = new Map<string, NaiveEvent[]>();
  private nowMs: number;
  private next = 0;

  constructor(
    world: SoakWorld,
    startMs: number,
    population: { cards: number; silent: number; perDay: number },
    random: () => number,
  ) {
    this.world = world;
    this.startMs = startMs;
    this.population = population;
    this.random = random;
    this.nowMs = startMs;
    for (const name of WATCHED) this.watched.set(name, []);
  }

  /** @param standing true when control does not run, so that the seal stands still */
  async day(day: number, standing = false): Promise<void> {
    const dayMs = this.startMs + (day - 1) * DAY_MS;
    const names = Array.from({ length: this.population.cards }, (_, i) => `steady_${i}`);
    if (day <= SILENT_AFTER) names.push(...Array.from({ length: this.population.silent }, (_, i) => `silent_${i}`));
    const events = names.flatMap((name) => this.paymentsOf(name, dayMs)).sort((a, b) => a.timeMs - b.timeMs);
    let from = 0;
    for (let at = dayMs; at < dayMs + DAY_MS; at += CONTROL_EVERY_MS) {
      this.nowMs = at + CONTROL_EVERY_MS;
      let to = from;
      while (to < events.length && events[to].timeMs < this.nowMs) to++;
      // A shard without events has the heartbeat to acknowledge: here, the day's first payment of each half hour.
      if (to > from) await this.world.deliver(events.slice(from, to), events[from].timeMs);
      from = to;
      if (standing) continue;
      await this.world.control(this.nowMs);
      if (this.nowMs % HOUR_MS === 0) await this.world.sweep();
    }
    await this.world.expire(this.nowMs);
  }

  /** Holds some entities against the naive oracle. */
  async expectRight(): Promise<void> {
    const asOfMs = this.nowMs - 1;
    for (const [name, events] of this.watched) {
      const [entity, id] = name.split("/");
      const group = soakPlan.groups.find((each) => each.entity === entity)!;
      const view = soakPlan.views.find((each) => each.entity === entity)!;
      const features = view.features.map((feature) => feature.name);
      const [{ values }] = await this.world.reader.read([{ tenant: "default", entity, id, features }], asOfMs);
      view.features.forEach((feature, i) => {
        const expected = naive(group, feature, events, asOfMs, hash32);
        if (Object.is(values[i].value, expected)) return;
        throw new Error(`${feature.name} of ${name} is ${values[i].value}, by the oracle ${expected}`);
      });
    }
  }

  private paymentsOf(name: string, dayMs: number): SoakEvent[] {
    return Array.from({ length: this.population.perDay }, () => {
      const timeMs = dayMs + Math.floor(this.random() * DAY_MS);
      const id = `tx-${this.next++}`;
      const merchant_id = this.random() < 0.4 ? HOT : `merchant_${Math.floor(this.random() * 50)}`;
      const amount = Math.round(this.random() * 20_000) / 100;
      const country = this.random() < 0.9 ? "SE" : "DE";
      const fields = { card_id: name, merchant_id, user_id: name, amount, country };
      const identity = hash64(identityText("default", "transactions", timeMs, id));
      for (const key of [`card/${name}`, `merchant/${merchant_id}`, `user/${name}`]) {
        this.watched.get(key)?.push({ identity, timeMs, fields });
      }
      return { id, timeMs, fields };
    });
  }
}

const HOT = "merchant_hot";
const WATCHED = [
  "card/steady_0",
  "card/steady_7",
  `merchant/${HOT}`,
  "merchant/merchant_3",
  "user/steady_0",
  "user/silent_0",
];
const hash32 = (text: string): number => Number.parseInt(hash64(text).slice(0, 8), 16);

async function measure(world: SoakWorld, day: number): Promise<Day> {
  const steady = (id: string): boolean => id.startsWith("steady");
  const silent = (id: string): boolean => id.startsWith("silent");
  const card = await world.footprint("card", steady);
  const hot = await world.footprint("merchant", (id) => id === HOT);
  const user = await world.footprint("user", steady);
  const silentUser = await world.footprint("user", silent);
  const silentCards = (await world.footprint("card", silent)).keys;
  const others = (await world.footprint("merchant", (id) => id !== HOT)).keys;
  const keys = card.keys + hot.keys + user.keys + silentUser.keys + silentCards + others;
  return { day, card, hot, user, silentCards, silentUser, keys };
}

function sentence({ day, card, hot, user, silentCards, silentUser, keys }: Day): string {
  const of = ({ bytes, tiles, identities }: Footprint): string =>
    `${bytes.toFixed(0)} B (${tiles.toFixed(1)} tiles, ${identities.toFixed(1)} ids)`;
  return `day ${day}: card ${of(card)}, user ${of(user)}, hot merchant ${of(hot)}; silent: ${silentCards} cards, users ${of(silentUser)}; ${keys} keys`;
}

function rowsOf(days: readonly Day[], standing: readonly Day[], silentDays: number): Row[] {
  const steady = days.filter(({ day }) => day > STEADY_FROM);
  const week = (of: (day: Day) => number, from: number): number => median(steady.slice(from, from + 7).map(of));
  const flat = (what: string, of: (day: Day) => number, note?: string): Row[] => [
    { what: `bytes ${what}, each of ${steady.length} days`, unit: "bytes", rounds: steady.map(of), note },
    {
      what: `${what}: the second week over the first`,
      unit: "×",
      rounds: [week(of, 7) / week(of, 0)],
      target: { atMost: FLAT },
    },
  ];
  const bytes = (footprint: Footprint): number => footprint.bytes;
  const expected = SILENT_AFTER + Math.ceil(silentDays);
  return [
    ...flat(
      "an active card, ids included",
      ({ card }) => bytes(card),
      `MEMORY USAGE of each key at the end of a day, over all ${steady[0].card.keys.toLocaleString("en-US")} steady cards: ${median(steady.map(({ card }) => card.tiles)).toFixed(1)} tiles and ${median(steady.map(({ card }) => card.identities)).toFixed(2)} identities a card. Control every ${CONTROL_EVERY_MS / MINUTE_MS} simulated minutes, the sweep every hour. The oracle agrees with what is served at the end.`,
    ),
    ...flat("an active user with lifetimes", ({ user }) => bytes(user)),
    ...flat("the busiest merchant (40 % of all payments)", ({ hot }) => bytes(hot)),
    {
      what: "keys: the second week over the first",
      unit: "×",
      rounds: [week(({ keys }) => keys, 7) / week(({ keys }) => keys, 0)],
      target: { atMost: FLAT },
    },
    {
      what: `keys left of cards that fell silent on day ${SILENT_AFTER}, after day ${expected}`,
      unit: "keys",
      rounds: days.filter(({ day }) => day > expected).map(({ silentCards }) => silentCards),
      target: { atMost: 0 },
      note: "By the expiry that the function has set on the key. A lifetime's key stays for ever.",
    },
    {
      what: "bytes a silent user keeps of its lifetimes, at the end",
      unit: "bytes",
      rounds: [days.at(-1)!.silentUser.bytes],
    },
    {
      what: `an active card ${CATCH_UP_DAYS} days after a seal that stood for ${STANDSTILL_DAYS}, over the second week`,
      unit: "×",
      rounds: [standing.at(-1)!.card.bytes / week(({ card }) => bytes(card), 7)],
      target: { atMost: FLAT },
      note: `At the end of the standstill a card took ${standing[STANDSTILL_DAYS - 1].card.bytes.toFixed(0)} bytes, with ${standing[STANDSTILL_DAYS - 1].card.identities.toFixed(1)} identities.`,
    },
  ];
}
