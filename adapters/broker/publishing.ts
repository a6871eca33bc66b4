/**
 * How ingest sends to any broker: in parts of a bounded size, each waited for for a bounded time, and what was not acknowledged again, with
 * jitter, for a bounded time.
 */
import { backoffMs } from "../backoff.ts";
import { within } from "../online-store/within.ts";
import type { OutgoingRecord, Publisher, PublishOutcome } from "./broker.ts";

export interface PublishingOptions {
  /** Plan name to the broker's. */
  readonly streamNames: Readonly<Record<string, string>>;
  /** How long failed records are tried again; the caller has its own queue and should hear soon. @default 2_000 */
  readonly budgetMs?: number;
  /** How long one attempt may take; the broker may have taken what was not acknowledged by then. @default 3_000 */
  readonly attemptMs?: number;
  readonly sleep?: (ms: number) => Promise<void>;
  readonly random?: () => number;
  readonly now?: () => number;
}

export interface PartLimits {
  readonly records: number;
  readonly bytes: number;
}

/** A client that gives up an attempt by itself, and its socket with it, does so after this. */
export const ATTEMPT_MS = 3_000;
const PAUSE = { firstMs: 50, longestMs: 800 };

/**
 * Sends some of the records once.
 * @param name the broker's
 * @returns an outcome for each, in order. Never throws, and may hang.
 */
export type SendPart = (name: string, records: readonly OutgoingRecord[]) => Promise<PublishOutcome[]>;

export function createPublisher(send: SendPart, limits: PartLimits, options: PublishingOptions): Publisher {
  const {
    streamNames,
    budgetMs = 2_000,
    attemptMs = ATTEMPT_MS,
    sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
    random = Math.random,
    now = Date.now,
  } = options;
  return {
    async publish(stream, records) {
      const outcomes: PublishOutcome[] = new Array(records.length).fill("unavailable");
      const name = streamNames[stream];
      if (name === undefined) return outcomes;
      const deadline = now() + budgetMs;
      let pending = records.map((_, i) => i);
      for (let attempt = 1; pending.length > 0; attempt++) {
        for (const part of parts(records, pending, limits)) {
          const sending = send(
            name,
            part.map((index) => records[index]),
          );
          const answered = await within(attemptMs, sending).catch(() => null);
          part.forEach((index, i) => {
            outcomes[index] = answered?.[i] ?? "unavailable";
          });
          // A broker that hangs over this part would over the next one.
          if (now() >= deadline && part.every((index) => outcomes[index] === "unavailable")) return outcomes;
        }
        pending = pending.filter((i) => outcomes[i] !== "queued");
        const delay = Math.ceil(backoffMs(attempt, PAUSE, random));
        if (pending.length === 0 || now() + delay >= deadline) break;
        await sleep(delay);
      }
      return outcomes;
    },
  };
}

function parts(records: readonly OutgoingRecord[], pending: readonly number[], limits: PartLimits): number[][] {
  const result: number[][] = [];
  let current: number[] = [];
  let bytes = 0;
  for (const index of pending) {
    const size = records[index].data.length + records[index].partitionKey.length * 3;
    if (current.length > 0 && (current.length === limits.records || bytes + size > limits.bytes)) {
      result.push(current);
      current = [];
      bytes = 0;
    }
    current.push(index);
    bytes += size;
  }
  if (current.length > 0) result.push(current);
  return result;
}
