/**
 * Lambda's event source mapping for Kinesis, over a stream in memory, driving a real handler. Emulators deliver batches and
 * ignore the rest; this follows the documented rules (bisect, partial responses, retry and age limits, failure
 * destination, parents before children, order for each partition key) and makes the faults that happen to everybody:
 * lost responses, zombies, repeated deliveries, processes killed in mid-batch. Each rule has a test of its name.
 *
 * Time is virtual. Which lane is served, and which answer is looked at, is drawn from a seeded source, so that a seed
 * repeats every decision of the mapping; only the interleaving of the handlers' own I/O is the machine's.
 */
import { randomUUID } from "node:crypto";
import type { FunctionHost } from "./function-host.ts";
import type { InMemoryStream, StreamRecord } from "./kinesis-stream.ts";
import { type Batch, Lane } from "./mapping-lane.ts";
import {
  type FailureObject,
  failureObject,
  type GivenUp,
  kinesisEvent,
  type Verdict,
  verdictOf,
} from "./mapping-protocol.ts";
import { checkSettings, DEFAULT_SETTINGS, type MappingSettings } from "./mapping-settings.ts";
import type { Random } from "./random.ts";
import type { VirtualClock } from "./virtual-clock.ts";

/** What may happen to an invocation besides what its handler does. */
export type MappingFault =
  /** The function is never run: throttled, or failed to start. */
  | { readonly kind: "not-started" }
  /** It runs, but the mapping hears nothing and retries at once: two of it run. */
  | { readonly kind: "lost-response" }
  /** As before, but the forgotten one is stalled and starts only after that many later invocations, or at `drain`. */
  | { readonly kind: "stalled"; readonly invocations: number }
  /** It succeeds, and its success is forgotten: the records are read and delivered again. */
  | { readonly kind: "lost-checkpoint" }
  /** Its process is killed that many real milliseconds after it began. Needs a host with processes. */
  | { readonly kind: "kill"; readonly afterMs: number };

export interface InvocationRecord {
  /** Counts from 0. */
  readonly number: number;
  readonly shardId: string;
  readonly lane: number;
  readonly sequences: readonly string[];
  /** How often these records' batch was retried before. */
  readonly attempt: number;
  readonly startedAtMs: number;
  readonly fault: MappingFault | null;
  /** Set when the mapping has looked at the answer. */
  verdict: Verdict | null;
}

export interface MappingOptions {
  readonly stream: InMemoryStream;
  readonly host: FunctionHost;
  readonly clock: VirtualClock;
  readonly random: Random;
  readonly settings?: Partial<MappingSettings>;
  /** Decides for each invocation. @default no faults */
  readonly faults?: (invocation: InvocationRecord, random: Random) => MappingFault | null;
  /** Draws each new batch's size from 1 to `batchSize`, as uneven polling does. @default false: as full as can be */
  readonly randomBatchSizes?: boolean;
  /** Told to the handler by its context. @default 60,000 */
  readonly functionTimeoutMs?: number;
}

interface Running {
  readonly lane: Lane;
  readonly batch: Batch;
  readonly record: InvocationRecord;
  readonly answer: Promise<Verdict>;
}

/** Lambda's wait between attempts is not documented; it grows. */
const RETRY_DELAY_MS = 1_000;
const MAX_RETRY_DELAY_MS = 30_000;
const FUNCTION_NAME = "aggregate";
const FUNCTION_ARN = `arn:aws:lambda:us-east-1:000000000000:function:${FUNCTION_NAME}`;

export class KinesisMapping {
  readonly settings: MappingSettings;
  /** Every invocation so far, in order of their starts. */
  readonly invocations: InvocationRecord[] = [];
  /** What was given up, as the S3 failure destination holds it. */
  readonly failures: FailureObject[] = [];
  readonly #options: MappingOptions;
  readonly #id = randomUUID();
  readonly #lanes: Lane[] = [];
  readonly #running = new Map<Lane, Running>();
  readonly #known = new Set<string>();
  readonly #zombies: Promise<unknown>[] = [];
  readonly #stalled: { startAt: number; start: () => void }[] = [];

  constructor(options: MappingOptions) {
    this.#options = options;
    this.settings = checkSettings({ ...DEFAULT_SETTINGS, ...options.settings });
    this.#discoverShards(this.settings.startingPosition === "LATEST");
  }

  /**
   * Runs until everything that can be read is acknowledged or given up; moves the clock over windows and delays.
   * @param until stops earlier. A batch that never succeeds is retried for ever, as in life.
   */
  async run(until: () => boolean = () => false): Promise<void> {
    while (!until() && (await this.step())) {}
  }

  /**
   * One decision: serve a lane, or look at an answer; with neither to do, move the clock to what comes next.
   * @returns false when there is nothing left to wait for
   */
  async step(): Promise<boolean> {
    this.#discoverShards(false);
    const choices: (() => Promise<void> | void)[] = [];
    let nextMs = Number.POSITIVE_INFINITY;
    for (const lane of this.#lanes) {
      const running = this.#running.get(lane);
      if (running !== undefined) {
        choices.push(() => this.#settle(running));
        continue;
      }
      const readyMs = lane.readyAtMs(this.#now());
      if (readyMs <= this.#now()) choices.push(() => this.#serve(lane));
      else nextMs = Math.min(nextMs, readyMs);
    }
    if (choices.length > 0) {
      await this.#options.random.pick(choices)();
      return true;
    }
    if (nextMs === Number.POSITIVE_INFINITY) return false;
    this.#options.clock.advanceTo(nextMs);
    return true;
  }

  /** Lets stalled invocations start now and waits for every forgotten one to end. */
  async drain(): Promise<void> {
    for (const { start } of this.#stalled.splice(0)) start();
    await Promise.all(this.#zombies.splice(0));
  }

  #now(): number {
    return this.#options.clock.now();
  }

  /** A shard joins when its parents are read to their end and everything of them is acknowledged or given up. */
  #discoverShards(fromLatest: boolean): void {
    for (const shard of this.#options.stream.shards) {
      if (this.#known.has(shard.id) || !shard.parents.every((parent) => this.#isFinished(parent))) continue;
      this.#known.add(shard.id);
      for (let index = 0; index < this.settings.parallelizationFactor; index++) {
        this.#lanes.push(new Lane(shard, index, this.settings, fromLatest));
      }
    }
  }

  #isFinished(shardId: string): boolean {
    const lanes = this.#lanes.filter((lane) => lane.shard.id === shardId);
    return lanes.length > 0 && lanes.every((lane) => !this.#running.has(lane) && lane.isReadToItsEnd(this.#now()));
  }

  #serve(lane: Lane): void {
    const { random, randomBatchSizes = false, faults } = this.#options;
    const taken = lane.take(this.#now(), (most) => (randomBatchSizes ? 1 + random.below(most) : most));
    const batch = this.#dropAged(lane, taken);
    if (batch === null) return;
    this.#releaseStalled();
    const plain: InvocationRecord = {
      number: this.invocations.length,
      shardId: lane.shard.id,
      lane: lane.index,
      sequences: batch.records.map(({ sequence }) => sequence),
      attempt: batch.attempts,
      startedAtMs: this.#now(),
      fault: null,
      verdict: null,
    };
    const fault = faults?.(plain, random) ?? null;
    const record = { ...plain, fault };
    this.invocations.push(record);
    const counted = fault?.kind === "not-started" ? batch : { ...batch, invocations: batch.invocations + 1 };
    this.#running.set(lane, { lane, batch: counted, record, answer: this.#invoke(counted, fault) });
  }

  /** Records that are too old are given up before the function sees them. */
  #dropAged(lane: Lane, batch: Batch): Batch | null {
    const { maximumRecordAgeMs } = this.settings;
    if (maximumRecordAgeMs < 0) return batch;
    const fresh = batch.records.findIndex((record) => this.#now() - record.arrivalMs <= maximumRecordAgeMs);
    if (fresh === 0) return batch;
    const aged = fresh < 0 ? batch.records : batch.records.slice(0, fresh);
    this.#giveUp({ ...batch, records: aged }, "RecordAgeExceeded");
    if (fresh < 0) return null;
    lane.retries.unshift({ ...batch, records: batch.records.slice(fresh) });
    return null;
  }

  /** Starts the function, or pretends to. The promise never rejects. */
  #invoke(batch: Batch, fault: MappingFault | null): Promise<Verdict> {
    const { stream, host, functionTimeoutMs = 60_000 } = this.#options;
    const call = (killAfterMs?: number): Promise<Verdict> => {
      const context = {
        awsRequestId: randomUUID(),
        functionName: FUNCTION_NAME,
        invokedFunctionArn: FUNCTION_ARN,
        timeoutMs: functionTimeoutMs,
      };
      return host.invoke(kinesisEvent(stream.arn, batch.records), context, killAfterMs).then(
        (response) =>
          this.settings.reportBatchItemFailures ? verdictOf(response, batch.records) : { kind: "success" },
        (error: unknown) => ({ kind: "failure", why: String(error) }),
      );
    };
    switch (fault?.kind) {
      case "not-started":
        return Promise.resolve({ kind: "failure", why: "not started" });
      case "lost-response":
        this.#zombies.push(call());
        return Promise.resolve({ kind: "failure", why: "response lost" });
      case "stalled":
        this.#stalled.push({
          startAt: this.invocations.length + fault.invocations,
          start: () => this.#zombies.push(call()),
        });
        return Promise.resolve({ kind: "failure", why: "response lost" });
      case "kill":
        return call(fault.afterMs);
      default:
        return call();
    }
  }

  #releaseStalled(): void {
    const due = this.#stalled.filter(({ startAt }) => startAt <= this.invocations.length);
    for (const stalled of due) {
      this.#stalled.splice(this.#stalled.indexOf(stalled), 1);
      stalled.start();
    }
  }

  async #settle({ lane, batch, record, answer }: Running): Promise<void> {
    const verdict = await answer;
    record.verdict = verdict;
    this.#running.delete(lane);
    if (record.fault?.kind === "not-started") {
      // An invocation that never began takes nothing from the quota and says nothing against the batch.
      lane.retries.unshift({ ...batch, notBeforeMs: this.#now() + RETRY_DELAY_MS });
    } else if (verdict.kind === "success") {
      if (record.fault?.kind === "lost-checkpoint") lane.retries.unshift(...this.#cutAnew(batch));
    } else if (verdict.kind === "partial" && verdict.index > 0) {
      this.#retryFrom(lane, batch, verdict.index);
    } else if (verdict.kind === "failure" && this.settings.bisectBatchOnFunctionError && batch.records.length > 1) {
      this.#bisect(lane, batch);
    } else {
      this.#retry(lane, batch);
    }
  }

  /** Progress was made: what comes from the returned sequence on is retried, whatever else of it was done. */
  #retryFrom(lane: Lane, batch: Batch, index: number): void {
    const rest = { ...batch, records: batch.records.slice(index) };
    // With bisect on this is a split, which takes nothing from the retry quota.
    if (this.settings.bisectBatchOnFunctionError) lane.retries.unshift({ ...rest, notBeforeMs: this.#now() });
    else this.#retry(lane, rest);
  }

  /** Halves keep their order: the second is not sent before the first is done. Splitting takes nothing from the quota. */
  #bisect(lane: Lane, batch: Batch): void {
    const middle = Math.ceil(batch.records.length / 2);
    const half = (records: readonly StreamRecord[]): Batch => ({ ...batch, records, notBeforeMs: this.#now() });
    lane.retries.unshift(half(batch.records.slice(0, middle)), half(batch.records.slice(middle)));
  }

  #retry(lane: Lane, batch: Batch): void {
    const { maximumRetryAttempts } = this.settings;
    if (maximumRetryAttempts >= 0 && batch.attempts >= maximumRetryAttempts) {
      this.#giveUp(batch, "RetryAttemptsExhausted");
      return;
    }
    const delayMs = Math.min(MAX_RETRY_DELAY_MS, RETRY_DELAY_MS * 2 ** batch.attempts);
    lane.retries.unshift({ ...batch, attempts: batch.attempts + 1, notBeforeMs: this.#now() + delayMs });
  }

  #giveUp(batch: Batch, condition: GivenUp): void {
    this.failures.push(
      failureObject({
        records: batch.records,
        streamArn: this.#options.stream.arn,
        functionArn: FUNCTION_ARN,
        mappingId: this.#id,
        condition,
        invocations: batch.invocations,
        nowMs: this.#now(),
      }),
    );
  }

  /** Records that are read again come in other batches. */
  #cutAnew(batch: Batch): Batch[] {
    const fresh = (records: readonly StreamRecord[]): Batch => ({
      records,
      attempts: 0,
      invocations: 0,
      notBeforeMs: this.#now(),
    });
    const cut = this.#options.random.below(batch.records.length);
    if (cut === 0) return [fresh(batch.records)];
    return [fresh(batch.records.slice(0, cut)), fresh(batch.records.slice(cut))];
  }
}
