/**
 * What many reads ask of a table in one moment, in few calls. While the online store is away each request asks for a handful of items,
 * and the first ones ask all together, when they have given the store up: a call for each would cost the host more CPU than its answer does.
 * Keys of one turn of the event loop share calls; a key that fails or is handed back is asked for again, and holds up nobody who waits
 * for others.
 */
import { backoffMs } from "../backoff.ts";

/** Keys of one BatchGetItem. */
const KEYS_A_CALL = 100;
/** Calls under way. The next keys wait, and travel together. */
const CALLS = 8;
/** Calls for one key that may fail; what is only handed back is asked for as long as somebody waits. */
const ATTEMPTS = 3;
/** Before a key is asked for again. */
const PAUSE = { firstMs: 10, longestMs: 80 };

/** @returns what was found, and the names that have to be asked for again */
export type SharedCall<K, V> = (
  keys: readonly K[],
  signal: AbortSignal,
) => Promise<{ readonly found: ReadonlyMap<string, V>; readonly left: ReadonlySet<string> }>;

/** A read that waits. */
interface Waiter<K, V> {
  readonly names: Set<string>;
  readonly found: Map<string, V>;
  readonly wanted: Wanted<K, V>[];
  readonly resolve: (found: Map<string, V>) => void;
  readonly fail: (error: unknown) => void;
}
/** A key that is waited for. */
interface Wanted<K, V> {
  readonly name: string;
  readonly key: K;
  readonly by: Set<Waiter<K, V>>;
  call: Call<K, V> | null;
  rounds: number;
  failures: number;
}
interface Call<K, V> {
  readonly batch: readonly Wanted<K, V>[];
  readonly controller: AbortController;
}

export class SharedGets<K, V> {
  readonly #call: SharedCall<K, V>;
  readonly #isPassing: (error: unknown) => boolean;
  /** By name, first come first: keys that wait for a call. */
  readonly #queue = new Map<string, Wanted<K, V>>();
  #calls = 0;
  #isDue = false;

  /** @param isPassing whether another call may succeed where one has failed with this */
  constructor(call: SharedCall<K, V>, isPassing: (error: unknown) => boolean) {
    this.#call = call;
    this.#isPassing = isPassing;
  }

  /**
   * @param keys by name
   * @returns what there is, by name
   * @throws Error of a call, or the signal's
   */
  get(keys: ReadonlyMap<string, K>, signal: AbortSignal): Promise<Map<string, V>> {
    return new Promise((resolve, reject) => {
      signal.throwIfAborted();
      if (keys.size === 0) return resolve(new Map());
      const end = () => signal.removeEventListener("abort", abort);
      const waiter: Waiter<K, V> = {
        names: new Set(keys.keys()),
        found: new Map(),
        wanted: [],
        resolve(found) {
          end();
          resolve(found);
        },
        fail: (error) => {
          end();
          reject(error);
          this.#leave(waiter);
        },
      };
      const abort = () => waiter.fail(signal.reason);
      signal.addEventListener("abort", abort, { once: true });
      for (const [name, key] of keys) {
        this.#enqueue({ name, key, by: new Set([waiter]), call: null, rounds: 0, failures: 0 });
      }
      this.#flushSoon();
    });
  }

  /** A key that is waiting already is asked for once. */
  #enqueue(wanted: Wanted<K, V>): void {
    const queued = this.#queue.get(wanted.name) ?? wanted;
    this.#queue.set(wanted.name, queued);
    for (const waiter of wanted.by) {
      queued.by.add(waiter);
      waiter.wanted.push(queued);
    }
  }

  #flushSoon(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    setImmediate(() => {
      this.#isDue = false;
      while (this.#calls < CALLS && this.#queue.size > 0) {
        const batch = [...this.#queue.values().take(KEYS_A_CALL)];
        for (const { name } of batch) this.#queue.delete(name);
        void this.#send(batch);
      }
    });
  }

  async #send(batch: readonly Wanted<K, V>[]): Promise<void> {
    this.#calls++;
    const call = { batch, controller: new AbortController() };
    for (const wanted of batch) wanted.call = call;
    let again: readonly Wanted<K, V>[];
    try {
      const { found, left } = await this.#call(
        batch.map(({ key }) => key),
        call.controller.signal,
      );
      for (const wanted of batch) if (!left.has(wanted.name)) settle(wanted, found.get(wanted.name));
      again = batch.filter(({ name }) => left.has(name));
    } catch (error) {
      const isPassing = this.#isPassing(error);
      again = batch.filter((wanted) => ++wanted.failures < ATTEMPTS && isPassing);
      for (const wanted of batch) if (!again.includes(wanted)) for (const waiter of wanted.by) waiter.fail(error);
    }
    for (const wanted of batch) wanted.call = null;
    this.#calls--;
    this.#askAgain(again);
    this.#flushSoon();
  }

  #askAgain(batch: readonly Wanted<K, V>[]): void {
    const waited = batch.filter(({ by }) => by.size > 0);
    if (waited.length === 0) return;
    for (const wanted of waited) wanted.rounds++;
    const round = Math.max(...waited.map(({ rounds }) => rounds));
    setTimeout(
      () => {
        for (const wanted of waited) if (wanted.by.size > 0) this.#enqueue(wanted);
        this.#flushSoon();
      },
      backoffMs(round, PAUSE),
    );
  }

  /** It waits no longer: what nobody else waits for is not asked for any more. */
  #leave(waiter: Waiter<K, V>): void {
    for (const wanted of waiter.wanted) {
      wanted.by.delete(waiter);
      if (wanted.by.size > 0) continue;
      if (this.#queue.get(wanted.name) === wanted) this.#queue.delete(wanted.name);
      if (wanted.call?.batch.every(({ by }) => by.size === 0)) wanted.call.controller.abort();
    }
  }
}

/** @param value undefined for what is not there */
function settle<K, V>({ name, by }: Wanted<K, V>, value: V | undefined): void {
  for (const { names, found, resolve } of by) {
    if (value !== undefined) found.set(name, value);
    names.delete(name);
    if (names.size === 0) resolve(found);
  }
}
