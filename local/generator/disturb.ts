/** What goes wrong between a producer and the broker: repeated, late, disordered and broken events. */
import { EventCodec } from "../../adapters/avro/event-codec.ts";
import { Random } from "./random.ts";
import type { SimulatedEvent, StreamName } from "./simulate.ts";

export type Kind = "event" | "duplicate" | "late" | "disorder" | "malformed";

export interface Outgoing {
  readonly kind: Kind;
  readonly event: SimulatedEvent;
  /** Avro single-object encoding; of a malformed one, what is left of it. */
  readonly bytes: Buffer;
  /** What is wrong with a malformed one. */
  readonly fault: string | null;
}

export interface Fractions {
  readonly duplicates?: number;
  /** Events older than any open tile: 20 to 60 minutes. */
  readonly late?: number;
  /** Events up to 8 minutes older than their neighbours, within the allowed lateness. */
  readonly disorder?: number;
  readonly malformed?: number;
}

const codecs: Readonly<Record<StreamName, EventCodec>> = {
  transactions: EventCodec.for("transactions.v1"),
  clicks: EventCodec.for("clicks.v1"),
  labels: EventCodec.for("labels.v1"),
};
/** A repeat comes up to this many events later. */
const REPEAT_WITHIN = 50;

export function* disturb(events: Iterable<SimulatedEvent>, seed: number, fractions: Fractions): Generator<Outgoing> {
  const { duplicates = 0, late = 0, disorder = 0, malformed = 0 } = fractions;
  const random = new Random(seed, 3);
  const repeats: { in: number; out: Outgoing }[] = [];
  for (const event of events) {
    let out: Outgoing;
    const draw = random.next();
    // A label is late by nature, and one older than its transaction would be none.
    const [older, mixed] = event.stream === "labels" ? [0, 0] : [late, disorder];
    if (draw < malformed) out = breakEvent(event, random);
    else if (draw < malformed + older) out = shifted(event, "late", random.between(20, 60));
    else if (draw < malformed + older + mixed) out = shifted(event, "disorder", random.between(0.5, 8));
    else out = whole("event", event);
    yield out;
    if (out.kind !== "malformed" && random.chance(duplicates)) {
      repeats.push({ in: random.whole(0, REPEAT_WITHIN), out: { ...out, kind: "duplicate" } });
    }
    for (let i = repeats.length - 1; i >= 0; i--) {
      if (repeats[i].in-- <= 0) yield repeats.splice(i, 1)[0].out;
    }
  }
  for (const { out } of repeats) yield out;
}

function shifted(event: SimulatedEvent, kind: Kind, minutes: number): Outgoing {
  const timeMs = Math.floor(event.timeMs - minutes * 60_000);
  return whole(kind, { ...event, timeMs, fields: { ...event.fields, event_time: timeMs } });
}

/** Encoded when somebody asks for the bytes: a file has no use for them. */
function whole(kind: Kind, event: SimulatedEvent): Outgoing {
  let bytes: Buffer | undefined;
  return {
    kind,
    event,
    fault: null,
    get bytes() {
      bytes ??= codecs[event.stream].encode({ ...event.fields });
      return bytes;
    },
  };
}

function breakEvent(event: SimulatedEvent, random: Random): Outgoing {
  const codec = codecs[event.stream];
  const fault = random.pick(["truncated", "unknown_schema", "no_id", "future", "not_avro"]);
  let bytes = codec.encode({ ...event.fields });
  if (fault === "truncated") bytes = bytes.subarray(0, random.whole(11, bytes.length - 1));
  if (fault === "unknown_schema")
    bytes = Buffer.concat([bytes.subarray(0, 2), Buffer.from(random.hex(16), "hex"), bytes.subarray(10)]);
  if (fault === "no_id") {
    const idField = { transactions: "transaction_id", clicks: "click_id", labels: "label_id" }[event.stream];
    bytes = codec.encode({ ...event.fields, [idField]: "" });
  }
  if (fault === "future") bytes = codec.encode({ ...event.fields, event_time: event.timeMs + 86_400_000 });
  if (fault === "not_avro") bytes = Buffer.from(`{"id":"${event.id}"}`);
  return { kind: "malformed", event, bytes, fault };
}
