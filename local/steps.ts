import { styleText } from "node:util";

/** Where progress goes: stderr, so that stdout stays for results. */
const out = process.stderr;

/**
 * Shows work as lines with durations. On a terminal the line of what runs now counts seconds; in a log only finished steps
 * appear. Steps may run at the same time.
 */
export class Steps {
  readonly #running = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;

  async step<T>(name: string, work: (note: (text: string) => void) => Promise<T>): Promise<T> {
    const started = performance.now();
    let noted = "";
    this.#running.set(name, started);
    this.#startTimer();
    try {
      const result = await work((text) => {
        noted = text;
      });
      this.#finish(name, styleText("green", "✓"), started, noted);
      return result;
    } catch (error) {
      this.#finish(name, styleText("red", "✗"), started, "");
      throw error;
    }
  }

  /** A line without a duration. */
  say(text: string): void {
    this.#clear();
    out.write(`${text}\n`);
  }

  #finish(name: string, mark: string, started: number, noted: string): void {
    this.#running.delete(name);
    if (this.#running.size === 0) {
      clearInterval(this.#timer);
      this.#timer = undefined;
    }
    const seconds = `${((performance.now() - started) / 1000).toFixed(1)} s`;
    this.say(
      `  ${mark} ${name.padEnd(32)} ${seconds.padStart(7)}${noted === "" ? "" : `  ${styleText("dim", noted)}`}`,
    );
  }

  #startTimer(): void {
    if (!out.isTTY || this.#timer !== undefined) return;
    this.#timer = setInterval(() => {
      const now = performance.now();
      const names = [...this.#running].map(([name, since]) => `${name} ${Math.floor((now - since) / 1000)} s`);
      this.#clear();
      out.write(styleText("dim", `  … ${names.join(", ")}`));
    }, 200);
    this.#timer.unref();
  }

  #clear(): void {
    if (out.isTTY) out.write("\r\x1b[K");
  }
}
