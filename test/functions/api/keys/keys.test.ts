import { setImmediate } from "node:timers/promises";
import { describe, expect, it, vi } from "vitest";
import { createAuthenticator, createKey, type KeyRecord } from "../../../../functions/api/keys/keys.ts";
import { Problem } from "../../../../functions/api/problems.ts";
import { memoryKeyStore } from "../doubles.ts";

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
    const { store, key, record: made } = await setUp();
    const secret = key.split("_")[2];
    const record = (await store.get(made.id))!;
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
    [{ tenant: "a", scopes: ["read"], name: "x".repeat(101) }, "a key's name is at most 100 printable characters"],
    [{ tenant: "a", scopes: ["read"], name: "two\nlines" }, "a key's name is at most 100 printable characters"],
    [{ tenant: "a", scopes: ["read"], name: `fk_${"z".repeat(12)}_abc` }, "printable characters and no key"],
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

  it("reads a known key once in 20 s, also when many requests come at once, and lets none of them wait for that", async () => {
    const { key, store, time, authenticate } = await setUp();
    await Promise.all(Array.from({ length: 500 }, () => authenticate(key)));
    expect(store.reads).toBe(1);
    time.ms += 19_999;
    await authenticate(key);
    expect(store.reads).toBe(1);
    time.ms += 1;
    for (let n = 0; n < 100; n++) expect(authenticate(key)).not.toBeInstanceOf(Promise);
    expect(store.reads).toBe(2);
    await setImmediate();
    time.ms += 19_999;
    expect(authenticate(key)).not.toBeInstanceOf(Promise);
    expect(store.reads).toBe(2);
  });

  it("reads a key that nobody has used for 30 s before it lets it pass", async () => {
    const { key, store, time, authenticate } = await setUp();
    await authenticate(key);
    time.ms += 30_000;
    expect(authenticate(key)).toBeInstanceOf(Promise);
    expect(store.reads).toBe(2);
  });

  it("counts a key's age from when it was asked for: the answer may come to a host that was frozen", async () => {
    const { key, record, store, time } = await setUp();
    const answers: (() => void)[] = [];
    const slow = {
      async get(id: string) {
        const found = await store.get(id);
        if (store.reads > 1) await new Promise<void>((resolve) => answers.push(resolve));
        return found;
      },
    };
    const authenticate = createAuthenticator(slow, () => time.ms);
    await authenticate(key);
    time.ms += 20_000;
    await authenticate(key);
    await expect.poll(() => answers.length).toBe(1);
    await store.remove(record.id);
    time.ms += 60_000;
    answers[0]();
    await setImmediate();
    const after = outcome(() => authenticate(key));
    await expect.poll(() => answers.length).toBe(2);
    answers[1]();
    expect(await after).toBe("401 api_key_invalid");
  });

  it("notices within 30 s that a key was removed", async () => {
    const { key, record, store, time, authenticate } = await setUp();
    await authenticate(key);
    await store.remove(record.id);
    time.ms += 30_000;
    expect(await outcome(() => authenticate(key))).toBe("401 api_key_invalid");
  });

  it("notices at once a key that was changed here, and forgets nothing else", async () => {
    const { key, record, store, authenticate } = await setUp();
    const other = await createKey(store, { tenant: "team-a", scopes: ["read"], nowMs: 0 });
    await authenticate(key);
    await authenticate(other.key);
    await store.remove(record.id);
    authenticate.forget(record.id);
    expect(await outcome(() => authenticate(key))).toBe("401 api_key_invalid");
    const { reads } = store;
    await authenticate(other.key);
    expect(store.reads).toBe(reads);
  });

  it("keeps nothing that was read before a key was changed here", async () => {
    const { key, record, store, time } = await setUp();
    const arrived: (() => void)[] = [];
    const slow = {
      async get(id: string) {
        const found = await store.get(id);
        await new Promise<void>((resolve) => arrived.push(resolve));
        return found;
      },
    };
    const authenticate = createAuthenticator(slow, () => time.ms);
    const before = outcome(() => authenticate(key));
    await expect.poll(() => arrived.length).toBe(1);
    await store.remove(record.id);
    authenticate.forget(record.id);
    const after = outcome(() => authenticate(key));
    await expect.poll(() => arrived.length).toBe(2);
    for (const answer of arrived) answer();
    expect([await before, await after]).toEqual(["accepted", "401 api_key_invalid"]);
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

  it("asks a table that fails once in 2 s for a known key, and no request between waits for it", async () => {
    const { key, record, store, time, authenticate } = await setUp();
    await authenticate(key);
    store.broken = true;
    store.reads = 0;
    time.ms += 30_000;
    for (let n = 0; n < 100; n++) expect(await outcome(() => authenticate(key))).toBe("accepted");
    expect(store.reads).toBe(1);
    expect(authenticate(key)).not.toBeInstanceOf(Promise);
    store.broken = false;
    await store.remove(record.id);
    time.ms += 2_000;
    expect(await outcome(() => authenticate(key))).toBe("401 api_key_invalid");
  });

  it("does not wait for a table that hangs where it knows the key, and goes by what it says when it does", async () => {
    vi.useFakeTimers();
    try {
      const { key, record, store } = await setUp();
      const time = { ms: 1_000_000 };
      const answers: (() => void)[] = [];
      let hangs = false;
      const slow = {
        async get(id: string) {
          if (hangs) await new Promise<void>((resolve) => answers.push(resolve));
          return store.get(id);
        },
      };
      const authenticate = createAuthenticator(slow, () => time.ms);
      await authenticate(key);
      hangs = true;
      time.ms += 30_000;
      const waiting = Array.from({ length: 50 }, () => outcome(() => authenticate(key)));
      // A wait's end takes two turns of the loop, each a ms of this clock.
      await vi.advanceTimersByTimeAsync(60);
      expect(new Set(await Promise.all(waiting))).toEqual(new Set(["accepted"]));
      expect(authenticate(key)).not.toBeInstanceOf(Promise);
      time.ms += 2_000;
      const later = outcome(() => authenticate(key));
      await vi.advanceTimersByTimeAsync(60);
      expect(await later).toBe("accepted");
      // One look-up all that time; the key is gone when it ends.
      expect(answers).toHaveLength(1);
      await store.remove(record.id);
      hangs = false;
      answers[0]();
      await vi.advanceTimersByTimeAsync(0);
      expect(await outcome(() => authenticate(key))).toBe("401 api_key_invalid");
    } finally {
      vi.useRealTimers();
    }
  });

  it.each([undefined, ""])("asks for a key when there is none (%o)", async (presented) => {
    const { authenticate } = await setUp();
    expect(await outcome(() => authenticate(presented))).toBe("401 api_key_missing");
  });
});

describe("keys that nobody has", () => {
  const guess = (n: number) => `fk_${String(n).padStart(12, "0")}_${"a".repeat(43)}`;

  it("cost a read each until their address has had enough; others and known keys go on", async () => {
    const { store, time, key, authenticate } = await setUp();
    const of = (presented: string, address: string) => outcome(() => authenticate(presented, () => address));
    expect(await of(key, "10.0.0.1")).toBe("accepted");
    store.reads = 0;
    const outcomes: string[] = [];
    for (let n = 0; n < 300; n++) outcomes.push(await of(guess(n), "10.0.0.1"));
    expect(outcomes).toEqual([...Array(20).fill("401 api_key_invalid"), ...Array(280).fill("429 rate_limited")]);
    expect(store.reads).toBe(20);
    expect(await of(key, "10.0.0.1")).toBe("accepted");
    const other = await createKey(store, { tenant: "team-b", scopes: ["read"], nowMs: 0 });
    expect(await of(other.key, "10.0.0.2")).toBe("accepted");
    // A known key is read again whatever else comes from its address.
    time.ms += 30_001;
    for (let n = 300; n < 400; n++) await of(guess(n), "10.0.0.1");
    expect(await of(key, "10.0.0.1")).toBe("accepted");
  });

  it("are bounded however many addresses they come from, for a while", async () => {
    const { store, time, authenticate } = await setUp();
    const flood = async (from: number) => {
      for (let n = from; n < from + 1_000; n++)
        await outcome(() => authenticate(guess(n), () => `10.${n >> 8}.${n & 255}.1`));
    };
    await flood(0);
    expect(store.reads).toBe(200);
    time.ms += 1_000;
    await flood(1_000);
    expect(store.reads).toBe(300);
  });

  it("of one network of IPv6 count together", async () => {
    const { store, authenticate } = await setUp();
    for (let n = 0; n < 100; n++) await outcome(() => authenticate(guess(n), () => `2001:db8:1:2:${n}::1`));
    expect(store.reads).toBe(20);
  });

  it("are told when to come back, and good keys met for the first time take nothing", async () => {
    const { store, authenticate } = await setUp();
    for (let n = 0; n < 100; n++) {
      const { key } = await createKey(store, { tenant: `team-${n}`, scopes: ["read"], nowMs: 0 });
      expect(await outcome(() => authenticate(key, () => "10.0.0.1"))).toBe("accepted");
    }
    for (let n = 0; n < 20; n++) await outcome(() => authenticate(guess(n), () => "10.0.0.1"));
    await expect((async () => authenticate(guess(99), () => "10.0.0.1"))()).rejects.toMatchObject({
      code: "rate_limited",
      headers: { "retry-after": "1" },
    });
  });

  it("do not count while the table cannot be read", async () => {
    const { store, authenticate } = await setUp();
    store.broken = true;
    for (let n = 0; n < 50; n++) {
      expect(await outcome(() => authenticate(guess(n), () => "10.0.0.1"))).toBe("503 keys_unavailable");
    }
  });
});
