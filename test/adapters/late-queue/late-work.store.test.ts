import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type LateItem, LateQueue } from "../../../adapters/late-queue/late-queue.ts";
import { LateWork, type PendingItem } from "../../../adapters/late-queue/late-work.ts";
import { createTable, startEmulator, type TestEmulator, testClients } from "../../harness/emulator.ts";

const TABLE = "late-work-test";
let emulator: TestEmulator;
let queue: LateQueue;
let work: LateWork;

beforeAll(async () => {
  emulator = await startEmulator();
  await createTable(emulator.url, TABLE);
  const { dynamodb } = testClients(emulator.url);
  queue = new LateQueue({ table: TABLE, dynamodb });
  work = new LateWork({ table: TABLE, dynamodb });
});
afterAll(() => emulator?.stop());

const item = (n: number): LateItem => ({
  ...{ tenant: "default", entity: "card", id: `c${n % 3}`, stream: "payments", eventId: `e${n}` },
  ...{ baseIndex: 29_920_000 + n, identity: n.toString(16).padStart(16, "0"), arrivalMs: 1_795_248_000_000 },
  eventTimeMs: (29_920_000 + n) * 60_000,
});
async function all(): Promise<PendingItem[]> {
  const items: PendingItem[] = [];
  for await (const page of work.pages()) items.push(...page);
  return items.sort((a, b) => a.baseIndex - b.baseIndex);
}

describe("LateWork", () => {
  test("reads what the queue holds, and takes out what is done", async () => {
    const items = Array.from({ length: 60 }, (_, n) => item(n));
    await queue.put(items);
    expect(await all()).toEqual(items.map((one) => ({ ...one, attempts: 0, notBeforeMs: 0 })));
    await work.remove(items.slice(1));
    await work.remove(items.slice(30));
    expect((await all()).map(({ eventId }) => eventId)).toEqual(["e0"]);
    await work.remove([]);
  });

  test("counts failures on an item, each of which keeps it away for longer, six hours at most", async () => {
    const [first] = await all();
    await work.putOff(first!, "value_too_long", 1_000);
    const [second] = await all();
    expect(second).toMatchObject({ attempts: 1, notBeforeMs: 61_000, eventId: "e0" });
    await work.putOff(second!, "value_too_long", 1_000);
    expect((await all())[0]).toMatchObject({ attempts: 2, notBeforeMs: 121_000 });
    await work.putOff({ ...second!, attempts: 500 }, "value_too_long", 0);
    expect((await all())[0]).toMatchObject({ attempts: 501, notBeforeMs: 6 * 3_600_000 });
    // Delivered late once more, it is new again: what was wrong may have been put right.
    await queue.put([item(0)]);
    expect((await all())[0]).toMatchObject({ attempts: 0, notBeforeMs: 0 });
  });

  test("does not bring an item back that is gone", async () => {
    const [only] = await all();
    await work.remove([only!]);
    await work.putOff(only!, "value_too_long", 1_000);
    expect(await all()).toEqual([]);
  });
});
