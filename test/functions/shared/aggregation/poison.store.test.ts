/** A record over which code of ours throws is set aside alone, whichever step throws: its neighbours are counted, the shard goes on. */
import { Redis } from "iovalkey";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { type ArchiveRow, encodeArchive } from "../../../../adapters/archive/archive.ts";
import type { QuarantinedRecord } from "../../../../adapters/quarantine/quarantine.ts";
import { bucketOf, entityKey } from "../../../../adapters/valkey/layout.ts";
import { createReader } from "../../../../adapters/valkey/reader.ts";
import { RecordPacker } from "../../../../adapters/valkey/record.ts";
import { Watermark, watermarkKey } from "../../../../adapters/valkey/watermark.ts";
import { InfrastructureError } from "../../../../core/errors.ts";
import {
  type AggregationPorts,
  aggregateBatch,
  replayBatch,
  type StreamRecord,
} from "../../../../functions/shared/aggregation/aggregation.ts";
import { plan } from "../../../support/fixture-plan.ts";
import { openStore, type TestStore } from "../../../support/store.ts";
import { startValkey, type TestValkey } from "../../../support/valkey.ts";

const MINUTE = 60_000;
const START = Date.UTC(2026, 0, 5, 22, 17);
const stream = plan.streams[0]!;
const POISON = "poison";

let valkey: TestValkey;
let admin: Redis;
let store: TestStore;
let archived: ArchiveRow[];
let setAside: QuarantinedRecord[];
beforeAll(async () => {
  valkey = await startValkey();
  admin = new Redis({ host: valkey.host, port: valkey.port });
});
beforeEach(async () => {
  await store?.connection.close();
  await admin.flushall();
  store = await openStore(plan, valkey, START - 60 * MINUTE);
  archived = [];
  setAside = [];
});
afterAll(async () => {
  admin?.disconnect();
  await store?.connection.close();
  await valkey?.stop();
});

const isPoison = (bytes: Buffer) => bytes.toString().includes(POISON);
function ports(over: Partial<AggregationPorts> = {}): AggregationPorts {
  return {
    ...{ plan, stream, applier: store.applier, watermark: new Watermark(store.connection) },
    // The fixture's contract is none of the app's own.
    codec: {
      decode: (bytes: Buffer) => ({ fields: JSON.parse(bytes.toString()) }),
    } as unknown as AggregationPorts["codec"],
    packer: new RecordPacker(plan, "payments"),
    archive: {
      write: async (rows) => {
        encodeArchive(rows);
        archived.push(...rows);
        return [];
      },
    },
    quarantine: { write: async (records) => void setAside.push(...records) },
    late: { put: async () => undefined },
    ...over,
  };
}
const record = (id: string, card: string, sequence: number): StreamRecord => ({
  sequence: String(sequence),
  arrivalMs: START,
  bytes: Buffer.from(
    JSON.stringify({ tenant: "t", id, at: START - 1_000, card, shop: null, amount: 1, country: null, online: null }),
  ),
});
const batch = (card = "c") => [
  record("first", card, 1),
  record(POISON, card === "c" ? "p" : card, 2),
  record("last", card, 3),
];

async function countOf(card: string): Promise<unknown> {
  const reader = createReader(plan, { ...valkey, timeoutMs: 5_000 });
  const [answer] = await reader.read(
    [{ tenant: "t", entity: "card", id: card, features: ["everything:n_24h"] }],
    START,
  );
  await reader.close();
  return answer!.values[0]!.value;
}

const steps: readonly [step: string, made: () => Partial<AggregationPorts> | Promise<Partial<AggregationPorts>>][] = [
  [
    "decoding",
    () => ({
      codec: {
        decode(bytes: Buffer) {
          if (isPoison(bytes)) throw new TypeError("cannot read properties of undefined");
          return { fields: JSON.parse(bytes.toString()) };
        },
      } as unknown as AggregationPorts["codec"],
    }),
  ],
  [
    "packing",
    () => {
      const packer = new RecordPacker(plan, "payments");
      const prepare: RecordPacker["prepare"] = (tenant, id, ...rest) => {
        if (id === POISON) throw new RangeError("offset is out of range");
        return packer.prepare(tenant, id, ...rest);
      };
      return { packer: { prepare } as RecordPacker };
    },
  ],
];

it.each(steps)("%s", async (_, made) => {
  const result = await aggregateBatch(ports(await made()), "a", batch());
  expect(result).toMatchObject({ applied: 2, quarantined: 1 });
  expect([await countOf("c"), await countOf("p")]).toEqual([2, null]);
  expect(setAside).toMatchObject([
    { reason: "processing_failed", sequence: "2", message: "an unexpected error; the function's log has it" },
  ]);
  expect(archived.map(({ sequence, reason }) => [sequence, reason])).toEqual([
    ["1", undefined],
    ["3", undefined],
    ["2", "processing_failed"],
  ]);
  expect((await admin.hkeys(watermarkKey("payments"))).sort()).toEqual(["c:a", "t:a"]);
});

it("the store's function, over an entity whose key holds something else", async () => {
  const key = entityKey(bucketOf("t", "card", "p"), "t", "card", plan.groups[0]!.stream, "p");
  await admin.set(key, "no hash");
  const result = await aggregateBatch(ports(), "a", batch());
  // The neighbours' bucket had counted them before the thrower was met.
  expect([result.applied + result.duplicates, result.quarantined]).toEqual([2, 1]);
  expect(await countOf("c")).toBe(2);
  expect(setAside).toMatchObject([{ reason: "store_function_failed", sequence: "2" }]);
});

it("the store's function, over one entity of an event: the archive knows that the other one has counted it", async () => {
  const key = entityKey(bucketOf("t", "card", "p"), "t", "card", plan.groups[0]!.stream, "p");
  await admin.set(key, "no hash");
  const event = record(POISON, "p", 2);
  const bytes = Buffer.from(JSON.stringify({ ...JSON.parse(event.bytes.toString()), shop: "s" }));
  const result = await aggregateBatch(ports(), "a", [record("first", "c", 1), { ...event, bytes }]);
  expect(result).toMatchObject({ quarantined: 1, late: 0 });
  expect(setAside).toMatchObject([{ reason: "store_function_failed", sequence: "2" }]);
  const own = archived.filter(({ sequence }) => sequence === "2");
  expect(own).toMatchObject([
    {
      eventId: POISON,
      fates: [
        { entity: "card", id: "p", fate: "late", visibleMs: null },
        { entity: "shop", id: "s", visibleMs: expect.any(Number) },
      ],
    },
    { reason: "store_function_failed", fates: [] },
  ]);
  expect(own[0]!.reason).toBeUndefined();
  // Once it is mended: each entity has it once, and the time at which it was counted stays.
  await admin.del(key);
  archived = [];
  await aggregateBatch(ports(), "a", [{ ...event, bytes }], { registeredAs: "again-a" });
  expect(archived).toMatchObject([
    {
      fates: [
        { entity: "card", fate: "applied" },
        { entity: "shop", fate: "duplicate", visibleMs: own[0]!.fates[1]!.visibleMs },
      ],
    },
  ]);
});

it("the store's function, over one entity of an event that recovery applies: what the other one counts is archived as well", async () => {
  const key = entityKey(bucketOf("t", "card", "p"), "t", "card", plan.groups[0]!.stream, "p");
  await admin.set(key, "no hash");
  const event = record(POISON, "p", 2);
  const bytes = Buffer.from(JSON.stringify({ ...JSON.parse(event.bytes.toString()), shop: "s" }));
  expect(await replayBatch(ports(), "a", [record("first", "c", 1), { ...event, bytes }])).toMatchObject({ unread: 0 });
  // Its own delivery sets it aside.
  expect(setAside).toEqual([]);
  expect(archived.map(({ sequence, fates }) => [sequence, fates])).toMatchObject([
    ["1", [{ entity: "card", id: "c", visibleMs: expect.any(Number) }]],
    [
      "2",
      [
        { entity: "card", id: "p", fate: "late", visibleMs: null },
        { entity: "shop", id: "s", fate: "duplicate", visibleMs: expect.any(Number) },
      ],
    ],
  ]);
});

it("the row in the archive: the event is counted by then, and comes into the archive by a replay, once the bug is mended", async () => {
  // What no decoder gives today: JSON has no such number.
  const decode = (bytes: Buffer) => {
    const fields = JSON.parse(bytes.toString());
    return { fields: isPoison(bytes) ? { ...fields, note: 1n } : fields };
  };
  const codec = { decode } as unknown as AggregationPorts["codec"];
  const result = await aggregateBatch(ports({ codec }), "a", batch());
  expect(result).toMatchObject({ applied: 3 });
  expect([await countOf("c"), await countOf("p")]).toEqual([2, 1]);
  expect(setAside).toMatchObject([{ reason: "processing_failed", sequence: "2", tenant: "t" }]);
  expect(archived.map(({ sequence, reason }) => [sequence, reason])).toEqual([
    ["1", undefined],
    ["3", undefined],
    ["2", "processing_failed"],
  ]);
  const [seconds, micros] = (await admin.time()).map(Number) as [number, number];
  archived = [];
  const [{ sequence, arrivalMs, bytes }] = setAside as [QuarantinedRecord];
  await aggregateBatch(ports(), "a", [{ sequence, arrivalMs, bytes: Buffer.from(bytes) }], { registeredAs: "again-a" });
  expect(await countOf("p")).toBe(1);
  expect(archived[0]).toMatchObject({ eventId: POISON, fates: [{ fate: "duplicate" }] });
  expect(archived[0]!.fates[0]!.visibleMs).toBeLessThanOrEqual(seconds * 1_000 + micros / 1_000);
});

it("a failure of the archive itself sets nothing aside: the batch is delivered again", async () => {
  const down = new InfrastructureError("archive_unavailable", "no bucket");
  const archive = { write: () => Promise.reject(down) };
  await expect(aggregateBatch(ports({ archive }), "a", batch())).rejects.toBe(down);
  const broken = { write: () => Promise.reject(new TypeError("of no single row")) };
  await expect(aggregateBatch(ports({ archive: broken }), "a", batch())).rejects.toThrow("of no single row");
  expect(setAside).toEqual([]);
});
