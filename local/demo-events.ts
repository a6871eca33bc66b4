import { createKinesisClient } from "../adapters/kinesis-client.ts";
import { clientConfig } from "./deploy.ts";
import type { Outgoing } from "./generator/disturb.ts";
import { type GenerateSummary, generate } from "./generator/run.ts";
import { brokerSink, type Sink } from "./generator/sinks.ts";
import type { Deployment } from "./state.ts";

/** Payments a second; clicks are half of them. */
const RATE = 40;
const CATCH_UP_MS = 3 * 60_000;
const LIVE_MS = 10_000;

/** A payment to look at when all has been applied. */
export interface SamplePayment {
  readonly pattern: string | null;
  readonly fields: Readonly<Record<string, unknown>>;
}

export interface DemoEvents {
  readonly sent: number;
  readonly acknowledged: number;
  /** The newest payment of a fraud, and the newest honest one. */
  readonly samples: readonly SamplePayment[];
}

/**
 * The last three minutes as fast as they go, then ten seconds at their own pace, with what real producers do wrong: some
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
  const samples = new Map<boolean, SamplePayment>();
  const client = createKinesisClient(clientConfig(emulatorPort));
  const common = {
    transactionsPerSecond: RATE,
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
      { fromMs: nowMs - CATCH_UP_MS, toMs: nowMs, live: false, seed },
      { fromMs: Date.now(), toMs: Date.now() + LIVE_MS, live: true, seed: seed + 1 },
    ]) {
      // The second phase begins when the first has ended, whatever that took.
      const shiftMs = phase.live ? Date.now() - phase.fromMs : 0;
      const window = { fromMs: phase.fromMs + shiftMs, toMs: phase.toMs + shiftMs };
      const sink = remembering(brokerSink(client, deployment.streams, true, phase.seed), samples);
      const summary = await generate({ ...common, ...phase, ...window }, sink, progress, signal);
      sent += summary.sent;
      acknowledged += summary.acknowledged;
      signal.throwIfAborted();
    }
  } finally {
    client.destroy();
  }
  return { sent, acknowledged, samples: [true, false].flatMap((fraud) => samples.get(fraud) ?? []) };
}

/** Passes everything on and keeps the newest payment of each sort. */
function remembering(sink: Sink, samples: Map<boolean, SamplePayment>): Sink {
  const keep = ({ event, kind }: Outgoing): void => {
    if (event.stream !== "transactions" || kind !== "event") return;
    samples.set(event.fraud !== null, { pattern: event.fraud, fields: event.fields });
  };
  return {
    send(batch) {
      batch.forEach(keep);
      return sink.send(batch);
    },
    close: () => sink.close(),
  };
}
