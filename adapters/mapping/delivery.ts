/**
 * What Lambda's event source mappings deliver. Of Kinesis: records of one shard. Of Kafka, Amazon's (`aws:kafka`) or any other
 * (`SelfManagedKafka`): records of several partitions, by `<topic>-<partition>`. (Lambda developer guide, with-kinesis and with-msk.)
 */
import type { KinesisStreamEvent, MSKEvent, SelfManagedKafkaEvent } from "aws-lambda";
import { RecordError } from "../../core/errors.ts";
import { framedValue } from "../avro/framing.ts";

/** One record as it was delivered. */
export interface DeliveredRecord {
  readonly sequence: string;
  /** Given by the broker; where it was not (`isArrivalUntrusted`), that of its delivery. */
  readonly arrivalMs: number;
  readonly bytes: Buffer;
  /** Of a topic that keeps its producers' times: nothing may follow from when it came. */
  readonly isArrivalUntrusted?: true;
}

/** What was delivered of one shard. */
export interface DeliveredRun {
  /** ARN or name of the Kinesis stream, or the topic. */
  readonly stream: string;
  readonly shard: string;
  /** In order, at least one. */
  readonly records: readonly DeliveredRecord[];
}

export type MappingEvent = KinesisStreamEvent | MSKEvent | SelfManagedKafkaEvent;

/**
 * @param nowMs for records that have no arrival of their own
 * @throws RecordError `delivery_invalid`, never quoting what is in it
 */
export function deliveredRuns(event: unknown, nowMs: number): DeliveredRun[] {
  const { Records, records } = (event ?? {}) as { Records?: unknown; records?: unknown };
  if (Array.isArray(Records) && Records.length > 0) return [kinesisRun(Records)];
  if (typeof records === "object" && records !== null) {
    const runs = Object.values(records).filter((run) => !Array.isArray(run) || run.length > 0);
    if (runs.length > 0) return runs.map((run) => kafkaRun(run, nowMs));
  }
  throw invalid("has no records");
}

function kinesisRun(given: readonly any[]): DeliveredRun {
  const records = given.map((one, i) => {
    const { sequenceNumber, approximateArrivalTimestamp, data } = one?.kinesis ?? {};
    const arrivalMs = Math.round(approximateArrivalTimestamp * 1000);
    if (typeof sequenceNumber !== "string" || typeof data !== "string" || !Number.isSafeInteger(arrivalMs)) {
      throw invalid(`has a record ${i} that is none of Kinesis`);
    }
    return { sequence: sequenceNumber, arrivalMs, bytes: Buffer.from(data, "base64") };
  });
  const { eventSourceARN, eventID } = given[0];
  if (typeof eventSourceARN !== "string" || typeof eventID !== "string" || !eventID.includes(":")) {
    throw invalid("has records that do not name stream and shard");
  }
  const shard = eventID.slice(0, eventID.lastIndexOf(":"));
  if (given.some((one) => one.eventSourceARN !== eventSourceARN || !one.eventID?.startsWith(`${shard}:`))) {
    throw invalid("has records of several shards");
  }
  return { stream: eventSourceARN, shard, records };
}

function kafkaRun(given: unknown, nowMs: number): DeliveredRun {
  if (!Array.isArray(given)) throw invalid("has a partition without a list of records");
  const { topic, partition } = given[0] ?? {};
  const records = given.map((one, i): DeliveredRecord => {
    const { offset, timestamp, timestampType, value } = one ?? {};
    const named = typeof topic === "string" && Number.isSafeInteger(partition);
    if (!named || !Number.isSafeInteger(offset) || one.topic !== topic || one.partition !== partition) {
      throw invalid(`has a record ${i} that is none of its partition of Kafka`);
    }
    // A record without a value is nobody's event, and is refused as such.
    const bytes = framedValue(Buffer.from(value ?? "", "base64"), headersOf(one.headers));
    const record = { sequence: String(offset), bytes };
    const isTrusted = timestampType === "LOG_APPEND_TIME" && Number.isSafeInteger(timestamp);
    return isTrusted ? { ...record, arrivalMs: timestamp } : { ...record, arrivalMs: nowMs, isArrivalUntrusted: true };
  });
  return { stream: topic, shard: String(partition), records };
}

/** Each is an object with one name, whose content is a list of bytes, signed ones as Java's are. */
function headersOf(headers: unknown): [string, Buffer][] {
  if (!Array.isArray(headers)) return [];
  return headers.flatMap((header) =>
    Object.entries(header ?? {}).map(([name, bytes]): [string, Buffer] => [
      name,
      Buffer.from(Array.isArray(bytes) ? bytes : []),
    ]),
  );
}

const invalid = (why: string): RecordError =>
  new RecordError("delivery_invalid", `a delivery is an event of Kinesis or Kafka: it ${why}`, {
    repair: "connect the function to a stream by an event source mapping, or by `freshet mapping`",
  });
