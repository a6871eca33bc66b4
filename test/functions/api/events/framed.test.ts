/** Events in a registry's framing over HTTP: what of them reaches the broker, and every answer that they may get instead. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { EventCodec } from "../../../../adapters/avro/event-codec.ts";
import { reframe } from "../../../../adapters/avro/framing.ts";
import { KplPacker } from "../../../../adapters/kinesis/kpl.ts";
import { FramedCodec } from "../../../../adapters/schema-registry/framed-codec.ts";
import type { FoundSchema } from "../../../../adapters/schema-registry/schema-registry.ts";
import { WriterSchemas } from "../../../../adapters/schema-registry/writer-schemas.ts";
import { InfrastructureError } from "../../../../core/errors.ts";
import { createKey } from "../../../../functions/api/keys/keys.ts";
import { listen, type RunningServer } from "../../../../functions/api/server.ts";
import { caller, transaction } from "../contract/contract-calls.ts";
import { testDependencies } from "../doubles.ts";

const GLUE = "glue-0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";
const codec = EventCodec.for("transactions.v1");
const own = codec.schema;
const without = (name: string) => ({ ...own, fields: own.fields.filter((field) => field.name !== name) });

const ports = testDependencies();
const { broker, dependencies } = ports;
/** What the registry has; it is away while this is null. */
let registered: Record<string, FoundSchema> | null;
let asked: string[];
const registry = {
  name: "r",
  async find(id: string) {
    asked.push(id);
    if (registered === null) throw new InfrastructureError("schema_registry_unavailable", "secret-host is away");
    return registered[id] ?? null;
  },
};
/** Of the contract's own stream alone. A new one knows nothing. */
let reader: FramedCodec;
const keys = { first: "", second: "", readOnly: "", expired: "" };
let server: RunningServer;
let plain: RunningServer;
const of = (running: () => RunningServer) =>
  caller({ baseUrl: () => running().url, keys: () => keys, plan: dependencies.plan, exactBytes: true });
const call = of(() => server);

beforeAll(async () => {
  keys.first = (await createKey(ports.keys, { tenant: "team-a", scopes: ["write"], nowMs: 0 })).key;
  const framed = () => ({
    learn: (all: readonly Uint8Array[]) => reader.learn(all),
    decode: (one: Uint8Array) => reader.decode(one),
  });
  server = await listen({ dependencies: { ...dependencies, ingest: { ...dependencies.ingest!, framed } }, port: 0 });
  plain = await listen({ dependencies, port: 0 });
});
beforeEach(() => {
  const stored = { get: async () => null, put: async () => {} };
  reader = new FramedCodec(codec, new WriterSchemas({ registry, stored }));
  registered = { "confluent-7": { text: JSON.stringify(own) }, [GLUE]: { text: JSON.stringify(own) } };
  asked = [];
  broker.sent.length = 0;
});
afterAll(async () => {
  await server?.close();
  await plain?.close();
});

const headers = { "content-type": "application/vnd.freshet.avro" };
const bytesOf = (over: Record<string, unknown> = {}) =>
  codec.encode({ ...transaction(), tenant: "team-a", ...over } as any);
const send = (body: Buffer, to = call) => to("/v1/events/transactions", { body, headers });

describe("an event that names its schema by an id", () => {
  it.each([
    ["confluent-7", false],
    [GLUE, false],
    [GLUE, true],
  ])("of %s is queued in the contract's own form (compressed: %s)", async (id, compressed) => {
    const event = transaction();
    const reply = await send(reframe(codec.encode({ ...event, tenant: "" } as any), id, compressed));
    expect([reply.status, reply.body.results[0].status]).toEqual([202, "queued"]);
    const [{ record }] = broker.sent;
    expect(codec.decode(Buffer.from(record.data)).fields).toMatchObject({ ...event, tenant: "team-a" });
    expect(record.partitionKey).toBe(event["card_id"]);
    await send(reframe(bytesOf(), id, compressed));
    expect(asked).toEqual([id]);
  });

  it.each<[string, Record<string, FoundSchema>, string, string | undefined]>([
    ["that nobody has registered", {}, "schema_id_unknown", undefined],
    [
      "of another stream's record",
      { "confluent-7": { text: JSON.stringify(EventCodec.for("clicks.v1").schema) } },
      "schema_wrong_record",
      undefined,
    ],
    [
      "that lacks a field",
      { "confluent-7": { text: JSON.stringify(without("card_id")) } },
      "schema_incompatible",
      "card_id",
    ],
    ["that is not Avro", { "confluent-7": { text: null } }, "schema_unreadable", undefined],
  ])("%s is refused with the reason", async (_, has, code, field) => {
    registered = has;
    const { status, body } = await send(reframe(bytesOf(), "confluent-7"));
    expect([status, body.code, body.field]).toEqual([400, code, field]);
    expect(body.results).toMatchObject([{ status: "invalid", code }]);
    expect(broker.sent).toEqual([]);
  });

  it("is refused when its body is damaged, another tenant's, or what no event may be", async () => {
    const compressed = reframe(bytesOf(), GLUE, true);
    const [torn, foreign, late] = [
      await send(compressed.subarray(0, -4)),
      await send(reframe(bytesOf({ tenant: "team-b" }), "confluent-7")),
      await send(reframe(bytesOf({ event_time: 1 }), "confluent-7")),
    ];
    expect([torn, foreign, late].map(({ status, body }) => [status, body.code])).toEqual([
      [400, "framing_corrupt"],
      [400, "tenant_mismatch"],
      [400, "event_time_invalid"],
    ]);
    expect(broker.sent).toEqual([]);
  });

  it("waits for a registry that is away, at its sender, unless its schema is known", async () => {
    expect((await send(reframe(bytesOf(), "confluent-7"))).status).toBe(202);
    registered = null;
    expect((await send(reframe(bytesOf(), "confluent-7"))).status).toBe(202);
    const reply = await send(reframe(bytesOf(), GLUE));
    expect([reply.status, reply.body.code, reply.headers.get("retry-after")]).toEqual([
      503,
      "schema_registry_unavailable",
      "2",
    ]);
    expect(JSON.stringify(reply.body)).not.toContain("secret-host");
    registered = { [GLUE]: { text: JSON.stringify(own) } };
    expect((await send(reframe(bytesOf(), GLUE))).status).toBe(202);
    expect(broker.sent).toHaveLength(3);
  });

  it("within an aggregate is none, so that a request asks for one schema at most", async () => {
    const packer = new KplPacker();
    for (let id = 1; id <= 3; id++) packer.add("k", reframe(bytesOf(), `confluent-${id}`));
    const { status, body } = await send(packer.take());
    expect([status, body.code, asked]).toEqual([400, "not_single_object", []]);
  });

  it("is none where there is no registry", async () => {
    const { status, body } = await send(
      reframe(bytesOf(), "confluent-7"),
      of(() => plain),
    );
    expect([status, body.code]).toEqual([400, "not_single_object"]);
  });
});
