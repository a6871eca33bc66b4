/** Reads of many entities at once, each folded as far as the seal was when something last touched it. */
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import { hash64 } from "../../../adapters/hash.ts";
import type { OnlineReader } from "../../../adapters/online-store/online-store.ts";
import { bucketOf, controlKey, entityKey } from "../../../adapters/valkey/layout.ts";
import { createReader } from "../../../adapters/valkey/reader.ts";
import { RecordPacker } from "../../../adapters/valkey/record.ts";
import { compileGroups } from "../../../core/event.ts";
import { EntityTiles } from "../../../core/tiles/tiles.ts";
import { plan } from "../../support/fixture-plan.ts";
import { openStore, type TestStore } from "../../support/store.ts";
import { startValkey, type TestValkey } from "../../support/valkey.ts";

const MINUTE = 60_000;
const START = Date.UTC(2026, 0, 5, 22, 7);
const CARDS = 12;
let valkey: TestValkey;
let store: TestStore;
let reader: OnlineReader;

beforeAll(async () => {
  valkey = await startValkey();
  store = await openStore(plan, valkey, START - 86_400_000);
  reader = createReader(plan, { host: valkey.host, port: valkey.port, timeoutMs: 5_000 });
});
afterAll(async () => {
  await reader?.close();
  await store?.connection.close();
  await valkey?.stop();
});

const names = plan.views.find(({ name }) => name === "everything")!.features.map(({ name }) => name);
const view = plan.views.find(({ name }) => name === "everything")!;
const packer = new RecordPacker(plan, "payments");
const group = compileGroups(plan, "payments", hash64).find(({ group: { entity } }) => entity === "card")!;

/** One step of time: how long it is, who pays, whom the sweep touches, how far behind the clock the seal is. */
const step = fc.record({
  minutes: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 9 }), fc.constant(61)),
  pays: fc.array(fc.integer({ min: 0, max: CARDS - 1 }), { maxLength: 4 }),
  swept: fc.array(fc.integer({ min: 0, max: CARDS - 1 }), { maxLength: 3 }),
  agoMs: fc.integer({ min: 0, max: 9 * MINUTE }),
});

it("a distinct that has become dense leaves a hash in the compact encoding", async () => {
  const events = Array.from({ length: 60 }, (_, i) => {
    const at = START + i * MINUTE;
    return packer.prepare("dense", `e${i}`, at, {
      id: `e${i}`,
      at,
      card: "c",
      shop: `s${i}`,
      amount: 1,
      country: "NO",
    });
  });
  await store.applier.apply(events);
  await store.seal(START + 180 * MINUTE);
  const bucket = bucketOf("dense", "card", "c");
  const key = entityKey(bucket, "dense", "card", "payments", "c");
  await store.applier.touch(bucket, [{ key, groupId: group.group.id }]);
  const [node] = await store.connection.primaries();
  const sizes = (await node.hvalsBuffer(key)).map((value) => value.length);
  expect(Math.max(...sizes)).toBe(1_025);
  expect(await node.object("ENCODING", key)).toBe("listpack");
});

it("asks for the state of the store before it asks for what it serves", async () => {
  const [node] = await store.connection.primaries();
  const monitor = await node.monitor();
  const seen: string[][] = [];
  monitor.on("monitor", (_: string, args: string[]) => seen.push(args));
  try {
    const ids = ["a", "b"];
    const requests = ids.map((id) => ({ tenant: "order", entity: "card", id, features: names }));
    await reader.read(requests, START);
    await node.ping();
    for (let tries = 0; tries < 100 && !seen.some(([name]) => name === "ping"); tries++) await sleep(10);
    const keys = seen.filter(([name]) => /^(hmget|hscan)$/i.test(name)).map(([, key]) => key);
    const buckets = ids.map((id) => bucketOf("order", "card", id));
    const own = (id: string, bucket: number) => [
      controlKey(bucket),
      entityKey(bucket, "order", "card", "payments", id),
    ];
    expect(keys).toEqual(ids.flatMap((id, i) => own(id, buckets[i])));
  } finally {
    monitor.disconnect();
  }
});

let run = 0;
it.each([
  { encoding: ["listpack"], entries: "512" },
  { encoding: ["hashtable"], entries: "0" },
  // A scan answers all of a small hash, and next to nothing of the same one when it has grown in between.
  { encoding: ["hashtable", "listpack"], entries: "16" },
])("equals the model for every entity, however far each is folded behind the seal ($encoding)", async (hash) => {
  const seen = new Set<string>();
  const [node] = await store.connection.primaries();
  await node.config("SET", "hash-max-listpack-entries", hash.entries);
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 16 }), async (steps) => {
      const tenant = `r${run++}`;
      let nowMs = START + run * 30 * 86_400_000;
      const models = Array.from({ length: CARDS }, () => new EntityTiles(group.group, nowMs - 60 * MINUTE));
      for (const [s, { minutes, pays, swept, agoMs }] of steps.entries()) {
        nowMs += minutes * MINUTE;
        await store.seal(nowMs - 11 * MINUTE);
        const events = pays.map((card, i) => {
          const fields = { id: `e${s}-${i}`, at: nowMs - agoMs, card: `c${card}`, amount: s + i / 4, country: "NO" };
          const contributions = group.channels.map((channel) => channel(fields));
          const prepared = packer.prepare(tenant, fields.id, fields.at, fields);
          models[card].apply({ identity: prepared.identity, timeMs: fields.at, contributions }, 0, nowMs);
          return prepared;
        });
        await store.applier.apply(events);
        for (const card of new Set(swept)) {
          const bucket = bucketOf(tenant, "card", `c${card}`);
          const key = entityKey(bucket, tenant, "card", "payments", `c${card}`);
          await store.applier.touch(bucket, [{ key, groupId: group.group.id }]);
        }
        const asOfMs = nowMs + 17_000;
        const requests = models.map((_, card) => ({ tenant, entity: "card", id: `c${card}`, features: names }));
        const answers = await reader.read(requests, asOfMs);
        for (const key of await node.keys(`*:${tenant}4:card*`)) {
          seen.add(String(await node.object("ENCODING", key)));
        }
        for (const [card, answer] of answers.entries()) {
          const expected = view.features.map((feature) => models[card].read(view, feature, asOfMs));
          expect(answer.values.map((value, i) => ({ card, name: names[i], ...value }))).toEqual(
            expected.map((value, i) => ({ card, name: names[i], ...value })),
          );
        }
      }
    }),
    { numRuns: 15 },
  );
  expect([...seen].sort()).toEqual(hash.encoding);
});
