/** Where generated events go: the broker, the HTTP API, a file. Each says how many events were acknowledged. */
import { createWriteStream, type WriteStream } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { type KinesisClient, PutRecordsCommand } from "@aws-sdk/client-kinesis";
import { FreshetError } from "../../core/errors.ts";
import type { Outgoing } from "./disturb.ts";
import { packAll } from "./kpl-packer.ts";
import { Random } from "./random.ts";
import type { StreamName } from "./simulate.ts";

export interface Sink {
  /** Resolves when all are acknowledged, or given up; @returns how many were acknowledged */
  send(batch: readonly Outgoing[]): Promise<number>;
  close(): Promise<void>;
}

const RECORDS_PER_CALL = 500;
const BYTES_PER_CALL = 4_500_000;
const ATTEMPTS = 8;

/** @param packed KPL-aggregated records; else one event a record, by its own partition key */
export function brokerSink(
  client: Pick<KinesisClient, "send">,
  streams: Readonly<Record<string, string>>,
  packed: boolean,
  seed: number,
): Sink {
  const random = new Random(seed, 4);
  const put = async (stream: string, records: readonly { data: Buffer; key: string; events: number }[]) => {
    let acknowledged = 0;
    let rest = [...records];
    for (let attempt = 0; rest.length > 0 && attempt < ATTEMPTS; attempt++) {
      if (attempt > 0) await sleep(random.next() * Math.min(2_000, 50 * 2 ** attempt));
      const failed: typeof rest = [];
      for (const call of calls(rest)) {
        const answer = await client.send(
          new PutRecordsCommand({
            StreamName: stream,
            Records: call.map(({ data, key }) => ({ Data: data, PartitionKey: key })),
          }),
        );
        call.forEach((record, i) => {
          if (answer.Records?.[i]?.ErrorCode === undefined) acknowledged += record.events;
          else failed.push(record);
        });
      }
      rest = failed;
    }
    return acknowledged;
  };
  return {
    async send(batch) {
      const sent = await Promise.all(
        [...byStream(batch)].map(([name, events]) => {
          const records = packed
            ? packEvents(events, random)
            : events.map(({ bytes, event }) => ({ data: bytes, key: event.partitionKey, events: 1 }));
          return put(streams[name], records);
        }),
      );
      return sent.reduce((a, b) => a + b, 0);
    },
    async close() {},
  };
}

function packEvents(events: readonly Outgoing[], random: Random) {
  const records: { data: Buffer; key: string; events: number }[] = [];
  // Cut so that every shard gets its part of a burst.
  const size = Math.max(1, Math.min(200, Math.ceil(events.length / 8)));
  for (let from = 0; from < events.length; from += size) {
    const part = events.slice(from, from + size);
    for (const data of packAll(part.map(({ bytes }) => bytes))) records.push({ data, key: random.hex(8), events: 0 });
    records[records.length - 1].events = part.length;
  }
  return records;
}

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

/** `POST /v1/events/{stream}`, JSON, up to 500 events a request; throttled ones are sent again. */
export function httpSink(url: string, apiKey: string): Sink {
  const post = async (stream: string, events: readonly Outgoing[]): Promise<number> => {
    let acknowledged = 0;
    let rest = events.map(({ event, kind }) => {
      // The API takes the tenant from the key. What is broken is broken in JSON's own way here.
      const { tenant: _, ...fields } = event.fields;
      return kind === "malformed" ? { ...fields, event_time: "yesterday" } : fields;
    });
    for (let attempt = 0; rest.length > 0 && attempt < ATTEMPTS; attempt++) {
      if (attempt > 0) await sleep(Math.min(2_000, 50 * 2 ** attempt));
      const response = await fetch(`${url}/v1/events/${stream}`, {
        method: "POST",
        headers: { "content-type": "application/json", "x-api-key": apiKey },
        body: JSON.stringify(rest),
      });
      if (response.status === 401 || response.status === 403) {
        throw new FreshetError("key_refused", `the API refused the key (${response.status})`, {
          repair: "run `freshet up` for a new key",
        });
      }
      const answer = (await response.json().catch(() => ({}))) as { results?: { status: string }[] };
      const results = answer.results ?? [];
      if (results.length === 0) continue;
      acknowledged += results.filter(({ status }) => status === "queued").length;
      rest = rest.filter((_, i) => results[i]?.status === "throttled");
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

/** One JSON object a line: stream and fields. Broken events are left out: a file has no wire format to break. */
export function fileSink(file: string): Sink {
  const out = createWriteStream(file);
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

export const write = (out: WriteStream, text: string): Promise<void> =>
  new Promise((resolve, reject) => {
    out.write(text, (error) => (error ? reject(error) : resolve()));
  });
export const end = (out: WriteStream): Promise<void> =>
  new Promise((resolve, reject) => {
    out.once("error", reject);
    out.end(() => resolve());
  });
