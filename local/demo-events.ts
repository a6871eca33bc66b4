import { createKinesisClient } from "../adapters/kinesis-client.ts";
import { clientConfig } from "./deploy.ts";
import type { Outgoing } from "./generator/disturb.ts";
import { type GenerateSummary, generate } from "./generator/run.ts";
import { brokerSink, type Sink } from "./generator/sinks.ts";
import type { Deployment } from "./state.ts";

/** Payments a second; clicks are half of them. */
const RATE = 20;
/** Long enough for an episode of fraud to show, short enough that nothing is sealed yet. */
const CATCH_UP_MS = 8 * 60_000;
const LIVE_MS = 10_000;
/** Payments that come next: they are scored and not sent, as a caller scores before it sends. */
const NEXT_MS = 60_000;
const SAMPLES_KEPT = 40;

/** A payment that comes next, to be scored when all before it has been applied. */
export interface SamplePayment {
  /** What the fraud looks like; null for an honest payment. */
  readonly pattern: string | null;
  readonly fields: Readonly<Record<string, unknown>>;
}

export interface DemoEvents {
  readonly sent: number;
  readonly acknowledged: number;
  /** The first payments of frauds that come next, and the first honest ones. */
  readonly frauds: readonly SamplePayment[];
  readonly honest: readonly SamplePayment[];
}

/**
 * The last eight minutes as fast as they go, then ten seconds at their own pace, with what real producers do wrong: some
 * events twice, some out of order, some too old, some broken.
 */
export async function streamDemoEvents(
  emulatorPort: number,
  deployment: Deployment,
  progress: (summary: GenerateSummary, share: number) => void,
  signal: AbortSignal,
): Promise<DemoEvents> {
  const nowMs = Date.now();
  // Another seed each time: the same ids at other times would be other events under known names.
  const seed = nowMs % 2 ** 32;
  const frauds: SamplePayment[] = [];
  const honest: SamplePayment[] = [];
  let held = 0;
  const keep = ({ event, kind }: Outgoing): void => {
    held++;
    if (event.stream !== "transactions" || kind !== "event") return;
    const samples = event.fraud === null ? honest : frauds;
    if (samples.length < SAMPLES_KEPT) samples.push({ pattern: event.fraud, fields: event.fields });
  };
  const client = createKinesisClient(clientConfig(emulatorPort));
  const common = {
    transactionsPerSecond: RATE,
    customers: 20_000,
    fraudRate: 0.01,
    duplicates: 0.01,
    disorder: 0.02,
    late: 0.002,
    malformed: 0.0005,
  };
  let sent = 0;
  let acknowledged = 0;
  try {
    for (const phase of [
      { fromMs: nowMs - CATCH_UP_MS, toMs: nowMs + NEXT_MS, live: false, seed },
      { fromMs: Date.now(), toMs: Date.now() + LIVE_MS, live: true, seed: seed + 1 },
    ]) {
      // The second phase begins when the first has ended, whatever that took.
      const shiftMs = phase.live ? Date.now() - phase.fromMs : 0;
      const window = { fromMs: phase.fromMs + shiftMs, toMs: phase.toMs + shiftMs };
      const broker = brokerSink(client, deployment.streams, true, phase.seed);
      const sink = phase.live ? broker : heldBack(broker, nowMs, keep);
      const summary = await generate({ ...common, ...phase, ...window }, sink, progress, signal);
      sent += summary.sent;
      acknowledged += summary.acknowledged;
      signal.throwIfAborted();
    }
  } finally {
    client.destroy();
  }
  return { sent: sent - held, acknowledged, frauds, honest };
}

/** Sends what happens before an instant and hands over the rest. */
function heldBack(sink: Sink, fromMs: number, keep: (out: Outgoing) => void): Sink {
  return {
    send(batch) {
      for (const out of batch) if (out.event.timeMs >= fromMs) keep(out);
      return sink.send(batch.filter(({ event }) => event.timeMs < fromMs));
    },
    close: () => sink.close(),
  };
}
