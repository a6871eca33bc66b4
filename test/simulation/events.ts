/** What producers send in a run: events with their delays, clocks, repetitions and mistakes, and when the broker gets them. */
import type { ArchiveRow } from "../../adapters/archive/archive.ts";
import { EventCodec, type EventFields } from "../../adapters/avro/event-codec.ts";
import { hash64 } from "../../adapters/hash.ts";
import { KplPacker } from "../../adapters/kinesis/kpl.ts";
import { identityText } from "../../core/event.ts";
import type { Dice } from "./dice.ts";
import { JOIN_KEYS, LATENESS_MS, STREAM } from "./plans.ts";

export interface SimulatedEvent {
  readonly index: number;
  readonly tenant: string;
  readonly identity: string;
  readonly timeMs: number;
  readonly fields: EventFields;
  /** Whether the handler has to set it aside. */
  readonly refused: boolean;
  readonly unreadable: boolean;
  /** Over which of its entities the store's function throws; nearly always none. */
  readonly throws: readonly string[];
  /** Groups, as bits: that hold it in the store; that have a row with a visible time, a late one, an item in the late queue. */
  counted: number;
  archived: number;
  late: number;
  queued: number;
  wasQueued: number;
  quarantined: boolean;
  acknowledged: boolean;
  /** Smallest visible time of any row. */
  visibleMs: number;
}

/** One record of the stream, as the broker takes it. */
export interface Arrival {
  readonly atMs: number;
  readonly partitionKey: string;
  readonly bytes: Buffer;
  readonly events: readonly SimulatedEvent[];
}

export interface Traffic {
  readonly startMs: number;
  readonly durationMs: number;
  readonly events: number;
  readonly tenants: number;
  readonly cards: number;
  readonly merchants: number;
  readonly devices: number;
  /** How much later a producer may send something again. */
  readonly repeatedMs: number;
  /** Share of events that travel in KPL aggregates. */
  readonly packed: number;
  /** Of events, by index, those that are sent at all; null for all. @default null */
  readonly kept?: ReadonlySet<number> | null;
}

/** The 8 bytes of an identity as a string of 8 characters: how the store's records carry it. */
export const rawIdentity = (identity: string): string => Buffer.from(identity, "hex").toString("latin1");

const COUNTRIES = ["DE", "NO", "SE", "FR"];
const codec = EventCodec.for("transactions.v1");

/** @returns arrivals in the order of their times, and every event by the 8 bytes of its identity, read as latin1 */
export function produce(dice: Dice, traffic: Traffic): { arrivals: Arrival[]; events: Map<string, SimulatedEvent> } {
  const arrivals: Arrival[] = [];
  const events = new Map<string, SimulatedEvent>();
  const pack = new Map<string, { atMs: number; packer: KplPacker; events: SimulatedEvent[] }>();
  for (let index = 0; index < traffic.events; index++) {
    if (traffic.kept && !traffic.kept.has(index)) continue;
    const name = `e${index}`;
    const atMs = Math.floor(traffic.startMs + (index / traffic.events) * traffic.durationMs);
    const event = eventOf(dice, traffic, index, name, atMs);
    const raw = rawIdentity(event.identity);
    if (!events.has(raw)) events.set(raw, event);
    const partitionKey = String(event.fields["card_id"]);
    const bytes = event.unreadable ? garbage(dice, name) : codec.encode(event.fields);
    const whole = { atMs, partitionKey, bytes, events: [event] };
    if (event.refused || event.throws.length > 0 || dice.unit(`${name} packed`) >= traffic.packed) arrivals.push(whole);
    else {
      // A producer's library packs what its process sends, whatever the keys.
      const producer = `p${dice.below(`${name} producer`, 3)}`;
      let open = pack.get(producer);
      if (open === undefined || open.events.length >= 12 || atMs - open.atMs > 2_000) {
        if (open !== undefined) arrivals.push(closed(open));
        open = { atMs, packer: new KplPacker(16 * 1024), events: [] };
        pack.set(producer, open);
      }
      open.packer.add(partitionKey, bytes);
      open.events.push(event);
    }
    // One that was refused for its time may be right an hour later.
    if (!event.refused && dice.fault("producer repeats", name, 0.04)) {
      const soon = dice.unit(`${name} soon`) < 0.8;
      arrivals.push({
        ...whole,
        atMs: Math.floor(atMs + dice.between(`${name} again`, 1, soon ? 8_000 : traffic.repeatedMs)),
      });
    }
  }
  for (const open of pack.values()) arrivals.push(closed(open));
  arrivals.sort((a, b) => a.atMs - b.atMs || a.events[0].index - b.events[0].index);
  return { arrivals, events };
}

function closed(open: { atMs: number; packer: KplPacker; events: SimulatedEvent[] }): Arrival {
  return {
    atMs: open.atMs + 2_000,
    partitionKey: String(open.events[0].fields["card_id"]),
    bytes: open.packer.take(),
    events: open.events,
  };
}

function eventOf(dice: Dice, traffic: Traffic, index: number, name: string, atMs: number): SimulatedEvent {
  const [timeMs, ahead] = eventTime(dice, name, atMs);
  const tenant = `t${dice.below(`${name} tenant`, traffic.tenants)}`;
  const fields: EventFields = {
    tenant,
    transaction_id: name,
    event_time: timeMs,
    // A few are busy.
    card_id: `c${Math.floor(traffic.cards * dice.unit(`${name} card`) ** 2)}`,
    user_id: null,
    merchant_id: `m${Math.floor(traffic.merchants * dice.unit(`${name} merchant`) ** 2)}`,
    amount: Math.floor(dice.unit(`${name} amount`) * 20_000 - 4_000) / 100,
    currency: "EUR",
    country: dice.pick(`${name} country`, COUNTRIES),
    merchant_category: "grocery",
    status: dice.unit(`${name} status`) < 0.2 ? "declined" : "approved",
    device_id: dice.unit(`${name} till`) < 0.5 ? null : `d${dice.below(`${name} device`, traffic.devices)}`,
    channel: "pos",
  };
  const infinite = dice.fault("contract broken", name, 0.002);
  const unreadable = dice.fault("garbage", name, 0.002);
  if (infinite) fields["amount"] = Number.POSITIVE_INFINITY;
  return {
    index,
    tenant,
    identity: hash64(identityText(tenant, STREAM, timeMs, name)),
    timeMs,
    fields,
    refused: ahead || infinite || unreadable,
    unreadable,
    throws: dice.fault("function throws", name, 0.001) ? thrownOver(dice, name) : [],
    counted: 0,
    archived: 0,
    late: 0,
    queued: 0,
    wasQueued: 0,
    quarantined: false,
    acknowledged: false,
    visibleMs: Number.POSITIVE_INFINITY,
  };
}

/** One entity's hash may be what the function throws over, or what all of them are given. */
function thrownOver(dice: Dice, name: string): readonly string[] {
  const entities = Object.keys(JOIN_KEYS);
  return dice.unit(`${name} thrown over all`) < 0.4 ? entities : [dice.pick(`${name} thrown over`, entities)];
}

/** Most are seconds old; some as late as is allowed, some later; some clocks run ahead, some too far. */
function eventTime(dice: Dice, name: string, atMs: number): [timeMs: number, refused: boolean] {
  const draw = (what: string, from: number, to: number) => Math.floor(dice.between(`${name} ${what}`, from, to));
  if (dice.fault("late", name, 0.06)) return [atMs - draw("late", 10_000, LATENESS_MS), false];
  if (dice.fault("too late", name, 0.02)) return [atMs - draw("too late", LATENESS_MS, 4 * LATENESS_MS), false];
  if (dice.fault("far too late", name, 0.004)) return [atMs - draw("far too late", LATENESS_MS, 7_200_000), false];
  if (dice.fault("ahead", name, 0.03)) return [atMs + draw("ahead", 0, 60_001), false];
  if (dice.fault("too far ahead", name, 0.002)) return [atMs + draw("too far ahead", 60_001 + 4_000, 600_000), true];
  return [atMs - draw("age", 0, 9_000), false];
}

const garbage = (dice: Dice, name: string): Buffer =>
  Buffer.from(
    Array.from({ length: 1 + dice.below(`${name} length`, 40) }, (_, i) => dice.below(`${name} byte ${i}`, 256)),
  );

/** Ids of an entity's type for which a row makes its event visible; one that it does not name was added later (decision 0037). */
export function visibleIds({ fates, fields }: ArchiveRow, entity: string): string[] {
  const own = fates.filter((fate) => fate.entity === entity);
  if (own.length > 0) return own.filter(({ visibleMs }) => visibleMs !== null).map(({ id }) => id);
  const id = fields?.[JOIN_KEYS[entity as keyof typeof JOIN_KEYS]];
  const seen = fates.length === 0 || fates.some(({ visibleMs }) => visibleMs !== null);
  return seen && id !== null && id !== undefined ? [String(id)] : [];
}
