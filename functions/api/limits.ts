/** Bounds of the HTTP API, each with its reason. docs/api.md lists them. */

/** Of events, pushes, and rows of a historical job. A Lambda's synchronous payload ends at 6 MB and a PutRecords call at 5 MiB; what passes here passes there. */
export const MAX_BODY_BYTES = 5 * 1024 * 1024;
/** Queries are names and keys only: 100 rows of four 256-byte keys and 500 feature names fit several times. */
export const MAX_QUERY_BYTES = 512 * 1024;
/** PutRecords takes 500 records in a call. */
export const MAX_EVENTS = 500;
/** Keeps the slowest read of one request in the low milliseconds, so that it cannot delay its neighbours. */
export const MAX_BATCH_ROWS = 100;
/** One pipelined read and a few runs of a model: some milliseconds. */
export const MAX_CANDIDATES = 500;
/** How many of a ranking are answered, and logged, where a caller does not say. */
export const DEFAULT_RANKED = 10;
/** The first of a ranking: exact explanations take milliseconds each. */
export const MAX_EXPLAINED = 10;
/** Values of 1,000 rows fit the body; one trip to the store pushes them in a few milliseconds a bucket. */
export const MAX_PUSH_ROWS = 1_000;
/** UTF-8 bytes of a text that is pushed; what `first` and `last` keep of events is bounded likewise. */
export const MAX_PUSH_TEXT_BYTES = 1_024;
/** More than any model's vector; bounds the work and the answer of one request. */
export const MAX_FEATURES = 500;

/** A Kinesis record ends at 1 MiB unless the stream was raised. Encoded size. */
export const MAX_EVENT_BYTES = 1024 * 1024 - 512;
/** 2000-01-01: an earlier time is nearly always a number of seconds where milliseconds are expected. */
export const MIN_EVENT_TIME_MS = 946_684_800_000;

/** What candidates of a ranking share (the user's read, the model's run) makes each cheaper than a score: about a tenth of one. */
export const CANDIDATES_PER_TOKEN = 10;
/** Characters of a reason or a field by which records of the quarantine are picked. */
export const MAX_SELECTOR = 200;
