/** Where generated events go: the broker, the HTTP API, a file. Each says how many events were acknowledged. */
import { hash } from "node:crypto";
import { createWriteStream, openSync, type WriteStream } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { type KinesisClient, PutRecordsCommand } from "@aws-sdk/client-kinesis";
import { KplPacker } from "../../adapters/kinesis/kpl.ts";
import { FreshetError } from "../../core/errors.ts";
import type { Outgoing } from "./disturb.ts";
import { Random } from "./random.ts";
import type { StreamName } from "./simulate.ts";

export interface Sink {
  /** Resolves when all are acknowledged, or given up; @returns how many were acknowledged */
  send(batch: readonly Outgoing[]): Promise<number>;
  close(): Promise<void>;
}

const RECORDS_PER_CALL = 500;
const BYTES_PER_CALL = 4_500_000;
const ATTEMPTS = 12;
const LONGEST_PAUSE_MS = 2_000;
/**
 * Packed records go to this many equal ranges of the hash space, an event by its own partition key: so the events of one
 * card stay in order, as they would singly, wherever shards are cut at quarters.
 */
const LANES = 4;

interface BrokerRecord {
  readonly data: Buffer;
  readonly key: string;
  /** Overrides the key's hash; null for a record that goes by its key. */
  readonly hashKey: string | null;
  readonly events: number;
}

/**
 * @param packed KPL-aggregated records; else one event a record, by its own partition key
 * @throws FreshetError from `send`: `stream_missing`, `broker_unreachable`
 */
export function brokerSink(
  client: Pick<KinesisClient, "send">,
  streams: Readonly<Record<string, string>>,
  packed: boolean,
  seed: number,
  pause: (ms: number) => Promise<unknown> = sleep,
): Sink {
  const random = new Random(seed, 4);
  const put = async (stream: string, records: readonly BrokerRecord[]): Promise<number> => {
    let acknowledged = 0;
    let rest = records;
    let unanswered: unknown = null;
    for (let attempt = 0; rest.length > 0 && attempt < ATTEMPTS; attempt++) {
      if (attempt > 0) await pause(random.next() * Math.min(LONGEST_PAUSE_MS, 50 * 2 ** attempt));
      const failed: BrokerRecord[] = [];
      unanswered = null;
      for (const call of calls(rest)) {
        try {
          const answer = await client.send(putRecords(stream, call));
          call.forEach((record, i) => {
            const result = answer.Records?.[i];
            if (result !== undefined && !result.ErrorCode) acknowledged += record.events;
            else failed.push(record);
          });
        } catch (error) {
          if ((error as Error).name === "ResourceNotFoundException") throw missing(stream, error);
          unanswered = error;
          failed.push(...call);
        }
      }
      rest = failed;
    }
    if (unanswered !== null) {
      throw new FreshetError("broker_unreachable", `the broker did not take ${rest.length} records of ${stream}`, {
        repair: "run `freshet health`; events may be sent again, as ids are idempotent",
        cause: unanswered,
      });
    }
    return acknowledged;
  };
  return {
    async send(batch) {
      const sent = await Promise.all(
        [...byStream(batch)].map(([name, events]) => put(streams[name], packed ? pack(events) : single(events))),
      );
      return sent.reduce((a, b) => a + b, 0);
    },
    async close() {},
  };
}

const putRecords = (stream: string, records: readonly BrokerRecord[]) =>
  new PutRecordsCommand({
    StreamName: stream,
    Records: records.map(({ data, key, hashKey }) => ({
      Data: data,
      PartitionKey: key,
      ...(hashKey === null ? {} : { ExplicitHashKey: hashKey }),
    })),
  });

const missing = (stream: string, cause: unknown): FreshetError =>
  new FreshetError("stream_missing", `the broker has no stream ${stream}`, { repair: "run `freshet deploy`", cause });

const single = (events: readonly Outgoing[]): BrokerRecord[] =>
  events.map(({ bytes, event }) => ({ data: bytes, key: event.partitionKey, hashKey: null, events: 1 }));

/** Events in KPL-aggregated records, by lane and in order. */
export function pack(events: readonly Outgoing[]): BrokerRecord[] {
  const lanes = Array.from({ length: LANES }, () => new KplPacker());
  const records: BrokerRecord[] = [];
  const flush = (lane: number): void => {
    const { count } = lanes[lane];
    if (count > 0) records.push({ data: lanes[lane].take(), key: "a", hashKey: LANE_KEYS[lane], events: count });
  };
  for (const { bytes, event } of events) {
    const lane = laneOf(event.partitionKey);
    if (lanes[lane].add(event.partitionKey, bytes)) continue;
    flush(lane);
    lanes[lane].add(event.partitionKey, bytes);
  }
  for (let lane = 0; lane < LANES; lane++) flush(lane);
  return records;
}

/** The middle of each lane's range of the 128-bit hash space. */
const LANE_KEYS = Array.from({ length: LANES }, (_, i) => String(((2n * BigInt(i) + 1n) << 127n) / BigInt(LANES)));

/** The quarter that Kinesis' own hash of the key, MD5, falls in. */
export const laneOf = (partitionKey: string): number => hash("md5", partitionKey, "buffer")[0] >> 6;

function* calls<T extends { data: Buffer }>(records: readonly T[]): Generator<T[]> {
  let call: T[] = [];
  let bytes = 0;
  for (const record of records) {
    if (call.length >= RECORDS_PER_CALL || bytes + record.data.length > BYTES_PER_CALL) {
      yield call;
      call = [];
      bytes = 0;
    }
    call.push(record);
    bytes += record.data.length;
  }
  if (call.length > 0) yield call;
}

function byStream(batch: readonly Outgoing[]): Map<StreamName, Outgoing[]> {
  const streams = new Map<StreamName, Outgoing[]>();
  for (const out of batch) {
    const list = streams.get(out.event.stream);
    if (list) list.push(out);
    else streams.set(out.event.stream, [out]);
  }
  return streams;
}

interface IngestAnswer {
  readonly results?: readonly { readonly status: "queued" | "invalid" | "throttled" }[];
}

/**
 * `POST /v1/events/{stream}`, JSON, up to 500 events a request; what was throttled or not answered is sent again.
 * @throws FreshetError from `send`: `key_refused`, `api_unreachable`
 */
export function httpSink(url: string, apiKey: string, pause: (ms: number) => Promise<unknown> = sleep): Sink {
  const post = async (stream: string, events: readonly Outgoing[]): Promise<number> => {
    let acknowledged = 0;
    let rest = events.map(asJson);
    let unanswered: unknown = null;
    for (let attempt = 0; rest.length > 0 && attempt < ATTEMPTS; attempt++) {
      if (attempt > 0) await pause(Math.min(LONGEST_PAUSE_MS, 50 * 2 ** attempt));
      unanswered = null;
      let response: Response;
      let answer: IngestAnswer;
      try {
        response = await fetch(`${url}/v1/events/${stream}`, {
          method: "POST",
          headers: { "content-type": "application/json", "x-api-key": apiKey },
          body: JSON.stringify(rest),
        });
        answer = (await response.json()) as IngestAnswer;
      } catch (error) {
        unanswered = error;
        continue;
      }
      if (response.status === 401 || response.status === 403) {
        throw new FreshetError("key_refused", `the API refused the key (${response.status})`, {
          repair: "run `freshet up` for a new key",
        });
      }
      if (answer.results === undefined) {
        // A request that is refused as a whole stays refused; one that met an outage does not.
        if (response.status < 500 && response.status !== 429) break;
        continue;
      }
      const { results } = answer;
      acknowledged += results.filter(({ status }) => status === "queued").length;
      rest = rest.filter((_, i) => results[i]?.status === "throttled");
    }
    if (unanswered !== null) {
      throw new FreshetError("api_unreachable", `the API did not answer at ${url}`, {
        repair: "run `freshet health`; events may be sent again, as ids are idempotent",
        cause: unanswered,
      });
    }
    return acknowledged;
  };
  return {
    async send(batch) {
      let acknowledged = 0;
      for (const [stream, events] of byStream(batch)) {
        for (let from = 0; from < events.length; from += RECORDS_PER_CALL) {
          acknowledged += await post(stream, events.slice(from, from + RECORDS_PER_CALL));
        }
      }
      return acknowledged;
    },
    async close() {},
  };
}

/** As the API takes it: the tenant comes from the key. What is broken is broken in JSON's own way here. */
function asJson({ event, kind }: Outgoing): Record<string, unknown> {
  const { tenant: _, ...fields } = event.fields;
  return kind === "malformed" ? { ...fields, [TIME_FIELD]: "yesterday" } : fields;
}
const TIME_FIELD = "event_time";

/** One JSON object a line: stream and fields. Broken events are left out: a file has no wire format to break. */
export function fileSink(file: string): Sink {
  const out = openFile(file);
  return {
    async send(batch) {
      const whole = batch.filter(({ kind }) => kind !== "malformed");
      await write(
        out,
        whole.map(({ event }) => `${JSON.stringify({ stream: event.stream, ...event.fields })}\n`).join(""),
      );
      return whole.length;
    },
    close: () => end(out),
  };
}

/** Opens a file for writing, at once. @throws FreshetError `file_unwritable` */
export function openFile(file: string): WriteStream {
  try {
    return createWriteStream(file, { fd: openSync(file, "w") });
  } catch (cause) {
    throw new FreshetError("file_unwritable", `${file} cannot be written: ${(cause as Error).message}`, {
      repair: "name a file in a folder that exists and is yours",
      cause,
    });
  }
}

export const write = (out: WriteStream, text: string): Promise<void> =>
  new Promise((resolve, reject) => {
    out.write(text, (error) => (error ? reject(error) : resolve()));
  });
export const end = (out: WriteStream): Promise<void> =>
  new Promise((resolve, reject) => {
    out.once("error", reject);
    out.end(() => resolve());
  });
