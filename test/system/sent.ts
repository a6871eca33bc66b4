/** Events of one tenant, sent by every way there is, and what became of each at the door. */
import { expect } from "vitest";
import { KplPacker } from "../../adapters/kinesis/kpl.ts";
import { disturb, type Outgoing } from "../../local/generator/disturb.ts";
import { type StreamName, simulate } from "../../local/generator/simulate.ts";
import { brokerSink, httpSink } from "../../local/generator/sinks.ts";
import { createTenant, deployed } from "../support/deployed.ts";
import { GroundTruth } from "./oracle.ts";
import { type Delivery, RecordingBroker } from "./producer.ts";

export const STREAMS: readonly StreamName[] = ["transactions", "clicks", "labels"];
/** What each fault of the generator is refused for, at the edge and behind direct producers alike. */
export const REASONS: Readonly<Record<string, string>> = {
  truncated: "avro_truncated",
  unknown_schema: "schema_unknown",
  no_id: "event_id_missing",
  future: "event_time_future",
  not_avro: "not_single_object",
};
/** What one tenant sent, and what must have become of it. */
export interface Sent {
  readonly tenant: string;
  readonly key: string;
  /** Everything that was acknowledged, whole or broken, each delivery once. */
  readonly acknowledged: Outgoing[];
  /** Those of them whose place in the broker is known. */
  readonly placed: Map<Delivery, Outgoing>;
  truth: GroundTruth;
}

export function simulation(tenant: string, seed: number, rate: number) {
  const toMs = Date.now();
  return simulate({
    tenant,
    seed,
    fromMs: toMs - 90_000,
    toMs,
    transactionsPerSecond: rate,
    clicksPerSecond: rate,
    customers: 30,
    merchants: 10,
    fraudRate: 0.03,
  });
}

export async function newSent(): Promise<Sent> {
  return { ...(await createTenant()), acknowledged: [], placed: new Map(), truth: new GroundTruth([]) };
}

/** A quarter of the events each way; a repeated event may come another way than the first time. */
export async function sendEverywhere(sent: Sent): Promise<void> {
  const fractions = { duplicates: 0.08, late: 0.04, disorder: 0.06, malformed: 0.1 };
  const outs = [...disturb(simulation(sent.tenant, 1, 12), 1, fractions)];
  const part = (way: number) => outs.filter((_, i) => i % 4 === way);

  // The sink breaks events in JSON's own way; none of those is acknowledged.
  const json = part(0);
  const whole = json.filter(({ fault }) => fault === null);
  expect(await httpSink(deployed().api.url, sent.key).send(json)).toBe(whole.length);
  sent.acknowledged.push(...whole);

  await postAvro(sent, part(1));
  const broker = new RecordingBroker();
  for (const [packed, events] of [
    [false, part(2)],
    [true, part(3)],
  ] as const) {
    expect(await brokerSink(broker.client, deployed().streams, packed, 1).send(events)).toBe(events.length);
    sent.acknowledged.push(...events);
  }
  broker.close();
  place(sent, broker.deliveries);
}

export async function sendPacked(sent: Sent, outs: readonly Outgoing[]): Promise<void> {
  const broker = new RecordingBroker();
  expect(await brokerSink(broker.client, deployed().streams, true, 2).send(outs)).toBe(outs.length);
  broker.close();
  sent.acknowledged.push(...outs);
  place(sent, broker.deliveries);
}

/** Aggregated records over HTTP; each broken event is refused by name. */
async function postAvro(sent: Sent, outs: readonly Outgoing[]): Promise<void> {
  for (const stream of STREAMS) {
    const events = outs.filter(({ event }) => event.stream === stream);
    for (let from = 0; from < events.length; from += 100) {
      const some = events.slice(from, from + 100);
      const packer = new KplPacker();
      for (const { bytes, event } of some) expect(packer.add(event.partitionKey, bytes)).toBe(true);
      const answer = await fetch(`${deployed().serve.url}/v1/events/${stream}`, {
        method: "POST",
        headers: { "x-api-key": sent.key, "content-type": "application/vnd.freshet.avro" },
        body: new Uint8Array(packer.take()),
      });
      const { results } = (await answer.json()) as { results: { status: string; code?: string }[] };
      expect(results.map(({ status, code }) => code ?? status)).toEqual(
        some.map(({ fault }) => (fault === null ? "queued" : REASONS[fault])),
      );
      sent.acknowledged.push(...some.filter(({ fault }) => fault === null));
    }
  }
}

/** Finds the event of each delivery by its bytes, which a repeated event shares with its first. */
function place(sent: Sent, deliveries: readonly Delivery[]): void {
  const byBytes = new Map(sent.acknowledged.map((out) => [out.bytes.toString("latin1"), out]));
  for (const delivery of deliveries) {
    const out = byBytes.get(delivery.bytes.toString("latin1"));
    if (out === undefined) throw new Error(`delivery ${delivery.sequence} holds bytes that nobody sent`);
    sent.placed.set(delivery, out);
  }
}
