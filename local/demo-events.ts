import { laptopBroker } from "./broker.ts";
import type { Outgoing } from "./generator/disturb.ts";
import { type GenerateSummary, generate } from "./generator/run.ts";
import type { Sink } from "./generator/sinks.ts";
import { sinkTo } from "./generator/topic-sink.ts";
import type { Deployment } from "./state.ts";

/** The customers of the demo, whose weeks before now are imported. */
export const DEMO_WORLD = { seed: 7, customers: 1_500, transactionsPerSecond: 0.05 } as const;
/**
 * A wave of fraud that goes on until now, far more than in life, so that there is some to look at. Its first hour is
 * imported: thefts that come to light now began then.
 */
export const DEMO_WAVE = { fraudRate: 0.15, importedMs: 3_600_000 } as const;
/** A wave of an earlier demo goes on for this long; later a new one begins. */
const WAVE_MS = 12 * 3_600_000;
/** The seal moves on while events are under way; what is this close to it would be late. */
const SEAL_MARGIN_MS = 120_000;
/** More customers at the same merchants, for the sake of traffic: payments a second, and clicks half as many. */
const CROWD = { seed: DEMO_WORLD.seed, transactionsPerSecond: 20, customers: 20_000 } as const;
const LIVE_MS = 10_000;
/** Payments that come next: they are scored and not sent, as a caller scores before it sends. */
const NEXT_MS = 20 * 60_000;
/** Frauds that come later have most of what gives them away still before them. */
const NEXT_FRAUDS_MS = 3 * 60_000;
const SAMPLES_KEPT = 40;

/** A payment that comes next, to be scored when all before it has been applied. */
export interface SamplePayment {
  /** What the fraud looks like; null for an honest payment. */
  readonly pattern: string | null;
  /** The chance that it is fraud, by all that could be known before its outcome. */
  readonly probability: number;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** Somebody of the crowd who has clicked just now, and what the crowd was shown: candidates of a ranking. */
export interface Shopper {
  readonly userId: string;
  readonly candidates: readonly { readonly item_id: string; readonly category: string }[];
}

export interface DemoEvents {
  readonly sent: number;
  readonly acknowledged: number;
  /** The first payments of frauds that come next, and the first honest ones. */
  readonly frauds: readonly SamplePayment[];
  readonly honest: readonly SamplePayment[];
  /** Null where nobody has clicked. */
  readonly shopper: Shopper | null;
}

/** When the wave of fraud began. @param importedMs end of the weeks that are imported, the last hour with the wave's beginning */
export function waveStart(sealMs: number, importedMs: number): number {
  const goesOn = sealMs - importedMs < WAVE_MS;
  return (goesOn ? importedMs : sealMs) - DEMO_WAVE.importedMs;
}

/**
 * What the demo's customers did since the seal, as fast as it goes; then ten seconds of a crowd at its own pace, with what
 * real producers do wrong: some events twice, some out of order, some too old, some broken.
 * @param sealMs of the transactions' stream
 * @param waveFromMs see `waveStart`
 */
export async function streamDemoEvents(
  emulatorPort: number,
  deployment: Deployment,
  sealMs: number,
  waveFromMs: number,
  progress: (summary: GenerateSummary, share: number) => void,
  signal: AbortSignal,
): Promise<DemoEvents> {
  const nowMs = Date.now();
  const frauds: SamplePayment[] = [];
  const honest: SamplePayment[] = [];
  const keep = ({ event, kind }: Outgoing): void => {
    if (event.stream !== "transactions" || kind !== "event") return;
    const samples = event.fraud === null ? honest : frauds;
    if (event.fraud !== null && event.timeMs > nowMs + NEXT_FRAUDS_MS) return;
    if (samples.length >= SAMPLES_KEPT) return;
    samples.push({ pattern: event.fraud, probability: event.probability ?? 0, fields: event.fields });
  };
  const broker = laptopBroker(emulatorPort, deployment);
  const clean = { duplicates: 0, disorder: 0, late: 0, malformed: 0 };
  const unruly = { duplicates: 0.01, disorder: 0.02, late: 0.002, malformed: 0.0005 };
  const wave = { fraudRate: DEMO_WAVE.fraudRate, fromMs: waveFromMs, toMs: nowMs + NEXT_MS, live: false };
  const span = { fromMs: sealMs + SEAL_MARGIN_MS, toMs: nowMs };
  const newest = spanSink(sinkTo(broker, deployment.streams, true, DEMO_WORLD.seed), span, keep);
  await generate({ ...DEMO_WORLD, ...clean, ...wave }, newest, () => {}, signal);
  signal.throwIfAborted();
  const now = { fromMs: Date.now(), toMs: Date.now() + LIVE_MS, live: true };
  let userId: string | null = null;
  const shown = new Map<string, string>();
  const watch = ({ event, kind }: Outgoing): void => {
    if (event.stream !== "clicks" || kind !== "event") return;
    const { action, user_id, item_id, category } = event.fields;
    if (action === "click") userId = String(user_id);
    shown.set(String(item_id), String(category));
  };
  const crowd = await generate(
    { ...CROWD, ...unruly, ...now, fraudRate: 0.01 },
    watched(sinkTo(broker, deployment.streams, true, CROWD.seed), watch),
    progress,
    signal,
  );
  signal.throwIfAborted();
  const acknowledged = newest.acknowledged + crowd.acknowledged;
  const candidates = [...shown].map(([item_id, category]) => ({ item_id, category }));
  const shopper = userId === null ? null : { userId, candidates };
  return { sent: newest.sent + crowd.sent, acknowledged, frauds, honest, shopper };
}

function watched(sink: Sink, watch: (out: Outgoing) => void): Sink {
  return {
    send(batch) {
      batch.forEach(watch);
      return sink.send(batch);
    },
    close: () => sink.close(),
  };
}

/** Sends what happens within `[fromMs, toMs)`, counted, and hands over what comes later; what was before is there already. */
function spanSink(
  sink: Sink,
  { fromMs, toMs }: { readonly fromMs: number; readonly toMs: number },
  later: (out: Outgoing) => void,
): Sink & { sent: number; acknowledged: number } {
  return {
    sent: 0,
    acknowledged: 0,
    async send(batch) {
      for (const out of batch) if (out.event.timeMs >= toMs) later(out);
      const due = batch.filter(({ event }) => fromMs <= event.timeMs && event.timeMs < toMs);
      if (due.length === 0) return 0;
      const acknowledged = await sink.send(due);
      this.sent += due.length;
      this.acknowledged += acknowledged;
      return acknowledged;
    },
    close: () => sink.close(),
  };
}
