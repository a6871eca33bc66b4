import { describe, expect, it } from "vitest";
import { createAuthenticator, createKey, type KeyRecord } from "../../../functions/api/keys.ts";
import { Problem } from "../../../functions/api/problems.ts";
import { memoryKeyStore } from "./doubles.ts";

async function outcome(run: () => unknown): Promise<string> {
  try {
    await run();
    return "accepted";
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    return `${error.status} ${error.code}`;
  }
}

async function setUp(more: { expiresAtMs?: number } = {}) {
  const store = memoryKeyStore();
  const time = { ms: 1_000_000 };
  const made = await createKey(store, { tenant: "team-a", scopes: ["read", "score"], nowMs: time.ms, ...more });
  return { store, time, ...made, authenticate: createAuthenticator(store, () => time.ms) };
}

describe("createKey", () => {
  it("keeps a salted hash, never the secret", async () => {
    const { store, key } = await setUp();
    const secret = key.split("_")[2];
    const [record] = await store.list();
    const stored = JSON.stringify(record, (_, value) =>
      value instanceof Uint8Array ? Buffer.from(value).toString("latin1") : value,
    );
    expect(key).toMatch(/^fk_[a-z0-9]{12}_[A-Za-z0-9-]{43}$/);
    expect(stored).not.toContain(secret);
    expect([record.tenant, record.scopes, record.salt.length, record.hash.length]).toEqual([
      "team-a",
      ["read", "score"],
      16,
      32,
    ]);
  });

  it("gives two keys with the same settings different ids, salts and secrets", async () => {
    const store = memoryKeyStore();
    const made = await Promise.all(
      Array.from({ length: 50 }, () => createKey(store, { tenant: "a", scopes: ["read"], nowMs: 0 })),
    );
    const distinct = (of: (one: { key: string; record: KeyRecord }) => string) => new Set(made.map(of)).size;
    expect(distinct(({ record }) => record.id)).toBe(50);
    expect(distinct(({ record }) => Buffer.from(record.salt).toString("hex"))).toBe(50);
    expect(distinct(({ key }) => key.split("_")[2])).toBe(50);
  });

  it.each([
    [{ tenant: "Team A", scopes: ["read"] }, 'a tenant is 1 to 64 of a-z, 0-9, _ and -, given "Team A"'],
    [{ tenant: "a", scopes: ["root"] }, 'a key has one or more of read, write, score, admin, given "root"'],
    [{ tenant: "a", scopes: [] }, 'a key has one or more of read, write, score, admin, given ""'],
  ])("refuses %o", async (options, message) => {
    await expect(createKey(memoryKeyStore(), { ...options, nowMs: 0 })).rejects.toThrow(message);
  });
});

describe("authenticate", () => {
  it("answers tenant and scopes of the key", async () => {
    const { key, record, authenticate } = await setUp();
    expect(await authenticate(key)).toEqual({
      keyId: record.id,
      tenant: "team-a",
      scopes: new Set(["read", "score"]),
    });
  });

  it("refuses every one-letter change of a key, before and after the right one was seen", async () => {
    const { key, authenticate } = await setUp();
    const changed = [...key].map((letter, i) => key.slice(0, i) + (letter === "b" ? "c" : "b") + key.slice(i + 1));
    for (const wrong of changed) expect(await outcome(() => authenticate(wrong))).toBe("401 api_key_invalid");
    await authenticate(key);
    for (const wrong of changed) expect(await outcome(() => authenticate(wrong))).toBe("401 api_key_invalid");
  });

  it("reads a known key once in 30 s, also when many requests come at once", async () => {
    const { key, store, time, authenticate } = await setUp();
    await Promise.all(Array.from({ length: 20 }, () => authenticate(key)));
    expect(store.reads).toBe(1);
    time.ms += 29_999;
    await authenticate(key);
    expect(store.reads).toBe(1);
    time.ms += 1;
    await authenticate(key);
    expect(store.reads).toBe(2);
  });

  it("notices within 30 s that a key was removed", async () => {
    const { key, record, store, time, authenticate } = await setUp();
    await authenticate(key);
    await store.remove(record.id);
    time.ms += 30_000;
    expect(await outcome(() => authenticate(key))).toBe("401 api_key_invalid");
  });

  it("remembers an unknown key for 2 s only, so that a new key works soon", async () => {
    const { store, time, authenticate } = await setUp();
    const unknown = `fk_${"z".repeat(12)}_${"A".repeat(43)}`;
    expect(await outcome(() => authenticate(unknown))).toBe("401 api_key_invalid");
    expect(await outcome(() => authenticate(unknown))).toBe("401 api_key_invalid");
    expect(store.reads).toBe(1);
    time.ms += 2_000;
    await outcome(() => authenticate(unknown));
    expect(store.reads).toBe(2);
  });

  it("refuses a key from the millisecond at which it expires, cached or not", async () => {
    const { key, time, authenticate } = await setUp({ expiresAtMs: 1_000_500 });
    time.ms = 1_000_499;
    expect(await outcome(() => authenticate(key))).toBe("accepted");
    time.ms = 1_000_500;
    expect(await outcome(() => authenticate(key))).toBe("401 api_key_expired");
  });

  it("lives through five minutes in which the table does not answer, for keys that it knows", async () => {
    const { key, store, time, authenticate } = await setUp();
    await authenticate(key);
    store.broken = true;
    time.ms += 299_999;
    expect(await outcome(() => authenticate(key))).toBe("accepted");
    expect(await outcome(() => authenticate(`fk_${"z".repeat(12)}_${"A".repeat(43)}`))).toBe("503 keys_unavailable");
    time.ms += 1;
    expect(await outcome(() => authenticate(key))).toBe("503 keys_unavailable");
    store.broken = false;
    expect(await outcome(() => authenticate(key))).toBe("accepted");
  });

  it.each([undefined, ""])("asks for a key when there is none (%o)", async (presented) => {
    const { authenticate } = await setUp();
    expect(await outcome(() => authenticate(presented))).toBe("401 api_key_missing");
  });
});
