/** Clients that score all the time, whatever happens, and what they saw of it. */
import { setTimeout as sleep } from "node:timers/promises";
import { type ChaosRuntime, SERVERS } from "./runtime.ts";

const CLIENTS = 2;
const PAUSE_MS = 40;
/** A caller in a payment's path does not wait longer; it asks the other server once. */
const TIMEOUT_MS = 1_000;

export interface Availability {
  readonly requests: number;
  /** Of 1: answered with 200, by the first server asked, and by either. */
  readonly firstTry: number;
  readonly success: number;
  /** Of 1: answered, and marked as degraded. */
  readonly degraded: number;
  readonly degradedBy: Readonly<Record<string, number>>;
  readonly p50Ms: number | null;
  readonly p99Ms: number | null;
  /** The longest time without any answer. */
  readonly longestGapMs: number;
  /** Of those that failed: what the last try said. */
  readonly failures: Readonly<Record<string, number>>;
}

export class ScoreClients {
  readonly #runtime: ChaosRuntime;
  readonly #body: () => object | null;
  readonly #stop = new AbortController();
  readonly #done: Promise<unknown>;
  readonly #latencies: number[] = [];
  readonly #degradedBy: Record<string, number> = {};
  readonly #failures: Record<string, number> = {};
  #requests = 0;
  #first = 0;
  #succeeded = 0;
  #answeredAt = performance.now();
  #longestGapMs = 0;

  /** @param body of a request; null while there is none yet */
  constructor(runtime: ChaosRuntime, body: () => object | null) {
    this.#runtime = runtime;
    this.#body = body;
    this.#done = Promise.all(Array.from({ length: CLIENTS }, (_, client) => this.#run(client)));
  }

  async stop(): Promise<Availability> {
    this.#stop.abort();
    await this.#done;
    this.#noteGap();
    const sorted = [...this.#latencies].sort((a, b) => a - b);
    const at = (share: number): number | null => sorted[Math.floor((sorted.length - 1) * share)] ?? null;
    const of = (count: number): number => (this.#requests === 0 ? 1 : count / this.#requests);
    return {
      requests: this.#requests,
      firstTry: of(this.#first),
      success: of(this.#succeeded),
      degraded: of(Object.values(this.#degradedBy).reduce((a, b) => a + b, 0)),
      degradedBy: this.#degradedBy,
      p50Ms: at(0.5),
      p99Ms: at(0.99),
      longestGapMs: this.#longestGapMs,
      failures: this.#failures,
    };
  }

  async #run(client: number): Promise<void> {
    for (let turn = client; !this.#stop.signal.aborted; turn++) {
      const body = this.#body();
      if (body !== null) await this.#ask(turn, JSON.stringify(body));
      await sleep(PAUSE_MS);
    }
  }

  async #ask(turn: number, body: string): Promise<void> {
    const startedAt = performance.now();
    this.#requests++;
    for (let tries = 0; tries < SERVERS.length; tries++) {
      const outcome = await this.#post(SERVERS[(turn + tries) % SERVERS.length], body);
      if (typeof outcome === "string") {
        if (tries === SERVERS.length - 1) this.#failures[outcome] = (this.#failures[outcome] ?? 0) + 1;
        continue;
      }
      if (tries === 0) this.#first++;
      this.#succeeded++;
      this.#latencies.push(performance.now() - startedAt);
      this.#noteGap();
      const { reason } = outcome;
      if (reason !== null) this.#degradedBy[reason] = (this.#degradedBy[reason] ?? 0) + 1;
      return;
    }
  }

  #noteGap(): void {
    const now = performance.now();
    this.#longestGapMs = Math.max(this.#longestGapMs, now - this.#answeredAt);
    this.#answeredAt = now;
  }

  /** @returns what went wrong, or why the answer is degraded */
  async #post(server: (typeof SERVERS)[number], body: string): Promise<string | { reason: string | null }> {
    try {
      const answer = await fetch(`${this.#runtime.url(server)}/v1/score/fraud`, {
        method: "POST",
        headers: { "content-type": "application/json", "x-api-key": this.#runtime.apiKey },
        body,
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      const { degraded_reason: reason = null } = (await answer.json()) as { degraded_reason?: string | null };
      return answer.status === 200 ? { reason } : String(answer.status);
    } catch (error) {
      return (error as Error).name === "TimeoutError" ? "timeout" : "refused";
    }
  }
}
