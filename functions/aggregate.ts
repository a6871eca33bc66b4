/** Broker to Valkey: applies what a mapping delivers exactly once (DESIGN §6). Wiring; the work is in shared/aggregation.ts. */
import { type DeliveredRun, deliveredRuns, type MappingEvent } from "../adapters/mapping/delivery.ts";
import { isEpochChange, type StoreApplier } from "../adapters/valkey/applier.ts";
import { addToStats } from "../adapters/valkey/stats.ts";
import { FreshetError } from "../core/errors.ts";
import type { Stream } from "../core/plan.ts";
import { plan } from "../features/plan.ts";
import { reportBatch, reportBlocked } from "./shared/aggregation/aggregate-report.ts";
import { aggregateBatch, type ReplayResult, replayBatch } from "./shared/aggregation/aggregation.ts";
import { aggregationClients } from "./shared/aggregation/aggregation-ports.ts";
import { answerMapping, type MappingAnswer } from "./shared/aggregation/mapping-answer.ts";
import { streamOf } from "./shared/aggregation/streams.ts";
import { optionalEnvironment } from "./shared/environment.ts";
import { codedFailure } from "./shared/named-failure.ts";
import { logger } from "./shared/observability.ts";

const clients = aggregationClients();
const takesPartial = optionalEnvironment("partialResponses") === "1";
let applier: Promise<StoreApplier> | null = null;

/** From `freshet recover`: records of one shard that were delivered before. */
export interface ReplayEvent {
  readonly replay: true;
  /** Its name in the plan. */
  readonly stream: string;
  readonly shard: string;
  /** `data` in base64. */
  readonly records: readonly { readonly sequence: string; readonly arrivalMs: number; readonly data: string }[];
}

export async function handler(event: MappingEvent | ReplayEvent): Promise<MappingAnswer | ReplayResult> {
  if ("replay" in event) return replay(event);
  const runs = deliveredRuns(event, Date.now());
  return answerMapping(runs, await Promise.allSettled(runs.map(applyRun)), takesPartial);
}

/** @throws FreshetError `stream_unknown`, InfrastructureError: nothing of the run is acknowledged */
async function applyRun({ stream: of, shard, records }: DeliveredRun): Promise<void> {
  const stream = streamOf(plan, of);
  try {
    const ports = clients.portsFor(known(stream, of), await currentApplier());
    const result = await aggregateBatch(ports, shard, records);
    await addToStats(clients.connection, ports.stream.name, result).catch(() => {});
    reportBatch(ports.stream.name, shard, records.length, result);
  } catch (error) {
    // Another epoch stands: the next delivery begins with it.
    if (isEpochChange(error)) applier = null;
    reportBlocked(stream?.name ?? "unknown", shard, records.length, error);
    throw error;
  }
}

async function replay({ stream: of, shard, records }: ReplayEvent): Promise<ReplayResult> {
  const stream = known(plan.streams.find(({ name }) => name === of) ?? null, of);
  try {
    const ports = clients.portsFor(stream, await clients.applier(true));
    const decoded = records.map(({ data, ...one }) => ({ ...one, bytes: Buffer.from(data, "base64") }));
    const result = await replayBatch(ports, shard, decoded);
    logger.info("replayed", { stream: of, shard, records: records.length, ...result });
    return result;
  } catch (error) {
    reportBlocked(of, shard, records.length, error);
    throw codedFailure(error);
  }
}

/** Asked for once by all that come together; again after it failed. */
function currentApplier(): Promise<StoreApplier> {
  applier ??= clients.applier(false).catch((error) => {
    applier = null;
    throw error;
  });
  return applier;
}

function known(stream: Stream | null, of: string): Stream {
  if (stream !== null) return stream;
  throw new FreshetError("stream_unknown", `the plan has no stream for ${of}`, { repair: "deploy this plan's app" });
}
