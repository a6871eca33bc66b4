/**
 * A client of Freshet's HTTP API. Needs fetch alone: Node 20 and later, browsers, workers. `freshet client typescript` puts the
 * names and types of an app above it, so that a feature, key or field that the app lacks does not compile.
 */

import type {
  BatchScore,
  EventResult,
  FeatureValue,
  HistoricalJob,
  PushAnswer,
  PushRequest,
  Ranking,
  ReadTail,
  Scalar,
  Score,
  SendAnswer,
  Status,
} from "./answers.ts";
import type {
  AppShape,
  EntityKeys,
  FeaturesOf,
  HistoricalRequest,
  Key,
  NamesOf,
  RankedBy,
  RankRequest,
  ScoreRequest,
  ServiceOf,
  Values,
} from "./app.ts";
import { FreshetError } from "./errors.ts";

export interface ClientOptions {
  /** As `https://api.example.com`, without a path below it but what API Gateway puts there. */
  readonly url: string;
  readonly apiKey: string;
  /** Of one attempt. @default 5000 */
  readonly timeoutMs?: number;
  /** For all attempts of a call together; a `Retry-After` beyond it ends the call at once. @default 15000 */
  readonly deadlineMs?: number;
  /** @default 4 */
  readonly maxAttempts?: number;
  /** @default the platform's */
  readonly fetch?: typeof fetch;
}
export interface CallOptions {
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
  readonly deadlineMs?: number;
}

const MAX_EVENTS = 500;
const DEADLINE_MS = 15_000;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;
const RETRIED = new Set([429, 502, 503, 504]);
/** Of these a gateway tells when it has no answer: what was asked may have been done. */
const UNKNOWN = new Set([502, 504]);

export class FreshetClient<A extends AppShape> {
  readonly #options: ClientOptions;
  readonly #base: string;

  constructor(options: ClientOptions) {
    this.#options = options;
    this.#base = options.url.replace(/\/+$/, "");
  }

  /** Features of one set of entities; the join key of each is asked for. */
  online<const F extends Key<A["features"]>>(
    request: { readonly features: readonly F[]; readonly entities: EntityKeys<A, F> },
    options?: CallOptions,
  ): Promise<ReadTail & { readonly features: Values<A, F> }> {
    return this.#post("/v1/features/online", request, options);
  }

  /** All features of a service; with its request fields also those that are computed on demand. */
  onlineService<const S extends Key<A["services"]>, R extends ServiceOf<A, S>["request"] | undefined = undefined>(
    request: { readonly service: S; readonly entities: ServiceOf<A, S>["keys"]; readonly request?: R },
    options?: CallOptions,
  ): Promise<
    ReadTail & {
      readonly features: Values<A, ServiceOf<A, S>["features"]> & {
        readonly [N in ServiceOf<A, S>["onDemand"]]: R extends undefined ? undefined : FeatureValue<Scalar>;
      };
    }
  > {
    return this.#post("/v1/features/online", request, options);
  }

  /** The same features for up to 100 rows, as one object a row. */
  async batch<const F extends Key<A["features"]>>(
    request: { readonly features: readonly F[]; readonly entities: readonly EntityKeys<A, F>[] },
    options?: CallOptions,
  ): Promise<ReadTail & { readonly rows: readonly Values<A, F>[] }> {
    const answer = await this.#post<BatchAnswer>("/v1/features/batch", request, options);
    const { features, rows, ...tail } = answer;
    const objects = rows.map(({ values, statuses, event_times_ms }) =>
      Object.fromEntries(
        features.map((name, i) => [name, { value: values[i], status: statuses[i], event_time_ms: event_times_ms[i] }]),
      ),
    );
    return { ...tail, rows: objects as unknown as Values<A, F>[] };
  }

  /** Everything known of one entity. */
  entity<const E extends Key<A["entities"]>>(
    entity: E,
    id: string,
    options?: CallOptions,
  ): Promise<ReadTail & { readonly entity: E; readonly id: string; readonly features: Values<A, FeaturesOf<A, E>> }> {
    return this.#call("GET", `/v1/features/${entity}/${encodeURIComponent(id)}`, undefined, options);
  }

  score<const S extends Key<A["services"]>>(
    service: S,
    request: ScoreRequest<A, S> & { readonly explain?: boolean | "exact" },
    options?: CallOptions,
  ): Promise<Score<NamesOf<A, S>>> {
    return this.#post(`/v1/score/${service}`, request, options);
  }

  /** Up to 100 rows: one read, one run of each model. */
  scoreBatch<const S extends Key<A["services"]>>(
    service: S,
    rows: readonly ScoreRequest<A, S>[],
    options?: CallOptions,
  ): Promise<BatchScore<NamesOf<A, S>>> {
    return this.#post(`/v1/score/${service}/batch`, { rows }, options);
  }

  /** Up to 500 candidates in the order of their scores. */
  rank<const S extends RankedBy<A>>(service: S, request: RankRequest<A, S>, options?: CallOptions): Promise<Ranking> {
    return this.#post(`/v1/rank/${service}`, request, options);
  }

  /**
   * Sends events, 500 in a request. What the stream throttles is sent again; an event's id keeps it from counting twice. Events
   * that break their contract are told in `results` and do not throw.
   */
  async send<const S extends Key<A["streams"]>>(
    stream: S,
    events: readonly A["streams"][S][],
    options?: CallOptions,
  ): Promise<SendAnswer> {
    const results: EventResult[] = [];
    for (let start = 0; start < events.length; start += MAX_EVENTS) {
      results.push(...(await this.#sendChunk(stream, events.slice(start, start + MAX_EVENTS), start, options)));
    }
    const count = (status: EventResult["status"]) => results.filter((result) => result.status === status).length;
    return { queued: count("queued"), invalid: count("invalid"), throttled: count("throttled"), results };
  }

  /**
   * Values of registered features: the newest wins, so that pushing again changes nothing. Rows that are refused are told in
   * `results` and do not throw, be it all of them.
   */
  async push(request: PushRequest, options?: CallOptions): Promise<PushAnswer> {
    try {
      return await this.#post("/v1/features/push", request, options);
    } catch (error) {
      if (!(error instanceof FreshetError && error.status === 400 && Array.isArray(error.problem["results"])))
        throw error;
      const { accepted, refused, visible_ms, results, request_id } = error.problem as unknown as PushAnswer;
      return { accepted, refused, visible_ms, results, request_id };
    }
  }

  /** Starts a point-in-time join. Not sent again when its answer is lost: that would start another. */
  historical(request: HistoricalRequest<A>, options?: CallOptions): Promise<HistoricalJob> {
    return this.#call("POST", "/v1/features/historical", request, options, false);
  }

  historicalJob(id: string, options?: CallOptions): Promise<HistoricalJob> {
    return this.#call("GET", `/v1/features/historical/${encodeURIComponent(id)}`, undefined, options);
  }

  /** Ends a job that waits or runs; nothing of it is kept. May be called again. @throws FreshetError `job_ended` */
  cancelHistoricalJob(id: string, options?: CallOptions): Promise<HistoricalJob> {
    return this.#call("DELETE", `/v1/features/historical/${encodeURIComponent(id)}`, undefined, options);
  }

  async #sendChunk(
    stream: string,
    events: readonly unknown[],
    offset: number,
    options: CallOptions | undefined,
  ): Promise<EventResult[]> {
    const results = new Array<EventResult>(events.length);
    let waiting = events.map((_, index) => index);
    const endMs = Date.now() + (options?.deadlineMs ?? this.#options.deadlineMs ?? DEADLINE_MS);
    for (let attempt = 1; ; attempt++) {
      const body = { events: waiting.map((index) => events[index]) };
      const left = { ...options, deadlineMs: endMs - Date.now() };
      let answer: { results: EventResult[] };
      try {
        answer = await this.#post(`/v1/events/${stream}`, body, left);
      } catch (error) {
        if (!(error instanceof FreshetError)) throw error;
        if (Array.isArray(error.problem["results"])) {
          // A refused request of events tells the fate of each: that is an answer.
          answer = error.problem as unknown as { results: EventResult[] };
        } else if (error.status !== 413) {
          throw error;
        } else if (events.length > 1) {
          // Events of any size: what is too much for one request goes in two.
          const half = events.length >> 1;
          const first = await this.#sendChunk(stream, events.slice(0, half), offset, options);
          return [...first, ...(await this.#sendChunk(stream, events.slice(half), offset + half, options))];
        } else {
          // The fault of this one, which keeps no other from being sent.
          const { code, message: detail } = error;
          answer = { results: [{ index: 0, event_id: null, status: "invalid", code, detail }] };
        }
      }
      answer.results.forEach((result, i) => {
        results[waiting[i]] = { ...result, index: offset + waiting[i] };
      });
      waiting = waiting.filter((index) => results[index].status === "throttled");
      const pauseMs = jitter(attempt);
      if (waiting.length === 0 || Date.now() + pauseMs >= endMs) return results;
      await pause(pauseMs, options?.signal);
    }
  }

  #post<T>(path: string, body: unknown, options?: CallOptions): Promise<T> {
    return this.#call("POST", path, body, options);
  }

  async #call<T>(
    method: "GET" | "POST" | "DELETE",
    path: string,
    body: unknown,
    options: CallOptions = {},
    repeatable = true,
  ): Promise<T> {
    const { maxAttempts = 4 } = this.#options;
    const endMs = Date.now() + (options.deadlineMs ?? this.#options.deadlineMs ?? DEADLINE_MS);
    const text = body === undefined ? undefined : JSON.stringify(body);
    for (let attempt = 1; ; attempt++) {
      let failure: FreshetError;
      let pauseMs = jitter(attempt);
      try {
        const response = await this.#fetch(method, path, text, endMs, options);
        const answer = await readAnswer(response);
        if (response.ok) return answer as T;
        failure = new FreshetError(response.status, answer as Record<string, unknown>);
        // Of events, some may be refused for good beside those that are throttled: the caller looks at the results.
        const isFinal = failure.code === "quota_exceeded" || (!repeatable && UNKNOWN.has(response.status));
        if (isFinal || !RETRIED.has(response.status)) throw failure;
        pauseMs += retryAfterMs(response.headers.get("retry-after"));
      } catch (error) {
        if (error instanceof FreshetError) throw error;
        if (options.signal?.aborted) throw options.signal.reason;
        const late = (error as Error).name === "TimeoutError";
        const detail = late ? "the API did not answer in time" : "the API could not be reached";
        failure = new FreshetError(0, { code: late ? "timeout" : "network", detail }, error);
        // Whether it was done is not known.
        if (!repeatable) throw failure;
      }
      if (attempt >= maxAttempts || Date.now() + pauseMs >= endMs) throw failure;
      await pause(pauseMs, options.signal);
    }
  }

  #fetch(
    method: string,
    path: string,
    body: string | undefined,
    endMs: number,
    options: CallOptions,
  ): Promise<Response> {
    const { apiKey, timeoutMs = 5_000, fetch: own = fetch } = this.#options;
    const patience = AbortSignal.timeout(Math.max(1, Math.min(options.timeoutMs ?? timeoutMs, endMs - Date.now())));
    const headers: Record<string, string> = { "x-api-key": apiKey, accept: "application/json" };
    if (body !== undefined) headers["content-type"] = "application/json";
    const signal = options.signal ? AbortSignal.any([patience, options.signal]) : patience;
    return own(`${this.#base}${path}`, { method, headers, body, signal });
  }
}

interface BatchAnswer extends ReadTail {
  readonly features: readonly string[];
  readonly rows: readonly {
    readonly values: readonly unknown[];
    readonly statuses: readonly Status[];
    readonly event_times_ms: readonly (number | null)[];
  }[];
}

/** Somewhere below a bound that doubles, so that clients that failed together do not come back together. */
const jitter = (attempt: number): number =>
  Math.random() * Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (attempt - 1));

/** Seconds, or an HTTP date. */
function retryAfterMs(header: string | null): number {
  if (header === null || header === "") return 0;
  const seconds = Number(header);
  const ms = Number.isNaN(seconds) ? Date.parse(header) - Date.now() : seconds * 1_000;
  return Number.isNaN(ms) ? 0 : Math.max(0, ms);
}

async function readAnswer(response: Response): Promise<unknown> {
  const text = await response.text();
  try {
    return JSON.parse(text);
  } catch {
    // Something between the API and here: its page says nothing that a program can use.
    if (!response.ok) return { detail: `the API answered ${response.status}` };
    throw new FreshetError(response.status, { code: "answer_unreadable", detail: "the answer is not JSON" });
  }
}

function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(done, ms);
    const aborted = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    function done() {
      signal?.removeEventListener("abort", aborted);
      resolve();
    }
    if (signal?.aborted) return aborted();
    signal?.addEventListener("abort", aborted, { once: true });
  });
}
