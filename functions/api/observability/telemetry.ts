/** What the API tells about itself: Prometheus text on every host, and EMF where the host is a Lambda. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { ModelServing } from "../../../adapters/model/serving.ts";
import type { ReadEvents } from "../../../adapters/online-store/fallback-reader.ts";
import type { LoadGate } from "../admission/load-gate.ts";
import { createLoadMetrics, createReadTelemetry } from "./read-telemetry.ts";

type CounterChild = ReturnType<Counter["labels"]>;

export interface Telemetry {
  request(route: string, status: number, latencyMs: number): void;
  read(route: string, degraded: string | null): void;
  score(service: string, missing: number, degraded: string | null, latencyMs: number): void;
  events(stream: string, counts: { queued: number; invalid: number; throttled: number }): void;
  /** Fields that ingest was to fill. */
  enrichment(stream: string, counts: { filled: number; missing: number; unavailable: number }): void;
  /** A request that its tenant's limits refused. */
  limited(routeClass: string, of: "rate" | "quota"): void;
  /** Whether limits are decided by this host alone, because the store does not answer. */
  limiterFallback(active: boolean): void;
  readonly reads: ReadEvents;
}

export interface PrometheusTelemetry extends Telemetry {
  /** Shows the state of these models. */
  watch(models: ModelServing): void;
  /** Shows what this host has to do. */
  watchLoad(gate: Pick<LoadGate, "calls" | "uploads" | "shed" | "large">): void;
  readonly contentType: string;
  text(): Promise<string>;
}

/** Ends at 10 s; the lower half resolves the sub-millisecond range that the service works in. */
const LATENCY_SECONDS = [
  0.0001, 0.0002, 0.0003, 0.0005, 0.00075, 0.001, 0.0015, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10,
];

/**
 * Requests of a route, told to the library many at a time: one by one, between all that a request touches, counting takes microseconds.
 */
class RouteMeter {
  readonly #latency: Histogram.Internal<string>;
  readonly #countOf: (status: number) => CounterChild;
  readonly #statuses = new Map<number, { readonly count: CounterChild; untold: number }>();
  readonly #seconds = new Float64Array(256);
  #untold = 0;

  constructor(latency: Histogram.Internal<string>, countOf: (status: number) => CounterChild) {
    this.#latency = latency;
    this.#countOf = countOf;
  }

  add(status: number, seconds: number): void {
    let counted = this.#statuses.get(status);
    if (counted === undefined) {
      counted = { count: this.#countOf(status), untold: 0 };
      this.#statuses.set(status, counted);
    }
    counted.untold++;
    this.#seconds[this.#untold++] = seconds;
    if (this.#untold === this.#seconds.length) this.tell();
  }

  tell(): void {
    for (let i = 0; i < this.#untold; i++) this.#latency.observe(this.#seconds[i]);
    this.#untold = 0;
    for (const counted of this.#statuses.values()) {
      if (counted.untold > 0) counted.count.inc(counted.untold);
      counted.untold = 0;
    }
  }
}

/** No tenant among the labels: anyone may read this page. */
export function createPrometheusTelemetry(): PrometheusTelemetry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const registers = [registry];
  const requests = new Counter({
    name: "freshet_http_requests_total",
    help: "Requests by route and status.",
    labelNames: ["route", "status"],
    registers,
  });
  const latency = new Histogram({
    name: "freshet_http_request_duration_seconds",
    help: "Time from the request's headers to its answer.",
    labelNames: ["route"],
    buckets: LATENCY_SECONDS,
    registers,
  });
  const degradedAnswers = new Counter({
    name: "freshet_degraded_total",
    help: "Answers that had to do without the whole online store, by reason.",
    labelNames: ["route", "reason"],
    registers,
  });
  const scores = new Counter({
    name: "freshet_scores_total",
    help: "Scores by service.",
    labelNames: ["service"],
    registers,
  });
  const missingFeatures = new Counter({
    name: "freshet_features_missing_total",
    help: "Features that a score had to do without, by service.",
    labelNames: ["service"],
    registers,
  });
  const records = new Counter({
    name: "freshet_events_total",
    help: "Events that ingest answered, by stream and result.",
    labelNames: ["stream", "result"],
    registers,
  });
  const enrichedFields = new Counter({
    name: "freshet_enriched_fields_total",
    help: "Fields that ingest was to fill, by stream and result.",
    labelNames: ["stream", "result"],
    registers,
  });
  const limited = new Counter({
    name: "freshet_rate_limited_total",
    help: "Requests that their tenant's limits refused, by route class and kind of limit.",
    labelNames: ["class", "of"],
    registers,
  });
  const fallback = new Gauge({
    name: "freshet_limiter_fallback",
    help: "1 while limits are decided by this process alone, because the store does not answer.",
    registers,
  });
  let watched: ModelServing | null = null;
  new Gauge({
    name: "freshet_models_refused",
    help: "Versions that an alias points to and that this process does not serve.",
    registers,
    collect() {
      this.set(watched?.state().refused.length ?? 0);
    },
  });
  new Gauge({
    name: "freshet_models_loaded",
    help: "Models in memory, with those just replaced.",
    registers,
    collect() {
      this.set(watched?.state().loaded ?? 0);
    },
  });
  // Labels are resolved once: looking them up on each request costs more than counting.
  const byRoute = new Map<string, RouteMeter>();
  const byService = new Map<string, { scores: CounterChild; missing: CounterChild }>();

  return {
    contentType: registry.contentType,
    reads: createReadTelemetry(registry),
    watch(models) {
      watched = models;
    },
    watchLoad(gate) {
      createLoadMetrics(registry, gate);
    },
    text() {
      for (const meter of byRoute.values()) meter.tell();
      return registry.metrics();
    },
    request(route, status, latencyMs) {
      let meter = byRoute.get(route);
      if (meter === undefined) {
        meter = new RouteMeter(latency.labels(route), (of) => requests.labels(route, String(of)));
        byRoute.set(route, meter);
      }
      meter.add(status, latencyMs / 1_000);
    },
    read(route, degraded) {
      if (degraded !== null) degradedAnswers.labels(route, degraded).inc();
    },
    score(service, missing, degraded) {
      let entry = byService.get(service);
      if (entry === undefined) {
        entry = { scores: scores.labels(service), missing: missingFeatures.labels(service) };
        byService.set(service, entry);
      }
      entry.scores.inc();
      if (missing > 0) entry.missing.inc(missing);
      if (degraded !== null) degradedAnswers.labels("score", degraded).inc();
    },
    events(stream, { queued, invalid, throttled }) {
      if (queued > 0) records.labels(stream, "queued").inc(queued);
      if (invalid > 0) records.labels(stream, "invalid").inc(invalid);
      if (throttled > 0) records.labels(stream, "throttled").inc(throttled);
    },
    enrichment(stream, counts) {
      for (const [result, count] of Object.entries(counts)) {
        if (count > 0) enrichedFields.labels(stream, result).inc(count);
      }
    },
    limited(routeClass, of) {
      limited.labels(routeClass, of).inc();
    },
    limiterFallback(active) {
      fallback.set(active ? 1 : 0);
    },
  };
}

export function bothTelemetries(first: Telemetry, second: Telemetry): Telemetry {
  return {
    request(...given) {
      first.request(...given);
      second.request(...given);
    },
    read(...given) {
      first.read(...given);
      second.read(...given);
    },
    score(...given) {
      first.score(...given);
      second.score(...given);
    },
    events(...given) {
      first.events(...given);
      second.events(...given);
    },
    enrichment(...given) {
      first.enrichment(...given);
      second.enrichment(...given);
    },
    limited(...given) {
      first.limited(...given);
      second.limited(...given);
    },
    limiterFallback(active) {
      first.limiterFallback(active);
      second.limiterFallback(active);
    },
    reads: {
      answered(...given) {
        first.reads.answered(...given);
        second.reads.answered(...given);
      },
      lost(...given) {
        first.reads.lost(...given);
        second.reads.lost(...given);
      },
      breaker(...given) {
        first.reads.breaker(...given);
        second.reads.breaker(...given);
      },
    },
  };
}
