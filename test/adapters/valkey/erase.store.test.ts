/** Erasure on a real Valkey: what is held goes, what comes back is refused by its time, what is new counts. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { StoreApplier } from "../../../adapters/valkey/applier.ts";
import { eraseCall } from "../../../adapters/valkey/erase.ts";
import { bucketOf, entityKey, pushedKey } from "../../../adapters/valkey/layout.ts";
import { encodeMend } from "../../../adapters/valkey/mend.ts";
import { pushRows } from "../../../adapters/valkey/push.ts";
import { encodePut } from "../../../adapters/valkey/put.ts";
import { createReader } from "../../../adapters/valkey/reader.ts";
import { RecordPacker } from "../../../adapters/valkey/record.ts";
import { plan } from "../../support/fixture-plan.ts";
import { pushedPlan, riskView, rowOf } from "../../support/pushed-plan.ts";
import { openStore, type TestStore } from "../../support/store.ts";
import { startValkey, type TestValkey } from "../../support/valkey.ts";

const MINUTE = 60_000;
const DAY = 86_400_000;
let valkey: TestValkey;
let store: TestStore;
let reader: ReturnType<typeof createReader>;
const now = Date.now();
/** The seal stands below all that is applied here. */
const sealMs = Math.floor((now - 30 * MINUTE) / MINUTE) * MINUTE;
const beforeMs = Math.floor(now / MINUTE) * MINUTE;
const terms = { beforeMs, keepUntilMs: now + DAY, clean: false };

beforeAll(async () => {
  valkey = await startValkey();
  store = await openStore(plan, valkey, sealMs);
  reader = createReader(plan, { host: valkey.host, port: valkey.port, timeoutMs: 5_000 });
});
afterAll(async () => {
  await reader?.close();
  await store?.connection.close();
  await valkey?.stop();
});

async function apply(tenant: string, id: string, atMs: number, card = "c1") {
  const packer = new RecordPacker(plan, "payments");
  const fields = { tenant, id, at: atMs, card, shop: "s1", amount: 2.5, country: "NO", online: true };
  const { fates } = await store.applier.apply([packer.prepare(tenant, id, atMs, fields)]);
  return Object.fromEntries(fates[0].map(({ entity, fate }) => [entity, fate]));
}
async function countOf(tenant: string, entity: "card" | "shop", id: string) {
  const name = entity === "card" ? "everything:n_1h" : "shop_view:n_1h";
  const [{ values }] = await reader.read([{ tenant, entity, id, features: [name] }], now + MINUTE);
  return values[0];
}
const erase = async (tenant: string, id: string, options: Partial<typeof terms> = {}, by = store.applier) => {
  const [gone] = await by.erase([eraseCall(plan, { tenant, entity: "card", id }, { ...terms, ...options })]);
  return gone;
};
const keyOf = (tenant: string, id = "c1") => entityKey(bucketOf(tenant, "card", id), tenant, "card", "payments", id);
async function command<T>(key: string, name: string, ...args: (string | Buffer)[]): Promise<T> {
  const [answer] = await store.connection.demand([{ key, name, args: [key, ...args] }]);
  return answer as T;
}
const NOTHING = { value: null, status: "NOT_FOUND", eventTimeMs: null };

describe("an erased entity", () => {
  it("is not found, while others keep what its events gave them, and another tenant's of the same id stays", async () => {
    for (const tenant of ["gone", "stays"]) {
      expect(await apply(tenant, "e1", now - 5 * MINUTE)).toEqual({ card: "applied", shop: "applied" });
    }
    const [windows, pushed] = await erase("gone", "c1");
    expect(windows).toBeGreaterThan(2);
    expect(pushed).toBe(0);
    expect(await countOf("gone", "card", "c1")).toEqual(NOTHING);
    expect(await countOf("gone", "shop", "s1")).toMatchObject({ value: 1 });
    expect(await countOf("stays", "card", "c1")).toMatchObject({ value: 1 });
    expect((await command<Buffer[]>(keyOf("gone"), "HKEYS")).map(String).sort()).toEqual(["e", "m"]);
  });

  it("takes no event of before again, sealed or not, and every later one once", async () => {
    await apply("again", "e1", now - 5 * MINUTE);
    await erase("again", "c1");
    expect(await apply("again", "e1", now - 5 * MINUTE)).toEqual({ card: "erased", shop: "duplicate" });
    expect(await apply("again", "e2", sealMs - DAY)).toEqual({ card: "erased", shop: "sealed" });
    expect(await apply("again", "e3", beforeMs - 1)).toEqual({ card: "erased", shop: "applied" });
    expect(await countOf("again", "card", "c1")).toEqual(NOTHING);
    expect(await apply("again", "e4", beforeMs)).toEqual({ card: "applied", shop: "applied" });
    expect(await apply("again", "e4", beforeMs)).toEqual({ card: "duplicate", shop: "duplicate" });
    expect(await countOf("again", "card", "c1")).toMatchObject({ value: 1, eventTimeMs: beforeMs });
    // Erased again, as when a step is repeated: what came since stays.
    expect(await erase("again", "c1")).toEqual([0, 0]);
    expect(await countOf("again", "card", "c1")).toMatchObject({ value: 1 });
    // By another erasure later: all goes.
    expect((await erase("again", "c1", { beforeMs: beforeMs + 10 * MINUTE }))[0]).toBeGreaterThan(1);
    expect(await countOf("again", "card", "c1")).toEqual(NOTHING);
    expect(await apply("again", "e5", beforeMs + MINUTE)).toMatchObject({ card: "erased" });
  });

  it("of several events in one call keeps only those of after", async () => {
    await erase("mixed", "c1");
    const packer = new RecordPacker(plan, "payments");
    const times = [beforeMs, sealMs - DAY, beforeMs - MINUTE, now - 20 * MINUTE, beforeMs + 1, beforeMs - 1];
    const events = times.map((atMs, i) => {
      const fields = { tenant: "mixed", id: `m${i}`, at: atMs, card: "c1", shop: null, amount: 1, country: "NO" };
      return packer.prepare("mixed", `m${i}`, atMs, fields);
    });
    const { fates } = await store.applier.apply(events);
    expect(fates.map(([{ fate }]) => fate)).toEqual(["applied", "erased", "erased", "erased", "applied", "erased"]);
    expect(await countOf("mixed", "card", "c1")).toMatchObject({ value: 2 });
  });

  it("takes no put while the archive may hold it, and afterwards none of an older listing", async () => {
    await apply("puts", "e1", now - 5 * MINUTE);
    const generation = Date.now() * 1_000;
    const group = plan.groups.find(({ entity }) => entity === "card")!;
    const put = async (given: number) => {
      const header = { sealIndex: sealMs / MINUTE, generation: given, whole: true, fromIndex: 0, newestMs: null };
      const bucket = bucketOf("puts", "card", "c1");
      const [[fate]] = await store.applier.put([
        { bucket, puts: [{ key: keyOf("puts"), blob: encodePut(group, header, []) }] },
      ]);
      return fate;
    };
    await erase("puts", "c1");
    expect(await put(generation)).toBe("erased");
    expect(await put(generation + 60_000_000)).toBe("erased");
    await erase("puts", "c1", { clean: true });
    expect(await put(generation)).toBe("older");
    expect(await put((Date.now() + 1_000) * 1_000)).toBe("put");
    // A step that is repeated does not take the archive for unclean again.
    await erase("puts", "c1");
    expect(await put((Date.now() + 2_000) * 1_000)).toBe("put");
  });

  it("takes no repair of an event of before", async () => {
    await erase("mended", "c1");
    const packer = new RecordPacker(plan, "payments");
    const atMs = sealMs - 10 * MINUTE;
    const fields = { tenant: "mended", id: "e1", at: atMs, card: "c1", shop: "s1", amount: 1 };
    const { identity, updates } = packer.prepare("mended", "e1", atMs, fields);
    const answers = updates.map(async (update) => {
      const blob = encodeMend(update.groupId, { generation: 0, clock: 0 }, [{ identity, fingerprint: 1, update }]);
      const [[answer]] = await store.applier.mend([{ bucket: update.bucket, puts: [{ key: update.key, blob }] }]);
      return [update.entity, answer.kind === "done" ? answer.outcomes[0].fate : answer.kind];
    });
    expect(Object.fromEntries(await Promise.all(answers))).toEqual({ card: "erased", shop: "mended" });
  });

  it("keeps its tombstone for as long as was asked, whatever expires or comes after; for ever when blocked", async () => {
    // A shop has no lifetime window: its hash would go two days after its newest event.
    const key = entityKey(bucketOf("kept", "shop", "s1"), "kept", "shop", "payments", "s1");
    const shop = (options: Partial<Parameters<typeof eraseCall>[2]>) =>
      store.applier.erase([eraseCall(plan, { tenant: "kept", entity: "shop", id: "s1" }, { ...terms, ...options })]);
    const expiry = () => command<number>(key, "PEXPIRETIME");
    const untilMs = now + 400 * DAY;
    await shop({ keepUntilMs: untilMs });
    expect(await apply("kept", "e1", beforeMs)).toEqual({ card: "applied", shop: "applied" });
    expect(await expiry()).toBe(untilMs);
    await shop({ beforeMs: 253_402_300_799_999, keepUntilMs: null });
    expect(await expiry()).toBe(-1);
    expect(await apply("kept", "e2", now + 30_000)).toMatchObject({ card: "applied", shop: "erased" });
    await shop({});
    expect(await expiry()).toBe(-1);
  });

  it("is swept and folded as any other", async () => {
    await erase("swept", "c1");
    await apply("swept", "e1", beforeMs);
    await store.seal(beforeMs + 5 * MINUTE);
    const group = plan.groups.find(({ entity }) => entity === "card")!;
    await store.applier.touch(bucketOf("swept", "card", "c1"), [{ key: keyOf("swept"), groupId: group.id }]);
    expect(await countOf("swept", "card", "c1")).toMatchObject({ value: 1 });
    expect(await apply("swept", "e2", beforeMs - MINUTE)).toMatchObject({ card: "erased" });
    expect(await apply("swept", "e3", beforeMs + MINUTE)).toMatchObject({ card: "sealed" });
    await store.seal(sealMs);
  });

  it("is erased in a store that is being restored by who replays, and by nobody else", async () => {
    await store.controls.setState(1, ["ok"], "restoring");
    await expect(erase("restoring", "c1")).rejects.toMatchObject({ code: "store_not_ready" });
    await erase("restoring", "c1", {}, new StoreApplier(store.connection, plan, 1, { replaying: true }));
    await store.controls.setState(1, ["restoring"], "ok");
    expect(await apply("restoring", "e1", now - MINUTE)).toMatchObject({ card: "erased" });
  });
});

describe("what was pushed to an erased entity", () => {
  it("is gone, is not taken again, and is taken when it is newer", async () => {
    const applier = new StoreApplier(store.connection, pushedPlan, 1);
    const push = async (atMs: number) => {
      const [visible] = await pushRows(applier, [rowOf(riskView, "pushes", "s1", atMs, { n: 3 })]);
      return visible;
    };
    const key = pushedKey(bucketOf("pushes", "shop", "s1"), "pushes", "shop", "s1");
    expect(await push(now - MINUTE)).toBeGreaterThanOrEqual(now);
    const call = eraseCall(pushedPlan, { tenant: "pushes", entity: "shop", id: "s1" }, terms);
    // Its windows belong to a plan that this store has no groups of.
    const pushed = { ...call, keys: call.keys.slice(-1) };
    expect(await applier.erase([pushed])).toEqual([[2]]);
    expect(await push(now - MINUTE)).toBe(0);
    expect((await command<Buffer[]>(key, "HKEYS")).map(String).sort()).toEqual(["!", "#"]);
    expect(await push(beforeMs)).toBeGreaterThanOrEqual(now);
    expect(await applier.erase([pushed])).toEqual([[0]]);
    expect((await command<Buffer[]>(key, "HKEYS")).map(String).sort()).toEqual(["!", "#", "risk"]);
  });
});
