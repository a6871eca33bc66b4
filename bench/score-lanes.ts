/** Callers that score one after the other over connections of their own, and what each call came to, told by when it was answered. */
import { Agent, request } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { LOOPBACK } from "../local/ports.ts";

export interface ScoreTarget {
  readonly port: number;
  readonly key: string;
  /** The body of the n-th call. */
  body(n: number): object;
}
export interface ScoreCall {
  /** By `performance.now()`. */
  readonly endedMs: number;
  readonly tookMs: number;
  /** By the server's own clock; null where it has not said. What is beyond it, the caller and the machine have added. */
  readonly servedMs: number | null;
  /** Null where no answer came. */
  readonly status: number | null;
  /** Why the answer is degraded, else why it failed; null for a whole one. */
  readonly reason: string | null;
}

/** Between an answer and the same caller's next call. */
const PAUSE_MS = 5;

/** Runs until it is told to end. */
export class ScoreLanes {
  readonly calls: ScoreCall[] = [];
  readonly #target: ScoreTarget;
  readonly #agent: Agent;
  readonly #done: Promise<unknown>;
  #isOver = false;
  #next = 0;

  constructor(target: ScoreTarget, callers: number) {
    this.#target = target;
    this.#agent = new Agent({ keepAlive: true, maxSockets: callers });
    this.#done = Promise.all(Array.from({ length: callers }, () => this.#drive()));
  }

  async end(): Promise<readonly ScoreCall[]> {
    this.#isOver = true;
    await this.#done;
    this.#agent.destroy();
    return this.calls;
  }

  async #drive(): Promise<void> {
    while (!this.#isOver) {
      this.calls.push(await this.#score(this.#next++));
      await sleep(PAUSE_MS);
    }
  }

  #score(n: number): Promise<ScoreCall> {
    const { port, key } = this.#target;
    const body = JSON.stringify(this.#target.body(n));
    const headers = { "x-api-key": key, "content-type": "application/json", "content-length": Buffer.byteLength(body) };
    const startedMs = performance.now();
    return new Promise((resolve) => {
      const settle = (status: number | null, reason: string | null, servedMs: number | null = null): void => {
        const endedMs = performance.now();
        resolve({ endedMs, tookMs: endedMs - startedMs, servedMs, status, reason });
      };
      const call = request(
        { host: LOOPBACK, port, agent: this.#agent, method: "POST", path: "/v1/score/fraud", headers },
        (answer) => {
          let text = "";
          answer.setEncoding("utf8");
          answer.on("data", (chunk: string) => {
            text += chunk;
          });
          answer.once("error", (error) => settle(null, error.message));
          answer.once("end", () => {
            const { degraded_reason, code, latency_ms } = JSON.parse(text);
            settle(answer.statusCode as number, degraded_reason ?? code ?? null, latency_ms ?? null);
          });
        },
      );
      call.once("error", (error) => settle(null, error.message));
      call.end(body);
    });
  }
}
