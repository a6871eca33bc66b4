/** Runs a simulation into a sink: at the pace of the clock for live events, as fast as it goes for others. */
import { setTimeout as sleep } from "node:timers/promises";
import { type BestPossible, Ceiling } from "./ceiling.ts";
import { disturb, type Fractions, type Kind, type Outgoing } from "./disturb.ts";
import { type SimulationOptions, type StreamName, simulate } from "./simulate.ts";
import { end, openFile, type Sink, write } from "./sinks.ts";

export interface GenerateOptions extends SimulationOptions, Fractions {
  /** True to send each event when its time has come. */
  readonly live: boolean;
  /** Stop after this many events. @default none */
  readonly count?: number;
  /** Ground truth, one line an event. @default none */
  readonly truthFile?: string;
}

export interface GenerateSummary {
  readonly sent: number;
  readonly acknowledged: number;
  readonly byStream: Readonly<Partial<Record<StreamName, number>>>;
  readonly byKind: Readonly<Partial<Record<Kind, number>>>;
  readonly fraud: number;
  /** Of the payments that were sent, each once: how well the best possible score would rank them. */
  readonly best: BestPossible;
  /** The same of the items that were shown: how well the best possible score would tell which are clicked. */
  readonly bestOfClicks: BestPossible;
  readonly seconds: number;
  /** True when it was stopped before its end. */
  readonly interrupted: boolean;
}

const BATCH_MS = 100;
const BATCH_EVENTS = 2_000;

export async function generate(
  options: GenerateOptions,
  sink: Sink,
  progress: (summary: GenerateSummary, share: number) => void,
  signal?: AbortSignal,
): Promise<GenerateSummary> {
  const startedMs = Date.now();
  const truth = options.truthFile === undefined ? null : openFile(options.truthFile);
  const byStream: Partial<Record<StreamName, number>> = {};
  const byKind: Partial<Record<Kind, number>> = {};
  let sent = 0;
  let acknowledged = 0;
  let fraud = 0;
  const [ceiling, clickCeiling] = [new Ceiling(), new Ceiling()];
  const summary = (): GenerateSummary => ({
    sent,
    acknowledged,
    byStream,
    byKind,
    fraud,
    best: ceiling.best(),
    bestOfClicks: clickCeiling.best(),
    seconds: (Date.now() - startedMs) / 1000,
    interrupted: signal?.aborted ?? false,
  });
  let batch: Outgoing[] = [];
  let batchEndMs = options.fromMs + BATCH_MS;
  const flush = async (share: number) => {
    if (batch.length === 0) return;
    acknowledged += await sink.send(batch);
    if (truth) await write(truth, batch.map((out) => `${JSON.stringify(truthOf(out))}\n`).join(""));
    for (const { event, kind } of batch) {
      byStream[event.stream] = (byStream[event.stream] ?? 0) + 1;
      byKind[kind] = (byKind[kind] ?? 0) + 1;
      const counts = kind !== "duplicate" && kind !== "malformed";
      if (event.showing !== null && counts) clickCeiling.add(event.showing.probability, event.showing.clicked);
      if (event.probability === null) continue;
      if (event.fraud !== null) fraud++;
      if (counts) ceiling.add(event.probability, event.fraud !== null);
    }
    sent += batch.length;
    batch = [];
    progress(summary(), share);
  };
  const shareOf = (timeMs: number) =>
    options.count !== undefined
      ? Math.min(1, sent / options.count)
      : Math.min(1, (timeMs - options.fromMs) / (options.toMs - options.fromMs));
  // The simulation's own clock: a late event's time says nothing about when it is sent.
  let clockMs = options.fromMs;
  const clocked = (function* () {
    for (const event of simulate(options)) {
      clockMs = event.timeMs;
      yield event;
    }
  })();
  try {
    for (const out of disturb(clocked, options.seed, options)) {
      if (signal?.aborted || (options.count !== undefined && sent + batch.length >= options.count)) break;
      // Simulated time costs nothing: only events of the clock's time go out in small batches.
      if ((options.live && clockMs >= batchEndMs) || batch.length >= BATCH_EVENTS) {
        await flush(shareOf(clockMs));
        while (batchEndMs <= clockMs) batchEndMs += BATCH_MS;
        if (options.live && clockMs > Date.now())
          await sleep(clockMs - Date.now(), undefined, { signal }).catch(() => {});
      }
      batch.push(out);
    }
    await flush(1);
  } finally {
    await sink.close();
  }
  if (truth) await end(truth);
  return summary();
}

/** What is true of an event, whatever became of it on its way. */
const truthOf = ({ kind, event, fault }: Outgoing) => ({
  stream: event.stream,
  id: event.id,
  kind,
  ...(fault === null ? {} : { fault }),
  event_time: event.timeMs,
  fraud: event.fraud,
  ...(event.probability === null ? {} : { fraud_probability: event.probability, behaviour: event.behaviour }),
  ...(event.showing === null ? {} : { click_probability: event.showing.probability, clicked: event.showing.clicked }),
  fields: event.fields,
});
