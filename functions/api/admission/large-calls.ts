/**
 * Turns of calls with many rows. One of them is worth many small ones, so that a few dozen at once would hold everybody up for a second,
 * and are under way before anything shows that they are too many. So a few run at a time, the others wait for their turn, and who would wait
 * too long is turned away at once. Small calls pass between them.
 */
import { performance } from "node:perf_hooks";

/** Calls from so many rows on are large. */
export const LARGE_ROWS = 10;
/** What a row costs of what a call with one costs: measured for scores of four entities, a quarter; reads are as much or less. */
const ROW_SHARE = 0.25;
/** At a time: one is worked on while the others wait for the store. */
const RUNNING = 4;
/** One that runs for longer waits for something else than this thread, and keeps its place from nobody. */
const HOLD_MS = 50;
/** Calls that would wait longer for their turn are turned away, */
const WAIT_LIMIT_MS = 200;
/** but for these few, also on a machine that is slow: as many again as run. */
const FREE_WAITING = RUNNING;
/** Whoever has waited for so long, against what was thought, has given up, or will ask a second time. */
const GIVEN_UP_MS = 1_000;
/** Until it is known, what a thread does in a ms, in calls with one row. */
const USUAL_CAPACITY = 1;

export interface LargeCall {
  /** In calls with one row. */
  readonly work: number;
  /** When it came; once it runs, when it began to. */
  sinceMs: number;
  /** Told once its turn has come, or that it will not. */
  readonly begin: (isIn: boolean) => void;
}

export class LargeCalls {
  /** Of those that run, in calls with one row. */
  work = 0;
  shed = 0;
  readonly #capacity: () => number | null;
  readonly #running = new Set<LargeCall>();
  readonly #queue: LargeCall[] = [];
  #queuedWork = 0;
  #timer: NodeJS.Timeout | null = null;

  /** @param capacity what the thread does in a ms, in calls with one row; null while it is not known */
  constructor(capacity: () => number | null) {
    this.#capacity = capacity;
  }

  get waiting(): number {
    return this.#queue.length;
  }

  /**
   * @param nowMs of a monotonic clock
   * @returns when its turn has come; `end` has to follow. Null for one that is turned away, then or later
   */
  enter(rows: number, nowMs = performance.now()): Promise<LargeCall | null> {
    const work = rows * ROW_SHARE;
    const waitMs = (this.work + this.#queuedWork) / (this.#capacity() ?? USUAL_CAPACITY);
    if (this.#queue.length >= FREE_WAITING && waitMs > WAIT_LIMIT_MS) {
      this.shed++;
      return Promise.resolve(null);
    }
    return new Promise((resolve) => {
      const call: LargeCall = { work, sinceMs: nowMs, begin: (isIn) => resolve(isIn ? call : null) };
      this.#queue.push(call);
      this.#queuedWork += work;
      this.#beginNext(nowMs);
    });
  }

  end(call: LargeCall, nowMs = performance.now()): void {
    this.#running.delete(call);
    this.work -= call.work;
    this.#beginNext(nowMs);
  }

  /** Places that are taken. */
  #busy(nowMs: number): number {
    let busy = 0;
    for (const { sinceMs } of this.#running) if (nowMs - sinceMs < HOLD_MS) busy++;
    return busy;
  }

  #beginNext(nowMs: number): void {
    while (this.#queue.length > 0 && this.#busy(nowMs) < RUNNING) {
      const call = this.#queue.shift()!;
      this.#queuedWork -= call.work;
      if (nowMs - call.sinceMs > GIVEN_UP_MS) {
        this.shed++;
        call.begin(false);
        continue;
      }
      call.sinceMs = nowMs;
      this.work += call.work;
      this.#running.add(call);
      call.begin(true);
    }
    if (this.#queue.length > 0) this.#lookAgain();
  }

  /** For those that wait while none of those that run ends. */
  #lookAgain(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      this.#beginNext(performance.now());
    }, HOLD_MS);
  }
}
