/** When a real Valkey refuses, forgets or changes hands: nothing is lost, nothing is counted twice, and the message helps. */

import { Redis } from "iovalkey";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { STORE_STATES, type StoreCondition } from "../../../adapters/online-store/store-states.ts";
import { StoreApplier } from "../../../adapters/valkey/applier.ts";
import { Batch } from "../../../adapters/valkey/calls.ts";
import { ValkeyConnection } from "../../../adapters/valkey/connection.ts";
import { birthsOf } from "../../../adapters/valkey/control.ts";
import { bucketOf, controlKey, decodeControl, encodeControl, groupField } from "../../../adapters/valkey/layout.ts";
import { createReader } from "../../../adapters/valkey/reader.ts";
import { RecordPacker } from "../../../adapters/valkey/record.ts";
import { Watermark } from "../../../adapters/valkey/watermark.ts";
import type { FreshetError } from "../../../core/errors.ts";
import { plan } from "../../support/fixture-plan.ts";
import { openStore, type TestStore } from "../../support/store.ts";
import { startValkey, type TestValkey } from "../../support/valkey.ts";

const MINUTE = 60_000;
const START = Date.UTC(2026, 0, 5, 22, 17);
const packer = new RecordPacker(plan, "payments");
const [cards] = plan.groups;
const HOUR_LEVEL = cards.levels.find(({ sizeMs }) => sizeMs === 60 * MINUTE)!.id;

let valkey: TestValkey;
let admin: Redis;
let store: TestStore;
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
  store = await openStore(plan, valkey, START - 60 * MINUTE);
});
afterEach(async () => {
  await store.connection.close();
});

const event = (id: string, card = "c1", shop: string | null = null, at = START) =>
  packer.prepare("default", id, at, { id, at, card, shop, amount: 1, country: "NO", online: true });
const events = (count: number, cardOf = (n: number) => `c${n % 7}`) =>
  Array.from({ length: count }, (_, n) => event(`e${n}`, cardOf(n)));
async function fates(list = [event("e1")], applier = store.applier): Promise<string[]> {
  return (await applier.apply(list)).fates.flat().map(({ fate }) => fate);
}
async function refusal(run: () => Promise<unknown>): Promise<string> {
  try {
    await run();
  } catch (error) {
    const { name, code, message, repair } = error as FreshetError;
    return `${name} ${code}: ${message}; ${repair}`;
  }
  return "accepted";
}
const bucket = bucketOf("default", "card", "c1");
const head = async () => decodeControl((await admin.hgetBuffer(controlKey(bucket), "c"))!);
async function count(card = "c1", t = START + MINUTE) {
  const reader = createReader(plan, { ...valkey, timeoutMs: 5_000 });
  const [answer] = await reader.read(
    [{ tenant: "default", entity: "card", id: card, features: ["everything:n_24h"] }],
    t,
  );
  await reader.close();
  return { value: answer.values[0].value, degraded: answer.degraded };
}

describe("another primary", () => {
  const other = "ab".repeat(20);
  /** As if the bucket's last writes had gone to a primary that is gone now. */
  const changeHands = () => admin.hset(controlKey(bucket), "c", encodeControl(1, "ok", other));

  it("is noticed by the next apply, which goes on, and only once", async () => {
    expect((await store.applier.apply([event("before")])).failover).toBe(false);
    await changeHands();
    for (const id of ["a", "b"]) {
      const result = await store.applier.apply([event(id)]);
      expect([result.failover, result.fates[0][0].fate]).toEqual([true, "applied"]);
      // The run id of the primary that may have had more stays on record until what it had is replayed.
      expect(await head()).toMatchObject({ state: "failover", run: Buffer.from("ab".repeat(8), "hex") });
    }
    expect(await fates([event("before")])).toEqual(["duplicate"]);
    expect(await count()).toEqual({ value: 3, degraded: "failover" });
  });

  it("freezes the bucket's seal and its folds until it is accepted", async () => {
    await store.applier.apply([event("a")]);
    await changeHands();
    await store.applier.apply([event("b")]);
    const fields = async () => (await admin.hkeysBuffer(event("a").updates[0].key)).map((name) => name.toString("hex"));
    const before = await fields();
    await store.seal(START + 120 * MINUTE);
    await store.applier.touch(bucket, [{ key: event("a").updates[0].key, groupId: cards.id }]);
    expect(await fates([event("late")])).toEqual(["applied"]);
    expect(await fields()).toEqual(before);
    await store.controls.setState(1, ["failover"], "ok");
    await store.seal(START + 120 * MINUTE);
    expect(await fates([event("too late")])).toEqual(["sealed"]);
    await store.applier.touch(bucket, [{ key: event("a").updates[0].key, groupId: cards.id }]);
    expect((await fields()).some((name) => name.startsWith("69"))).toBe(false);
    expect((await store.applier.apply([event("new", "c1", null, START + 121 * MINUTE)])).failover).toBe(false);
    expect(await count("c1", START + 122 * MINUTE)).toEqual({ value: 4, degraded: null });
  });

  it("finds nothing folded that was due before", async () => {
    await store.applier.apply([event("a")]);
    await store.seal(START + 120 * MINUTE);
    await changeHands();
    const key = event("a").updates[0].key;
    const folded = async () =>
      (await admin.hkeysBuffer(key)).some((name) => name.length === 5 && name[0] === HOUR_LEVEL);
    expect(await fates([event("b", "c1", null, START + 121 * MINUTE)])).toEqual(["applied"]);
    await store.applier.touch(bucket, [{ key, groupId: cards.id }]);
    expect(await folded()).toBe(false);
    await store.controls.setState(1, ["failover"], "ok");
    await store.applier.touch(bucket, [{ key, groupId: cards.id }]);
    expect(await folded()).toBe(true);
  });

  it("freezes no other bucket", async () => {
    await changeHands();
    await store.applier.apply([event("a")]);
    await store.seal(START + 120 * MINUTE);
    const far = Array.from({ length: 20 }, (_, n) => `x${n}`).find(
      (card) => bucketOf("default", "card", card) !== bucket,
    )!;
    expect(await fates([event("b", far)])).toEqual(["sealed"]);
    expect(await fates([event("b")])).toEqual(["applied"]);
  });

  it("is noticed without an apply too, each bucket once", async () => {
    expect(await store.controls.noticeFailover()).toBe(0);
    await changeHands();
    expect(await store.controls.noticeFailover()).toBe(1);
    expect(await store.controls.noticeFailover()).toBe(0);
    expect((await store.controls.summary()).state).toBe("failover");
  });
});

describe("a call that is refused has changed nothing", () => {
  const told = ({ code, sentence, repair }: StoreCondition) => `InfrastructureError ${code}: ${sentence}; ${repair}`;
  const LOST = told(STORE_STATES.lost);

  it("when the bucket's control hash is lost", async () => {
    await store.applier.apply([event("a")]);
    await admin.del(controlKey(bucket));
    expect(await refusal(() => store.applier.apply([event("b")]))).toBe(LOST);
    expect(
      await refusal(() => store.applier.touch(bucket, [{ key: event("a").updates[0].key, groupId: cards.id }])),
    ).toBe(LOST);
    expect(await count()).toEqual({ value: null, degraded: "lost" });
    expect((await store.controls.summary()).present).toBe(1_023);
  });

  it("at another epoch", async () => {
    const stale = new StoreApplier(store.connection, plan, 7);
    expect(await refusal(() => stale.apply([event("a")]))).toBe(
      "InfrastructureError epoch_changed: the online store is at epoch 1, this caller at another one; " +
        "none needed: the caller reads the epoch anew and tries again",
    );
    expect(await count()).toMatchObject({ value: null });
  });

  it("while the store is created or restored, but for a replay in the latter case", async () => {
    const replay = new StoreApplier(store.connection, plan, 1, { replaying: true });
    await store.controls.setState(1, ["ok"], "new");
    expect(await refusal(() => store.applier.apply([event("a")]))).toBe(told(STORE_STATES.new));
    expect(await refusal(() => replay.apply([event("a")]))).toBe(told(STORE_STATES.new));
    await store.controls.setState(1, ["new"], "restoring");
    expect(await refusal(() => store.applier.apply([event("a")]))).toBe(told(STORE_STATES.restoring));
    expect(await fates([event("a")], replay)).toEqual(["applied"]);
    expect((await count()).degraded).toBe("restoring");
  });

  it("when one of its groups is not known yet, though the others are", async () => {
    const shop = Array.from({ length: 5_000 }, (_, n) => `s${n}`).find(
      (id) => bucketOf("default", "shop", id) === bucket,
    )!;
    await admin.hdel(controlKey(bucket), groupField("shop:payments"));
    expect(await refusal(() => store.applier.apply([event("a", "c1", shop)]))).toBe(
      "InfrastructureError group_new: the online store does not know group 2 yet: applies wait; " +
        "none needed: the control function adds it within a minute of the deployment",
    );
    expect((await count()).value).toBeNull();
    await store.controls.putGroup(plan.groups[1], { sealMs: START - 60 * MINUTE, births: birthsOf(plan.groups[1], 0) });
    expect(await fates([event("a", "c1", shop)])).toEqual(["applied", "applied"]);
  });
});

describe("a server without the function", () => {
  it("gets it with the first call", async () => {
    await admin.call("FUNCTION", "FLUSH");
    expect(await fates()).toEqual(["applied"]);
  });

  it("gets it again, however often it forgets: every event is counted once", async () => {
    let flushing = true;
    const flusher = (async () => {
      for (let n = 0; flushing; n++) {
        await admin.call("FUNCTION", "FLUSH");
        await new Promise((resolve) => setTimeout(resolve, n % 5));
      }
    })();
    const batches = Array.from({ length: 40 }, (_, b) =>
      Array.from({ length: 25 }, (_, n) => event(`e${b}-${n}`, `c${n % 3}`)),
    );
    for (const batch of batches) {
      // Forgotten between the load and the second try: the mapping would deliver the batch again.
      while ((await refusal(() => store.applier.apply(batch))) !== "accepted");
    }
    flushing = false;
    await flusher;
    const counts = await Promise.all(["c0", "c1", "c2"].map((card) => count(card)));
    expect(counts.map(({ value }) => value)).toEqual([360, 320, 320]);
  });

  it("takes the load of a library that is there already for done", async () => {
    await store.applier.loadFunction();
    await store.applier.loadFunction();
    expect(await fates()).toEqual(["applied"]);
  });
});

describe("a server that cannot write", () => {
  afterEach(async () => {
    await admin.config("SET", "maxmemory", "0");
    await admin.config("SET", "min-replicas-to-write", "0");
    await admin.call("ACL", "DELUSER", "limited");
  });

  it("for want of memory is full, not broken: reads go on, and applies resume by themselves", async () => {
    await store.applier.apply([event("a")]);
    await admin.config("SET", "maxmemory", "1mb");
    const full =
      "InfrastructureError store_full: the online store has no memory left: applies are blocked; " +
      "add memory or shards; reads go on, and applies resume by themselves";
    expect(await refusal(() => store.applier.apply([event("b")]))).toBe(full);
    const span = { shard: "shard-0", firstSequence: "1", firstArrivalMs: 1, lastSequence: "2" };
    expect(await refusal(() => new Watermark(store.connection).register("payments", span))).toBe(full);
    expect(await count()).toEqual({ value: 1, degraded: null });
    await admin.config("SET", "maxmemory", "0");
    expect(await fates([event("a"), event("b")])).toEqual(["duplicate", "applied"]);
  });

  // If these were taken for a bad record's fault, every event would be set aside while it lasts.
  it("for want of replicas or permission is an infrastructure failure, never a record's fault", async () => {
    await admin.config("SET", "min-replicas-to-write", "1");
    expect(await refusal(() => store.applier.apply([event("a")]))).toMatch(
      /^InfrastructureError store_error: the online store refused a command: NOREPLICAS /,
    );
    await admin.config("SET", "min-replicas-to-write", "0");
    await admin.call("ACL", "SETUSER", "limited", "on", ">secret", "~*", "+@all", "-hset");
    const limited = new ValkeyConnection({ ...valkey, user: "limited", password: async () => "secret" });
    expect(await refusal(() => new StoreApplier(limited, plan, 1).apply([event("a")]))).toMatch(
      /^InfrastructureError store_error: the online store refused a command: /,
    );
    await limited.close();
    expect(await fates([event("a")])).toEqual(["applied"]);
  });

  it("to a key of another type is that record's fault", async () => {
    await admin.set(event("a").updates[0].key, "no hash");
    expect(await refusal(() => store.applier.apply([event("a")]))).toMatch(
      /^FreshetError store_function_failed: the store's function failed: WRONGTYPE /,
    );
    expect(await fates([event("b", "c2")])).toEqual(["applied"]);
  });

  it("because of a damaged hash is that record's fault", async () => {
    await store.applier.apply([event("a")]);
    await admin.hset(event("a").updates[0].key, "m", "?");
    expect(await refusal(() => store.applier.apply([event("b")]))).toMatch(
      /^FreshetError store_function_failed: the store's function failed: ERR user_function:/,
    );
  });
});

describe("an error in the middle of an entity", () => {
  it("leaves it as it was, though its identities were being split", async () => {
    // Enough for 16 fields of identities, each nearly full; the next thousand split them into 256.
    const first = Array.from({ length: 4_800 }, (_, n) => event(`a${n}`));
    await store.applier.apply(first);
    const next = Array.from({ length: 499 }, (_, n) => event(`b${n}`));
    const key = next[0].updates[0].key;
    const dump = async () => JSON.stringify(await admin.hgetallBuffer(key));
    const before = await dump();
    const last = event("bad", "c1", null, START + 5 * MINUTE);
    const damaged = {
      ...last,
      updates: last.updates.map((update) => ({ ...update, length: update.length - 3 })),
    };
    expect(await refusal(() => store.applier.apply([...next, damaged]))).toMatch(/^FreshetError store_function_failed/);
    expect(await dump()).toBe(before);
    const again = await fates([...first, ...next]);
    expect(again.filter((fate) => fate === "duplicate")).toHaveLength(4_800);
    expect((await count()).value).toBe(5_299);
  });
});

describe("calls", () => {
  it("hold 100 keys and 500 records at most, so that nobody waits for long", async () => {
    const busy = Array.from({ length: 150_000 }, (_, n) => `k${n}`).filter(
      (card) => bucketOf("default", "card", card) === 3,
    );
    expect(busy.length).toBeGreaterThan(120);
    const list = [
      ...busy.slice(0, 120).map((card, n) => event(`k${n}`, card)),
      ...Array.from({ length: 1_300 }, (_, n) => event(`h${n}`, "hot")),
    ];
    const { calls } = new Batch(list, 0, list.length);
    expect(Math.max(...calls.map(({ keys }) => keys.length))).toBe(100);
    expect(Math.max(...calls.map(({ size }) => size))).toBe(500);
    expect(calls.reduce((total, { size }) => total + size, 0)).toBe(1_420);
    expect((await fates(list)).every((fate) => fate === "applied")).toBe(true);
    expect((await count("hot")).value).toBe(1_300);
  });

  it("answer each event in the order in which it was sent, whatever buckets and tiles it falls in", async () => {
    await store.applier.apply(events(20));
    const again = await store.applier.apply([...events(40)].reverse());
    expect(again.fates.map(([{ fate, id }]) => `${id} ${fate}`)).toEqual(
      Array.from({ length: 40 }, (_, i) => `c${(39 - i) % 7} ${39 - i < 20 ? "duplicate" : "applied"}`),
    );
  });
});
