/**
 * Keeps calls away from a dependency that does not answer. It opens when enough of the newest calls have failed, and closes
 * by itself: while it is open one call at a time tries, beside the others, which go without. Times are those of a monotonic
 * clock, in ms, handed in.
 */
export interface BreakerOptions {
  /** Failures among the newest `of` calls that open it. @default 5 */
  readonly failures?: number;
  /** @default 20 */
  readonly of?: number;
  /** Older outcomes do not count. @default 10_000 */
  readonly windowMs?: number;
  /** How long after one try the next one comes. @default 500 */
  readonly probeEveryMs?: number;
  /** Where nobody has called for as long, nothing is known any more: a call goes the common way and is the try itself. @default 10_000 */
  readonly quietMs?: number;
}

/**
 * `call`: go, and tell how it went. `probe`: do without, but try beside that, and tell how it went. `skip`: do without, and
 * tell nothing.
 */
export type Admission = "call" | "probe" | "skip";

export class CircuitBreaker {
  readonly #options: Required<BreakerOptions>;
  readonly #onChange: (isOpen: boolean) => void;
  /** Times of failures, null for successes; newest last, at most `of`. */
  #outcomes: (number | null)[] = [];
  #isOpen = false;
  #triedMs = 0;
  #askedMs = 0;

  /** @param onChange called when it has opened or closed */
  constructor(options: BreakerOptions, onChange: (isOpen: boolean) => void = () => {}) {
    this.#options = { failures: 5, of: 20, windowMs: 10_000, probeEveryMs: 500, quietMs: 10_000, ...options };
    this.#onChange = onChange;
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  admit(nowMs: number): Admission {
    const { probeEveryMs, quietMs } = this.#options;
    const wasQuiet = nowMs - this.#askedMs >= quietMs;
    this.#askedMs = nowMs;
    if (!this.#isOpen) return "call";
    if (nowMs - this.#triedMs < probeEveryMs) return "skip";
    this.#triedMs = nowMs;
    return wasQuiet ? "call" : "probe";
  }

  succeeded(): void {
    if (this.#isOpen) {
      // What failed before says nothing of what answers now.
      this.#outcomes = [];
      this.#isOpen = false;
      this.#onChange(false);
      return;
    }
    // Nothing to outweigh: the common case costs nothing.
    if (this.#outcomes.length > 0) this.#note(null);
  }

  failed(nowMs: number): void {
    if (this.#isOpen) {
      this.#triedMs = nowMs;
      return;
    }
    this.#note(nowMs);
    const { failures, windowMs } = this.#options;
    const recent = this.#outcomes.filter((atMs) => atMs !== null && nowMs - atMs <= windowMs);
    if (recent.length < failures) return;
    this.#isOpen = true;
    this.#triedMs = nowMs;
    this.#onChange(true);
  }

  #note(outcome: number | null): void {
    this.#outcomes.push(outcome);
    if (this.#outcomes.length > this.#options.of) this.#outcomes.shift();
    if (this.#outcomes.every((atMs) => atMs === null)) this.#outcomes = [];
  }
}
