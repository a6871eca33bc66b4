/** Time of the broker and the mapping in a test: it moves only when somebody moves it. */
export class VirtualClock {
  #nowMs: number;

  constructor(startMs: number) {
    this.#nowMs = startMs;
  }

  now(): number {
    return this.#nowMs;
  }

  advance(ms: number): void {
    if (ms < 0) throw new Error(`time cannot go back, given ${ms} ms`);
    this.#nowMs += ms;
  }

  advanceTo(instantMs: number): void {
    this.advance(Math.max(0, instantMs - this.#nowMs));
  }
}
