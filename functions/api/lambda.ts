/** What both Lambda functions of the API share: the router as a handler, one EMF line an invocation, errors as log lines. */
import { Logger } from "@aws-lambda-powertools/logger";
import { Metrics, MetricUnit } from "@aws-lambda-powertools/metrics";
import { handle } from "hono/aws-lambda";
import { withoutKeys } from "../shared/hidden-keys.ts";
import { type ApiDependencies, createApp, type Log } from "./app.ts";
import { collectAlone } from "./collector.ts";
import { causeOf } from "./observability/server-log.ts";
import type { Telemetry } from "./observability/telemetry.ts";

const NAMESPACE = "Freshet";
/** Aliases are looked at this often while requests come. */
const POLL_MS = 1_500;
/** No score is made by aliases older than this. */
const STALE_MS = 4_000;
/** What a dependency beside the score may cost an answer when it hangs: the first ones until the host is warm, */
const WARM_MS = 1_000;
/** models as they were, */
const MODELS_MS = 100;
/** a log that is written later. */
const LOG_MS = 250;
/** After so many waits in vain, one after another, it hangs and does not only take its time, as a model that is being loaded, */
const WAITS = 3;
/** and is not waited for again by each of the next calls. */
const PAUSE_MS = 5_000;

/** What the host gives to the API's ports. */
export interface LambdaHost {
  readonly telemetry: Telemetry;
  readonly log: Log;
}

/** @param service name of the function in its log and metrics */
export function createLambdaHandler(service: string, dependencies: (host: LambdaHost) => ApiDependencies) {
  collectAlone();
  const logger = new Logger({ serviceName: service });
  const telemetry = emfTelemetry(new Metrics({ namespace: NAMESPACE, serviceName: service }));
  const log: Log = (message, details, error) =>
    logger.error(message, JSON.parse(withoutKeys(JSON.stringify({ ...details, cause: causeOf(error) }))));
  const deps = dependencies({ telemetry, log });
  const { scoring } = deps;
  // All that is answered is text: hono would send Markdown as base64, which API Gateway hands on as it is.
  const respond = handle(createApp(deps), { isContentTypeBinary: () => false });
  // Models are loaded and connections made while Lambda starts the function, before it sends a request.
  const warm = Promise.all([scoring?.serving.refresh(), deps.reader?.state(), deps.fallback?.snapshots?.warm()]);
  const [forWarmth, forModels, forLog] = [WARM_MS, MODELS_MS, LOG_MS].map(createPatience);
  return async (event: any, context: any) => {
    await forWarmth(warm);
    // Nothing runs between invocations: one that has slept catches up first, one in traffic while it answers.
    await forModels(scoring?.serving.refreshIfOlder(STALE_MS));
    const polled = scoring?.serving.refreshIfOlder(POLL_MS);
    try {
      return await respond(asDecoded(event), context);
    } finally {
      // What is not done now may never be: an environment is frozen when it has answered, and may be thrown away.
      await forLog(Promise.all([polled, scoring?.logger.settle(), deps.writes?.settle()]));
      if (scoring !== null) telemetry.models(scoring.serving.state().refused.length);
      // Always a line, also for a probe: it carries the request count, and a silent handler is slow on the emulator.
      telemetry.publish();
    }
  };
}

/** API Gateway decodes a compressed body, and may still say how it was coded. */
function asDecoded(event: any): any {
  const named = Object.keys(event.headers ?? {}).find((name) => name.toLowerCase() === "content-encoding");
  if (named === undefined || (event.isBase64Encoded && isCoded(Buffer.from(event.body ?? "", "base64")))) return event;
  const without = (headers: Record<string, unknown> | null) =>
    Object.fromEntries(Object.entries(headers ?? {}).filter(([name]) => name.toLowerCase() !== "content-encoding"));
  return { ...event, headers: without(event.headers), multiValueHeaders: without(event.multiValueHeaders) };
}

/** How gzip (RFC 1952) and zlib streams (RFC 1950) begin, and neither JSON nor a frame of Avro does. */
const isCoded = ([a, b]: Buffer): boolean =>
  (a === 0x1f && b === 0x8b) || ((a & 0x0f) === 8 && ((a << 8) | b) % 31 === 0);

/** Waits for work that goes on by itself, but not for ever, and for some time not at all once that was in vain. */
function createPatience(ms: number): (work: Promise<unknown> | undefined) => Promise<void> {
  let inVain = 0;
  let pausedUntilMs = 0;
  return async (work) => {
    if (work === undefined || performance.now() < pausedUntilMs) return;
    let timer: NodeJS.Timeout | undefined;
    const patience = new Promise<void>((resolve) => {
      timer = setTimeout(() => {
        inVain++;
        resolve();
      }, ms);
    });
    const before = inVain;
    await Promise.race([work, patience]);
    clearTimeout(timer);
    if (inVain === before) inVain = 0;
    else if (inVain % WAITS === 0) pausedUntilMs = performance.now() + PAUSE_MS;
  };
}

/**
 * One Lambda serves one request at a time, so metrics gather until the request is answered. Requests are counted under the
 * function's name and scores under the feature service's, in the same dimension `service`.
 */
function emfTelemetry(metrics: Metrics): Telemetry & { models(refused: number): void; publish(): void } {
  const scored = new Map<string, Metrics>();
  let isFallback = false;
  return {
    request(route, status, latencyMs) {
      // The route is searchable in the log; as a dimension it would multiply the metrics, and their price.
      metrics.addMetadata("route", route);
      metrics.addMetric("RequestCount", MetricUnit.Count, 1);
      metrics.addMetric("LatencyMs", MetricUnit.Milliseconds, latencyMs);
      metrics.addMetric("ServerErrors", MetricUnit.Count, status >= 500 ? 1 : 0);
      metrics.addMetric("ClientErrors", MetricUnit.Count, status >= 400 && status < 500 ? 1 : 0);
    },
    read(_route, degraded) {
      metrics.addMetric("Degraded", MetricUnit.Count, degraded === null ? 0 : 1);
    },
    score(service, missing, degraded, latencyMs) {
      let own = scored.get(service);
      if (own === undefined) {
        own = new Metrics({ namespace: NAMESPACE, serviceName: service });
        scored.set(service, own);
      }
      own.addMetric("ScoreLatencyMs", MetricUnit.Milliseconds, latencyMs);
      own.addMetric("FeaturesMissing", MetricUnit.Count, missing);
      own.addMetric("Degraded", MetricUnit.Count, degraded === null ? 0 : 1);
    },
    events(_stream, { queued, invalid, throttled }) {
      metrics.addMetric("EventsQueued", MetricUnit.Count, queued);
      metrics.addMetric("EventsInvalid", MetricUnit.Count, invalid);
      metrics.addMetric("EventsThrottled", MetricUnit.Count, throttled);
    },
    enrichment(_stream, { missing, unavailable }) {
      metrics.addMetric("EnrichmentsMissing", MetricUnit.Count, missing);
      metrics.addMetric("EnrichmentsUnavailable", MetricUnit.Count, unavailable);
    },
    limited() {
      metrics.addMetric("RateLimited", MetricUnit.Count, 1);
    },
    limiterFallback(active) {
      isFallback = active;
    },
    reads: {
      answered(by, tookMs) {
        metrics.addMetric("ReadsWithoutStore", MetricUnit.Count, by === "store" ? 0 : 1);
        metrics.addMetric("ReadsUnanswered", MetricUnit.Count, by === "nothing" ? 1 : 0);
        if (by !== "store") metrics.addMetric("FallbackMs", MetricUnit.Milliseconds, tookMs);
      },
      lost() {
        metrics.addMetric("SnapshotLosses", MetricUnit.Count, 1);
      },
      breaker(_of, isOpen) {
        metrics.addMetric("BreakersOpened", MetricUnit.Count, isOpen ? 1 : 0);
      },
    },
    models(refused) {
      metrics.addMetric("ModelsRefused", MetricUnit.Count, refused);
    },
    publish() {
      if (isFallback) metrics.addMetric("LimiterFallback", MetricUnit.Count, 1);
      metrics.publishStoredMetrics();
      for (const own of scored.values()) if (own.hasStoredMetrics()) own.publishStoredMetrics();
    },
  };
}
