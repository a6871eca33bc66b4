import { describe, expect, test } from "vitest";
import { EventCodec } from "../../../adapters/avro/event-codec.ts";
import { RecordError } from "../../../core/errors.ts";
import { checkEvent } from "../../../core/event.ts";
import { plan } from "../../../features/plan.ts";
import { disturb, type Kind, type Outgoing } from "../../../local/generator/disturb.ts";
import { simulate } from "../../../local/generator/simulate.ts";

const START = Date.UTC(2026, 0, 5, 12);
const events = [...simulate({ seed: 7, fromMs: START, toMs: START + 3_600_000, transactionsPerSecond: 3 })];
const fractions = { duplicates: 0.01, late: 0.02, disorder: 0.05, malformed: 0.01 };
const sent = [...disturb(events, 7, fractions)];
const of = (kind: Kind) => sent.filter((out) => out.kind === kind);
const original = new Map(events.map((event) => [event.id, event]));

function decode({ event, bytes }: Outgoing) {
  const stream = plan.streams.find(({ name }) => name === event.stream)!;
  const { fields } = EventCodec.for(stream.contract).decode(bytes);
  return checkEvent(stream, fields, original.get(event.id)!.timeMs);
}

test("is deterministic by seed", () => {
  expect([...disturb(events, 7, fractions)]).toEqual(sent);
  expect([...disturb(events, 8, fractions)]).not.toEqual(sent);
});

test("without fractions every event goes as it is", () => {
  const plain = [...disturb(events, 7, {})];
  expect(plain.map(({ event }) => event)).toEqual(events);
  expect(new Set(plain.map(({ kind }) => kind))).toEqual(new Set(["event"]));
});

test.each(Object.entries({ duplicate: 0.01, late: 0.02, disorder: 0.05, malformed: 0.01 }) as [Kind, number][])(
  "the share of %s is %d",
  (kind, share) => {
    // Four standard deviations of a binomial: wide enough for every seed, far too narrow for a wrong fraction.
    const allowed = 4 * Math.sqrt((share * (1 - share)) / events.length);
    expect(Math.abs(of(kind).length / events.length - share)).toBeLessThan(allowed + share * 0.05);
  },
);

test("every event is sent, whatever was done to it", () => {
  expect(new Set(sent.map(({ event }) => event.id))).toEqual(new Set(original.keys()));
  expect(sent.length).toBe(events.length + of("duplicate").length);
});

test("a duplicate is the same bytes again, soon after", () => {
  const positions = new Map(sent.map((out, i) => [out, i]));
  for (const copy of of("duplicate")) {
    const first = sent.find(({ event }) => event.id === copy.event.id)!;
    expect(copy.bytes.equals(first.bytes)).toBe(true);
    expect(positions.get(copy)! - positions.get(first)!).toBeGreaterThan(0);
    expect(positions.get(copy)! - positions.get(first)!).toBeLessThan(120);
  }
});

describe("late and disordered events", () => {
  test.each([
    ["late", 20, 60],
    ["disorder", 0.5, 8],
  ] as const)("%s ones are %d to %d minutes old, on the wire too", (kind, low, high) => {
    for (const out of of(kind)) {
      const { eventTimeMs } = decode(out);
      const minutes = (original.get(out.event.id)!.timeMs - eventTimeMs) / 60_000;
      expect(minutes).toBeGreaterThanOrEqual(low - 0.001);
      expect(minutes).toBeLessThanOrEqual(high + 0.001);
      expect(out.event.timeMs).toBe(eventTimeMs);
    }
  });

  test("a label is never moved before its transaction", () => {
    const labels = [...disturb(events, 7, { late: 0.5, disorder: 0.5 })].filter(
      ({ event }) => event.stream === "labels",
    );
    expect(labels.length).toBeGreaterThan(50);
    expect(new Set(labels.map(({ kind }) => kind))).toEqual(new Set(["event"]));
  });
});

test("what is malformed is refused, each fault in its own way", () => {
  const codes: Record<string, Set<string>> = {};
  for (const out of of("malformed")) {
    let code = "taken";
    try {
      decode(out);
    } catch (error) {
      code = error instanceof RecordError ? error.code : String(error);
    }
    (codes[out.fault!] ??= new Set()).add(code);
  }
  expect(codes).toEqual({
    truncated: new Set(["avro_truncated"]),
    unknown_schema: new Set(["schema_unknown"]),
    no_id: new Set(["event_id_missing"]),
    future: new Set(["event_time_future"]),
    not_avro: new Set(["not_single_object"]),
  });
});

test("everything else is taken", () => {
  const taken = sent.filter(({ kind }) => kind !== "malformed");
  expect(taken.filter((out) => decode(out).eventId !== out.event.id)).toEqual([]);
});
