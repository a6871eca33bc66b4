/** Reads that share calls: who asks for what, and whom a failure reaches. */
import { describe, expect, it } from "vitest";
import { SharedGets } from "../../../adapters/snapshot/shared-gets.ts";

const passing = new Error("passing");
const final = new Error("final");
const patience = () => AbortSignal.timeout(30_000);

type Call = {
  readonly keys: readonly string[];
  readonly signal: AbortSignal;
  answer(options?: { left?: readonly string[]; missing?: readonly string[] }): void;
  fail(error: Error): void;
};

/** Calls wait for the test to answer them, until it says that all are. */
function world() {
  const calls: Call[] = [];
  let answersAll = false;
  const gets = new SharedGets<string, string>(
    (keys, signal) =>
      new Promise((resolve, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason));
        calls.push({
          keys,
          signal,
          answer({ left = [], missing = [] } = {}) {
            const found = keys.filter((key) => !left.includes(key) && !missing.includes(key));
            resolve({ found: new Map(found.map((key) => [key, `item of ${key}`])), left: new Set(left) });
          },
          fail: reject,
        });
        if (answersAll) calls.at(-1)!.answer();
      }),
    (error) => error === passing,
  );
  const get = (names: readonly string[], signal = patience()) =>
    gets.get(new Map(names.map((name) => [name, name])), signal);
  const until = (count: number) => expect.poll(() => calls.length, { timeout: 30_000 }).toBe(count);
  const answerAll = () => {
    answersAll = true;
  };
  return { calls, get, until, answerAll };
}
const namesOf = (prefix: string, count: number): string[] => Array.from({ length: count }, (_, i) => `${prefix}${i}`);

describe("reads of one moment", () => {
  it("share a call, each key once, and each gets its own", async () => {
    const { calls, get, until } = world();
    const [first, second] = [get(["a", "b"]), get(["b", "c"])];
    await until(1);
    expect(calls[0].keys).toEqual(["a", "b", "c"]);
    calls[0].answer({ missing: ["c"] });
    expect([await first, await second]).toEqual([
      new Map([
        ["a", "item of a"],
        ["b", "item of b"],
      ]),
      new Map([["b", "item of b"]]),
    ]);
  });

  it("of more keys than a call takes make several, and no more at a time than a few: the others go when one ends", async () => {
    const { calls, get, until } = world();
    const reads = namesOf("r", 10).map((name) => get(namesOf(`${name}-`, 100)));
    await until(8);
    expect(calls.map(({ keys }) => keys.length)).toEqual(new Array(8).fill(100));
    for (const call of calls) call.answer();
    await until(10);
    for (const call of calls.slice(8)) call.answer();
    expect((await Promise.all(reads)).map(({ size }) => size)).toEqual(new Array(10).fill(100));
  });

  it("without keys have nothing to wait for", async () => {
    const { calls, get } = world();
    expect(await get([])).toEqual(new Map());
    expect(calls).toEqual([]);
  });
});

describe("a key that is handed back", () => {
  it("is asked for again alone, and holds up only who waits for it", async () => {
    const { calls, get, until } = world();
    const [whole, slow] = [get(["a"]), get(["a", "hot"])];
    await until(1);
    calls[0].answer({ left: ["hot"] });
    expect(await whole).toEqual(new Map([["a", "item of a"]]));
    await until(2);
    expect(calls[1].keys).toEqual(["hot"]);
    calls[1].answer();
    expect((await slow).size).toBe(2);
  });

  it("is asked for again beside whoever asks for it meanwhile", async () => {
    const { calls, get, until, answerAll } = world();
    const first = get(["hot"]);
    await until(1);
    calls[0].answer({ left: ["hot"] });
    answerAll();
    const second = get(["hot"]);
    expect([(await first).size, (await second).size]).toEqual([1, 1]);
    for (const { keys } of calls) expect(keys).toEqual(["hot"]);
  });
});

describe("a call that fails", () => {
  it("is made again where that may help, three times at most, and fails all who wait for its keys", async () => {
    const { calls, get, until } = world();
    const outcomes = Promise.allSettled([get(["a"]), get(["b"])]);
    for (let attempt = 1; attempt <= 3; attempt++) {
      await until(attempt);
      expect(calls[attempt - 1].keys).toEqual(["a", "b"]);
      calls[attempt - 1].fail(passing);
    }
    const rejected = { status: "rejected", reason: passing };
    expect(await outcomes).toEqual([rejected, rejected]);
    expect(calls).toHaveLength(3);
  });

  it("fails at once where it would fail again, and fails no others", async () => {
    const { calls, get, until } = world();
    const first = get(namesOf("a", 100));
    const second = get(["b"]);
    await until(2);
    calls[0].fail(final);
    await expect(first).rejects.toBe(final);
    calls[1].answer();
    expect((await second).size).toBe(1);
  });
});

describe("a read that waits no longer", () => {
  it("ends with its signal; the call goes on for whoever waits, and is given up when nobody does", async () => {
    const { calls, get, until } = world();
    const [impatient, patient] = [new AbortController(), new AbortController()];
    const [first, second] = [get(["a", "b"], impatient.signal), get(["b"], patient.signal)];
    await until(1);
    impatient.abort(new Error("no time left"));
    await expect(first).rejects.toThrow("no time left");
    expect(calls[0].signal.aborted).toBe(false);
    patient.abort(new Error("none here either"));
    await expect(second).rejects.toThrow("none here either");
    expect(calls[0].signal.aborted).toBe(true);
  });

  it("is not asked for where its keys still wait for a call", async () => {
    const { calls, get, until } = world();
    const busy = namesOf("r", 8).map((name) => get(namesOf(`${name}-`, 100)));
    await until(8);
    const controller = new AbortController();
    const [gone, stays] = [get(["gone", "shared"], controller.signal), get(["shared"])];
    await new Promise((resolve) => setImmediate(resolve));
    controller.abort(new Error("no time left"));
    await expect(gone).rejects.toThrow("no time left");
    for (const call of calls) call.answer();
    await until(9);
    expect(calls[8].keys).toEqual(["shared"]);
    calls[8].answer();
    expect((await stays).size).toBe(1);
    expect((await Promise.all(busy)).length).toBe(8);
  });

  it("asks for nothing when its time was over before", async () => {
    const { calls, get } = world();
    await expect(get(["a"], AbortSignal.abort(new Error("over")))).rejects.toThrow("over");
    expect(calls).toEqual([]);
  });
});
