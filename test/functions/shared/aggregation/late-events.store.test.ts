/** Events later than the allowed lateness, while the seal is about to pass them: applied ones are archived before it does. */
import { Redis } from "iovalkey";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { ArchiveRow } from "../../../../adapters/archive/archive.ts";
import { StoreApplier } from "../../../../adapters/valkey/applier.ts";
import { ValkeyConnection } from "../../../../adapters/valkey/connection.ts";
import { ControlHashes } from "../../../../adapters/valkey/control.ts";
import { RecordPacker } from "../../../../adapters/valkey/record.ts";
import { Watermark, watermarkKey } from "../../../../adapters/valkey/watermark.ts";
import { EMPTY_LOCK } from "../../../../core/compile/compile.ts";
import { InfrastructureError } from "../../../../core/errors.ts";
import {
  type AggregationPorts,
  aggregateBatch,
  type StreamRecord,
} from "../../../../functions/shared/aggregation/aggregation.ts";
import { type ControlPorts, controlStep } from "../../../../functions/shared/control-loop.ts";
import { plan } from "../../../support/fixture-plan.ts";
import { MemoryControlTable } from "../../../support/memory-control-table.ts";
import { startValkey, type TestValkey } from "../../../support/valkey.ts";

const MINUTE = 60_000;
/** Lateness, the function's timeout and a minute. */
const LAG_MS = 12 * MINUTE;
const NOW = Math.floor(Date.now() / MINUTE) * MINUTE;
/** An idle stream: its seal stands an hour behind. */
const SEAL = NOW - 60 * MINUTE - LAG_MS;
const stream = plan.streams[0];

let valkey: TestValkey;
let admin: Redis;
let connection: ValkeyConnection;
let control: ControlPorts;
let watermark: Watermark;
/** What has been archived, and what happens when it is. */
let archived: ArchiveRow[];
let archiving: () => Promise<void>;
beforeAll(async () => {
  valkey = await startValkey();
  admin = new Redis({ host: valkey.host, port: valkey.port });
});
afterAll(async () => {
  admin?.disconnect();
  await valkey?.stop();
});
beforeEach(async () => {
  await admin.flushall();
  connection = new ValkeyConnection(valkey);
  watermark = new Watermark(connection);
  archived = [];
  archiving = async () => {};
  control = {
    ...{ plan, lock: EMPTY_LOCK, watermark, table: new MemoryControlTable().port, timeoutMs: MINUTE },
    imports: async () => 0,
    controls: new ControlHashes(connection, plan),
    loadFunction: () => new StoreApplier(connection, plan, 0).loadFunction(),
  };
  await tick();
  await admin.hset(watermarkKey("payments"), "origin", NOW - 60 * MINUTE);
});
afterEach(() => connection.close());

const tick = () =>
  controlStep(
    control,
    { payments: { createdAtMs: NOW - 60 * MINUTE, shards: [{ id: "a", parents: [], closed: false }] } },
    NOW,
  );
const sealMs = async () => (await tick()).seals["payments"];
const ports = (): AggregationPorts => ({
  plan,
  stream,
  // The fixture's contract is none of the app's own.
  codec: {
    decode: (bytes: Buffer) => ({ fields: JSON.parse(bytes.toString()) }),
  } as unknown as AggregationPorts["codec"],
  packer: new RecordPacker(plan, "payments"),
  applier: new StoreApplier(connection, plan, 1),
  watermark,
  archive: {
    write: async (rows) => {
      await archiving();
      archived.push(...rows);
      return [];
    },
  },
  quarantine: { write: async () => undefined as never },
  late: { put: async () => undefined as never },
});
const record = (sequence: number, eventMs: number, arrivalMs: number): StreamRecord => ({
  sequence: String(sequence).padStart(4, "0"),
  arrivalMs,
  bytes: Buffer.from(
    JSON.stringify({
      ...{
        tenant: "t",
        id: `p${sequence}`,
        at: eventMs,
        card: "c",
        shop: null,
        amount: 1,
        country: null,
        online: null,
      },
    }),
  ),
});
const deliver = (...records: StreamRecord[]) => aggregateBatch(ports(), "a", records);
const fates = () => archived.map(({ eventId, fates: [{ fate }] }) => `${eventId} ${fate}`);
const LATE = NOW - LAG_MS - 7 * MINUTE + 1_234;

describe("a batch of which nobody knows yet what it is, while the schema registry is away", () => {
  it("holds the seal while other batches of its shard go on", async () => {
    const then = NOW - 30 * MINUTE;
    const [unknown, known] = [record(1, then, then), record(2, NOW, NOW)];
    let isAway = true;
    const codec = {
      learn: async (records: readonly Uint8Array[]) => {
        const isUnknown = records.some((bytes) => unknown.bytes.equals(bytes));
        if (isAway && isUnknown) throw new InfrastructureError("schema_registry_unavailable", "away");
      },
      decode: ports().codec.decode,
    };
    const delivered = (...records: StreamRecord[]) => aggregateBatch({ ...ports(), codec }, "a", records);
    await expect(delivered(unknown)).rejects.toThrow("away");
    await expect(delivered(unknown)).rejects.toThrow("away");
    await delivered(known);
    expect(await sealMs()).toBe(then - LAG_MS);
    isAway = false;
    await delivered(unknown);
    expect(await sealMs()).toBe(NOW - LAG_MS);
    expect(fates()).toEqual(["p2 applied", "p1 applied"]);
  });
});

describe("an event above the seal that is later than the allowed lateness", () => {
  it("stays above it while the batch is being archived", async () => {
    await deliver(record(1, NOW, NOW - MINUTE));
    let during = 0;
    archiving = async () => {
      during = await sealMs();
    };
    await deliver(record(2, LATE, NOW));
    // Up to its base tile, and no further.
    expect(during).toBe(LATE - 1_234);
    expect(await sealMs()).toBe(NOW - LAG_MS);
    expect(fates()).toEqual(["p1 applied", "p2 applied"]);
  });

  it("stays above it from the apply to the delivery that archives it", async () => {
    archiving = async () => {
      throw new Error("killed");
    };
    await expect(deliver(record(1, NOW, NOW), record(2, LATE, NOW))).rejects.toThrow("killed");
    archiving = async () => {};
    // Bisected: the first half is done, and the second one keeps its protection.
    await deliver(record(1, NOW, NOW));
    expect(await sealMs()).toBe(LATE - 1_234);
    await deliver(record(2, LATE, NOW));
    expect(fates()).toEqual(["p1 duplicate", "p2 duplicate"]);
    expect(await sealMs()).toBe(NOW - LAG_MS);
    expect(Object.keys(await admin.hgetall(watermarkKey("payments"))).sort()).toEqual([
      ...["c:a", "origin", "seal", "t:a"],
    ]);
  });

  it("holds the seal for no longer beside events that are sealed already", async () => {
    await deliver(record(1, NOW - 10 * MINUTE, NOW - 10 * MINUTE));
    const standing = await sealMs();
    expect(standing).toBe(NOW - 10 * MINUTE - LAG_MS);
    await deliver(record(4, NOW, NOW));
    let during = 0;
    archiving = async () => {
      during = await sealMs();
    };
    await deliver(record(2, SEAL - 5 * MINUTE, NOW), record(3, NOW - LAG_MS - 4 * MINUTE, NOW));
    expect(during).toBe(NOW - LAG_MS - 4 * MINUTE);
    expect(fates()).toEqual(["p1 applied", "p4 applied", "p2 late", "p3 applied"]);
  });

  it("is not begun while the seal is passing it", async () => {
    await deliver(record(1, NOW, NOW));
    const moveSeal = control.controls.moveSeal.bind(control.controls);
    let begun: Promise<unknown> | null = null;
    let early = true;
    control.controls.moveSeal = async (stream, toMs) => {
      // As an invocation that has decoded its batch when control has read the registrations.
      begun ??= deliver(record(2, LATE, NOW));
      await Promise.race([begun, new Promise((resolve) => setTimeout(resolve, 100))]);
      early &&= archived.length === 1;
      await moveSeal(stream, toMs);
    };
    expect(await sealMs()).toBe(NOW - LAG_MS);
    await begun;
    expect(early).toBe(true);
    expect(fates()).toEqual(["p1 applied", "p2 late"]);
  });

  it("is not passed by a move that is heard of when its announcement has run out", async () => {
    await deliver(record(1, NOW, NOW));
    const { controls } = control;
    const moveSeal = controls.moveSeal.bind(controls);
    let arrives = (): Promise<void> => Promise.reject(new Error("nothing was sent"));
    controls.moveSeal = async (stream, toMs, untilUs) => {
      const leftUs = untilUs! - Date.now() * 1_000;
      expect(leftUs).toBeGreaterThan(0);
      // Within a minute the announcement no longer counts: an event may begin below the seal of that move.
      expect(leftUs).toBeLessThan(60_000_000);
      arrives = () => moveSeal(stream, toMs, untilUs! - 60_000_000);
      throw new Error("timed out");
    };
    await expect(sealMs()).rejects.toThrow("timed out");
    await admin.hset(watermarkKey("payments"), "next", `${NOW}:${(Date.now() - 61_000) * 1_000}`);
    archiving = arrives;
    await deliver(record(2, LATE, NOW));
    const [group] = plan.groups;
    expect((await controls.group(group!))[0]!.sealMs).toBe(SEAL);
    controls.moveSeal = moveSeal;
    archiving = async () => {};
    expect(await sealMs()).toBe(NOW - LAG_MS);
    expect(fates()).toEqual(["p1 applied", "p2 applied"]);
  });

  it("waits no longer for a move whose control run is dead", async () => {
    const dead = `${(Date.now() - 61_000) * 1_000}`;
    await admin.hset(watermarkKey("payments"), "next", `${NOW}:${dead}`);
    await deliver(record(1, LATE, NOW));
    expect(fates()).toEqual(["p1 applied"]);
    await admin.hset(watermarkKey("payments"), "next", `${NOW}:${Date.now() * 1_000}`);
    await expect(deliver(record(2, LATE, NOW))).rejects.toMatchObject({ code: "seal_moving" });
    expect(fates()).toEqual(["p1 applied"]);
  });
});
