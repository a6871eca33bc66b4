/** Producers that send every event until it is acknowledged, by HTTP and to the broker, and remember which were. */
import { setTimeout as sleep } from "node:timers/promises";
import { hash64 } from "../../adapters/hash.ts";
import { createKinesisClient } from "../../adapters/kinesis/client.ts";
import { identityText } from "../../core/event.ts";
import { clientConfig } from "../deploy.ts";
import type { Outgoing } from "../generator/disturb.ts";
import { generate } from "../generator/run.ts";
import { brokerSink, httpSink, type Sink } from "../generator/sinks.ts";
import type { ChaosRuntime } from "./runtime.ts";
import { SERVERS } from "./runtime.ts";

export const TENANT = "default";
const STREAMS = ["transactions", "clicks"] as const;
/** Of a batch that nobody acknowledges. */
const PAUSE_MS = 500;
/** Events of a batch: an answer that is lost repeats no more than these. */
const BATCH = 100;

export interface JournalEntry {
  readonly event: Outgoing["event"];
  /** When it was about to be sent for the first time. */
  readonly sentMs: number;
  /** Null until the broker or the API has said so. */
  ackedMs: number | null;
}

export interface LoadOptions {
  readonly seed: number;
  readonly perSecond: number;
  readonly forMs: number;
}

/** One way to the broker, with what waits for it. */
class Lane {
  readonly #queue: Outgoing[] = [];
  readonly #sinks: readonly Sink[];
  readonly #done: (batch: readonly Outgoing[]) => void;
  readonly #signal: AbortSignal;
  #closed = false;
  attempts = 0;
  readonly ended: Promise<void>;

  constructor(sinks: readonly Sink[], done: (batch: readonly Outgoing[]) => void, signal: AbortSignal) {
    this.#sinks = sinks;
    this.#done = done;
    this.#signal = signal;
    this.ended = this.#run();
  }

  add(out: Outgoing): void {
    this.#queue.push(out);
  }

  get waiting(): number {
    return this.#queue.length;
  }

  close(): void {
    this.#closed = true;
  }

  async #run(): Promise<void> {
    while (!this.#signal.aborted && !(this.#closed && this.#queue.length === 0)) {
      const batch = this.#queue.slice(0, BATCH);
      if (batch.length === 0) {
        await sleep(20);
        continue;
      }
      // Another server each time, as a load balancer would have it.
      const sink = this.#sinks[this.attempts++ % this.#sinks.length];
      const acknowledged = await sink.send(batch).catch(() => 0);
      // Of a part nobody says which: all of it is sent again, and counts once.
      if (acknowledged < batch.length) await sleep(PAUSE_MS);
      else {
        this.#queue.splice(0, batch.length);
        this.#done(batch);
      }
    }
  }
}

export class ChaosLoad {
  /** By identity; whatever was ever sent whole. */
  readonly journal = new Map<string, JournalEntry>();
  /** Broken on purpose: they are refused, and count for nothing. */
  malformed = 0;
  duplicates = 0;
  readonly #lanes: readonly Lane[];
  readonly #abort = new AbortController();
  readonly #stop = new AbortController();
  readonly #generated: Promise<unknown>;
  readonly #kinesis;

  constructor(runtime: ChaosRuntime, { seed, perSecond, forMs }: LoadOptions) {
    this.#kinesis = createKinesisClient({ ...clientConfig(runtime.ports.emulator), maxAttempts: 1 });
    const { streams } = runtime.deployment;
    const http = SERVERS.map((server) => httpSink(runtime.url(server), runtime.apiKey));
    const done = (batch: readonly Outgoing[]): void => this.#acknowledged(batch);
    const lane = (sinks: readonly Sink[]): Lane => new Lane(sinks, done, this.#abort.signal);
    this.#lanes = [
      lane(http),
      lane([brokerSink(this.#kinesis, streams, true, seed)]),
      lane([brokerSink(this.#kinesis, streams, false, seed)]),
    ];
    const nowMs = Date.now();
    this.#generated = generate(
      {
        tenant: TENANT,
        seed,
        fromMs: nowMs,
        toMs: nowMs + forMs,
        live: true,
        streams: STREAMS,
        transactionsPerSecond: perSecond * 0.7,
        clicksPerSecond: perSecond * 0.3,
        customers: 300,
        merchants: 40,
        fraudRate: 0.01,
        duplicates: 0.05,
        disorder: 0.05,
        late: 0.002,
        malformed: 0.002,
      },
      { send: async (batch) => this.#send(batch), close: async () => {} },
      () => {},
      this.#stop.signal,
    );
    // Its failure is told by `drain`.
    this.#generated.catch(() => {});
  }

  get waiting(): number {
    return this.#lanes.reduce((sum, { waiting }) => sum + waiting, 0);
  }

  /** A card and a merchant that somebody has paid with lately. */
  sample(): { card_id: string; merchant_id: string } | null {
    return this.#sample;
  }
  #sample: { card_id: string; merchant_id: string } | null = null;

  /** Waits until all that was generated is acknowledged. @returns how much is not */
  async drain(timeoutMs: number): Promise<number> {
    this.#stop.abort();
    await this.#generated;
    for (const lane of this.#lanes) lane.close();
    const late = sleep(timeoutMs, "late", { ref: false });
    await Promise.race([Promise.all(this.#lanes.map(({ ended }) => ended)), late]);
    this.close();
    return [...this.journal.values()].filter(({ ackedMs }) => ackedMs === null).length;
  }

  close(): void {
    this.#stop.abort();
    this.#abort.abort();
    this.#kinesis.destroy();
  }

  #send(batch: readonly Outgoing[]): number {
    for (const out of batch) {
      const { event, kind } = out;
      // The API refuses the whole of a broken event by JSON's own rules; the broker takes it, and the function sets it aside.
      const way = kind === "malformed" ? 2 : Number.parseInt(hash64(`${event.id}/${kind}`).slice(0, 4), 16) % 3;
      this.#lanes[way].add(out);
      if (kind === "malformed") this.malformed++;
      else if (kind === "duplicate") this.duplicates++;
      if (kind === "malformed") continue;
      const identity = identityOf(out);
      if (!this.journal.has(identity)) this.journal.set(identity, { event, sentMs: Date.now(), ackedMs: null });
      if (event.stream === "transactions" && kind === "event") {
        const { card_id, merchant_id } = event.fields as { card_id: string; merchant_id: string };
        this.#sample = { card_id, merchant_id };
      }
    }
    return batch.length;
  }

  #acknowledged(batch: readonly Outgoing[]): void {
    const nowMs = Date.now();
    for (const out of batch) {
      if (out.kind === "malformed") continue;
      const entry = this.journal.get(identityOf(out))!;
      entry.ackedMs ??= nowMs;
    }
  }
}

const identityOf = ({ event }: Outgoing): string => hash64(identityText(TENANT, event.stream, event.timeMs, event.id));
