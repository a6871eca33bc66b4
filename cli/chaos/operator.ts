/** Somebody who looks at `/ready` and does what the runbook says. */
import { setTimeout as sleep } from "node:timers/promises";
import { FreshetError } from "../../core/errors.ts";
import { type ChaosRuntime, SERVERS } from "../../local/chaos/runtime.ts";
import type { OperatedDeployment } from "../deployment.ts";
import { recover } from "../recovery.ts";

const LOOK_MS = 5_000;

export interface RecoveryNote {
  readonly found: string;
  /** Null where it failed, and was tried again. */
  readonly state: string | null;
  readonly applied: number;
  readonly seconds: number;
}

export class Operator {
  readonly notes: RecoveryNote[] = [];
  readonly #deployment: OperatedDeployment;
  readonly #runtime: ChaosRuntime;
  readonly #tell: (text: string) => void;
  readonly #stop = new AbortController();
  readonly #done: Promise<void>;

  constructor(deployment: OperatedDeployment, runtime: ChaosRuntime, tell: (text: string) => void) {
    this.#deployment = deployment;
    this.#runtime = runtime;
    this.#tell = tell;
    this.#done = this.#watch();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#done;
  }

  /** Works on until the store is whole, and what was pushed is back. @throws FreshetError `not_settled` */
  async rest(timeoutMs: number, signal: AbortSignal): Promise<void> {
    await this.stop();
    await this.#until(() => this.#recover(), timeoutMs, signal);
    this.#tell("the store is whole");
    await this.#until(async () => (await this.#look()) === "ok", timeoutMs, signal);
  }

  async #until(done: () => Promise<boolean>, timeoutMs: number, signal: AbortSignal): Promise<void> {
    const deadline = Date.now() + timeoutMs;
    while (!(await done())) {
      signal.throwIfAborted();
      if (Date.now() > deadline) {
        const state = await this.#look();
        throw new FreshetError("not_settled", `the store is ${state} and was not ok within ${timeoutMs / 1000} s`);
      }
      await sleep(LOOK_MS, undefined, { signal });
    }
  }

  async #watch(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await sleep(LOOK_MS, undefined, { signal }).catch(() => {});
      if (signal.aborted) return;
      const state = await this.#look();
      if (state === "failover" || state === "lost" || state === "restoring") await this.#recover();
    }
  }

  async #look(): Promise<string | null> {
    for (const server of SERVERS) {
      try {
        const answer = await fetch(`${this.#runtime.url(server)}/ready`, { signal: AbortSignal.timeout(2_000) });
        const { checks } = (await answer.json()) as { checks?: { online_store?: { control?: string } } };
        return checks?.online_store?.control ?? null;
      } catch {
        // The other one may answer.
      }
    }
    return null;
  }

  /** @returns whether the store is whole */
  async #recover(): Promise<boolean> {
    const startedMs = Date.now();
    const seconds = (): number => (Date.now() - startedMs) / 1000;
    try {
      const { found, state, steps } = await recover(this.#deployment, () => {});
      const applied = steps.reduce((sum, step) => sum + step.applied, 0);
      if (found !== "ok") {
        this.#tell(
          `the operator recovers: ${found} → ${state}, ${applied} events were missing, ${seconds().toFixed(1)} s`,
        );
        this.notes.push({ found, state, applied, seconds: seconds() });
      }
      return state === "ok";
    } catch (error) {
      this.#tell(`the operator's recovery failed, and is tried again: ${(error as Error).message}`);
      this.notes.push({ found: "unknown", state: null, applied: 0, seconds: seconds() });
      return false;
    }
  }
}
