import { expect, test } from "vitest";
import { EventCodec } from "../../../adapters/avro/event-codec.ts";
import { fingerprintOf } from "../../../adapters/avro/fingerprint.ts";
import { framingOf } from "../../../adapters/avro/framing.ts";
import type { SchemaToPush } from "../../../adapters/schema-registry/schema-registry.ts";
import { disturb, type Outgoing } from "../../../local/generator/disturb.ts";
import { framedSink } from "../../../local/generator/framed-sink.ts";
import { type StreamName, simulate } from "../../../local/generator/simulate.ts";

const START = Date.UTC(2026, 0, 5, 12);
const events = simulate({ seed: 7, fromMs: START, toMs: START + 600_000, transactionsPerSecond: 3 });
const batch = [...disturb(events, 7, { malformed: 0.05, duplicates: 0.05 })];
const topics: Record<StreamName, string> = { transactions: "t-transactions", clicks: "t-clicks", labels: "t-labels" };

function sinkTo(lookUp: (schema: SchemaToPush) => Promise<string | null>) {
  const sent: Outgoing[] = [];
  const inner = {
    send: async (part: readonly Outgoing[]) => sent.push(...part),
    close: async () => {},
  };
  return { sent, sink: framedSink(inner, { name: "http://registry", lookUp }, topics) };
}

test("sends the same events under the registry's ids, each asked for once; what is broken stays as it is", async () => {
  const asked: SchemaToPush[] = [];
  const { sent, sink } = sinkTo(async (schema) => `confluent-${asked.push(schema)}`);
  await sink.send(batch.slice(0, 100));
  await sink.send(batch.slice(100));
  const streams = [...new Set(batch.map(({ event }) => event.stream))];
  expect(asked.map(({ subject }) => subject).sort()).toEqual(streams.map((name) => `${topics[name]}-value`).sort());
  expect(sent.length).toBe(batch.length);
  expect(batch.some(({ kind }) => kind === "malformed")).toBe(true);
  const ofAsked = asked.map(({ text }) => fingerprintOf(JSON.parse(text)));
  const ofContracts = new Map(streams.map((name) => [name, fingerprintOf(EventCodec.for(`${name}.v1`).schema)]));
  sent.forEach((out, i) => {
    const given = batch[i];
    if (given.kind === "malformed") {
      expect(out.bytes).toEqual(given.bytes);
      return;
    }
    const { id, bodyStart } = framingOf(out.bytes)!;
    const at = Number(id.slice("confluent-".length)) - 1;
    expect(asked[at].subject).toBe(`${topics[given.event.stream]}-value`);
    // The schema that the id stands for is the one that the body was written with.
    const codec = EventCodec.for(`${given.event.stream}.v1`);
    expect(ofAsked[at]).toBe(ofContracts.get(given.event.stream));
    const body = out.bytes.subarray(bodyStart);
    expect(codec.decode(Buffer.concat([codec.encode({ ...given.event.fields }).subarray(0, 10), body])).fields).toEqual(
      codec.decode(given.bytes).fields,
    );
  });
});

test("sends nothing of a contract that was not pushed", async () => {
  const { sent, sink } = sinkTo(async () => null);
  await expect(sink.send(batch)).rejects.toMatchObject({
    code: "schema_not_pushed",
    message: expect.stringMatching(/^http:\/\/registry has no schema of \w+\.v1 under t-\w+-value/),
  });
  expect(sent).toEqual([]);
});
