/**
 * The mapping of Kafka to the function, for wherever no platform has one: a member of a consumer group that hands batches of each partition to the
 * function, one at a time, and commits what was acknowledged. A batch that fails is tried again for ever, in halves, with
 * growing pauses: its partition waits, others go on. Nothing is skipped.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { kafkaBroker } from "../../adapters/kafka/broker.ts";
import { doneOf, kafkaEvent } from "./event.ts";
import type { Lane } from "./lane.ts";
import { Member, type MemberOptions } from "./member.ts";

export interface MappingOptions extends Omit<MemberOptions, "onChange"> {
  /** @throws whatever the function throws */
  readonly invoke: (event: unknown) => Promise<unknown>;
  /** Whether another invocation may begin. */
  readonly hasRoom: () => boolean;
  readonly random?: () => number;
}

/** What `/health` and `/metrics` tell. */
export interface MappingState {
  readonly isMember: boolean;
  /** When Kafka has last answered. */
  readonly heardMs: number;
  readonly invocations: number;
  readonly failures: number;
  readonly records: number;
  readonly lanes: readonly Pick<Lane, "topic" | "partition" | "lag" | "attempts" | "blockedSinceMs" | "position">[];
}

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;

export class Mapping {
  readonly #options: MappingOptions;
  readonly #stop = new AbortController();
  readonly #inFlight = new Set<Promise<void>>();
  #member: Member | null = null;
  #timer: NodeJS.Timeout | undefined;
  #turn = 0;
  #invocations = 0;
  #failures = 0;
  #records = 0;

  constructor(options: MappingOptions) {
    this.#options = options;
  }

  get state(): MappingState {
    const member = this.#member;
    return {
      isMember: member?.isJoined ?? false,
      heardMs: member?.heardMs ?? 0,
      invocations: this.#invocations,
      failures: this.#failures,
      records: this.#records,
      lanes: [...(member?.lanes.values() ?? [])],
    };
  }

  /**
   * Runs until `stop`. Kafka may be away for as long as it likes.
   * @throws FreshetError `topic_unsuitable` before anything is read, where arrivals would not be the broker's
   */
  async run(): Promise<void> {
    const { signal } = this.#stop;
    await this.#requireTopics(signal);
    for (let failures = 0; !signal.aborted; ) {
      const member = new Member({ ...this.#options, onChange: () => this.#pump() });
      this.#member = member;
      try {
        await Promise.race([member.join(), member.ended, aborted(signal)]);
        failures = 0;
        await Promise.race([member.ended, aborted(signal)]);
      } catch (error) {
        if (signal.aborted) break;
        member.abandon();
        this.#options.log("membership lost", { error: (error as Error).message });
        await pause(Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failures++), signal);
      }
    }
    clearTimeout(this.#timer);
    await Promise.all(this.#inFlight);
    await this.#member?.leave();
  }

  /** Takes nothing more; `run` ends when what is in flight is settled and committed. */
  stop(): void {
    this.#stop.abort();
  }

  async #requireTopics(signal: AbortSignal): Promise<void> {
    for (let failures = 0; !signal.aborted; failures++) {
      const broker = kafkaBroker(this.#options.settings);
      try {
        for (const topic of this.#options.topics) await broker.list(topic);
        return;
      } catch (error) {
        const { code, message } = error as Error & { code?: string };
        if (code === "topic_unsuitable" || code === "kafka_settings") throw error;
        this.#options.log("waiting for Kafka and the topics", { error: message });
        await pause(Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failures), signal);
      } finally {
        await broker.close().catch(() => {});
      }
    }
  }

  /** Begins what can be begun, fairly by turns, and comes back when the next batch is due. */
  #pump(): void {
    const member = this.#member;
    if (member === null || this.#stop.signal.aborted) return;
    const nowMs = Date.now();
    const lanes = [...member.lanes.values()];
    const turn = this.#turn++;
    let nextMs = Number.POSITIVE_INFINITY;
    for (let i = 0; i < lanes.length && this.#options.hasRoom(); i++) {
      const lane = lanes[(i + turn) % lanes.length]!;
      const dueMs = lane.dueMs();
      if (dueMs === null) continue;
      if (dueMs > nowMs) nextMs = Math.min(nextMs, dueMs);
      else this.#begin(member, lane, nowMs);
    }
    clearTimeout(this.#timer);
    if (nextMs < Number.POSITIVE_INFINITY) this.#timer = setTimeout(() => this.#pump(), nextMs - nowMs);
  }

  #begin(member: Member, lane: Lane, nowMs: number): void {
    const records = lane.take(nowMs)!;
    const { settings, invoke, random = Math.random, log } = this.#options;
    this.#invocations++;
    const call = invoke(kafkaEvent(settings.bootstrapServers, lane.topic, lane.partition, records))
      .then(
        (answer) => doneOf(answer, records),
        (error: Error) => {
          log("batch failed", {
            ...{ topic: lane.topic, partition: lane.partition, records: records.length },
            ...{ first: String(records[0]!.offset), attempts: lane.attempts + 1, error: error.message },
          });
          return 0;
        },
      )
      .then((done) => {
        this.#records += done;
        if (done < records.length) this.#failures++;
        lane.settle(done, Date.now(), random);
        this.#inFlight.delete(call);
        member.moved();
        this.#pump();
      });
    this.#inFlight.add(call);
  }
}

const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });

const pause = (ms: number, signal: AbortSignal): Promise<void> => sleep(ms, undefined, { signal }).catch(() => {});
