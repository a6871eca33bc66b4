/**
 * A producer as the generator and SDK users are: Avro events to the broker, packed by KPL or singly, as fast as it is let or at
 * a rate. Runs in a process of its own (producer-process.ts). The event time is the moment of sending.
 */
import { hash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { EventCodec } from "../adapters/avro/event-codec.ts";
import type { BrokerSettings } from "../adapters/broker/open-broker.ts";
import { openCarrier } from "./carrier.ts";
import { seededRandom, transaction } from "./workload.ts";

export interface ProduceOrder {
  readonly broker: BrokerSettings;
  /** The broker's name of it. */
  readonly stream: string;
  readonly packed: boolean;
  readonly events: number;
  /** Events a second; null for as fast as the broker acknowledges. */
  readonly rate: number | null;
  /** Part of every event id: no two orders repeat one. */
  readonly label: string;
}
export interface ProduceResult {
  readonly startedMs: number;
  /** When the broker had acknowledged everything. */
  readonly acknowledgedMs: number;
}

const TICK_MS = 50;
const EVENTS_PER_CALL = { packed: 4_000, single: 500 } as const;
/** Calls under way at once. */
const CALLS = 4;

export async function produce(order: ProduceOrder): Promise<ProduceResult> {
  const { broker, stream, packed, events, rate, label } = order;
  const carrier = openCarrier(broker, stream, packed);
  const random = seededRandom(hash("sha256", label, "buffer").readUInt32LE(0));
  const codec = EventCodec.for("transactions.v1");
  const underWay = new Set<Promise<void>>();
  let failure: Error | null = null;
  const send = async (count: number, from: number): Promise<void> => {
    const batch = Array.from({ length: count }, (_, i) => {
      const fields = transaction(random, `${label}-${from + i}`, Date.now());
      return { key: fields["card_id"] as string, bytes: codec.encode(fields) };
    });
    await carrier.send(batch);
  };
  const startedMs = Date.now();
  const startedAt = performance.now();
  for (let sent = 0; sent < events && failure === null; ) {
    const due = rate === null ? events : Math.floor(((performance.now() - startedAt) / 1000) * rate);
    const count = Math.min(events - sent, due - sent, packed ? EVENTS_PER_CALL.packed : EVENTS_PER_CALL.single);
    if (count > 0) {
      const call = send(count, sent)
        .catch((error: Error) => void (failure ??= error))
        .finally(() => underWay.delete(call));
      underWay.add(call);
      sent += count;
    }
    if (underWay.size >= CALLS) await Promise.race(underWay);
    else if (rate !== null && count < EVENTS_PER_CALL.single) await sleep(TICK_MS);
  }
  await Promise.all(underWay);
  await carrier.close();
  if (failure !== null) throw failure;
  return { startedMs, acknowledgedMs: Date.now() };
}
