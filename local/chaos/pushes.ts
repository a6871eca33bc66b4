/** A job that pushes a feature of its own, each value until it is taken, and knows what must be served at the end. */
import { setTimeout as sleep } from "node:timers/promises";
import { Random } from "../generator/random.ts";
import { type ChaosRuntime, SERVERS } from "./runtime.ts";

const FEATURE = "chaos:balance";
const CARDS = 200;
const ROWS = 20;
const PAUSE_MS = 200;
const TIMEOUT_MS = 3_000;
const ATTEMPTS = 60;

export interface PushedDifference {
  readonly id: string;
  readonly pushed: number;
  readonly online: unknown;
}

export class ChaosPushes {
  /** Values that were taken. */
  taken = 0;
  readonly #runtime: ChaosRuntime;
  readonly #random: Random;
  readonly #newest = new Map<string, number>();
  readonly #stop = new AbortController();
  readonly #done: Promise<void>;
  #turn = 0;
  #abandoned = false;

  constructor(runtime: ChaosRuntime, seed: number) {
    this.#runtime = runtime;
    this.#random = new Random(seed, 23);
    this.#done = this.#run();
  }

  /** Waits until the last values are taken. @returns false when they are not */
  async drain(timeoutMs: number): Promise<boolean> {
    this.#stop.abort();
    const done = this.#done.then(() => true);
    const inTime = await Promise.race([done, sleep(timeoutMs, false, { ref: false })]);
    this.#abandoned = true;
    return inTime;
  }

  close(): void {
    this.#stop.abort();
    this.#abandoned = true;
  }

  /** Reads every value that was taken last. @throws Error for an answer that is not whole */
  async compare(): Promise<PushedDifference[]> {
    const ids = [...this.#newest.keys()];
    const differences: PushedDifference[] = [];
    for (const id of ids) {
      const online = await this.#read(id);
      const pushed = this.#newest.get(id)!;
      if (online !== pushed) differences.push({ id, pushed, online });
    }
    return differences;
  }

  async #read(id: string): Promise<unknown> {
    const request = { entities: { card_id: id }, features: [FEATURE] };
    for (let attempt = 1; ; attempt++) {
      const { status, body } = await this.#post("/v1/features/online", request);
      if (status === 200 && body.degraded_reason === null) return body.features[FEATURE].value;
      if (attempt === ATTEMPTS) {
        throw new Error(`reading a pushed value answered ${status}, ${body?.degraded_reason ?? body?.code}`);
      }
      await sleep(PAUSE_MS);
    }
  }

  async #run(): Promise<void> {
    const feature = { name: FEATURE, dtype: "double", entity: "card", replace: true };
    await this.#until(async () => (await this.#post("/v1/features/register", feature)).status < 300);
    for (let value = 1; !this.#stop.signal.aborted; value++) {
      const from = this.#random.whole(0, CARDS - 1);
      const ids = Array.from({ length: ROWS }, (_, i) => `chaos_${(from + i) % CARDS}`);
      // Of two equal times a hash would decide: each is later than the one before.
      const event_time_ms = Date.now();
      const rows = ids.map((id) => ({ id, event_time_ms, values: [value] }));
      const taken = await this.#until(
        async () => (await this.#post("/v1/features/push", { features: [FEATURE], rows })).status === 200,
      );
      if (!taken) return;
      for (const id of ids) this.#newest.set(id, value);
      this.taken += ROWS;
      await sleep(PAUSE_MS);
    }
  }

  /** Again and again, as a job does. @returns false where it is given up */
  async #until(attempt: () => Promise<boolean>): Promise<boolean> {
    while (!this.#abandoned) {
      if (await attempt().catch(() => false)) return true;
      await sleep(PAUSE_MS);
    }
    return false;
  }

  async #post(path: string, body: object): Promise<{ status: number; body: any }> {
    const server = SERVERS[this.#turn++ % SERVERS.length];
    const answer = await fetch(this.#runtime.url(server) + path, {
      method: "POST",
      headers: { "content-type": "application/json", "x-api-key": this.#runtime.apiKey },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    return { status: answer.status, body: await answer.json() };
  }
}
