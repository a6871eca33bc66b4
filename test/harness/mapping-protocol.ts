/** What passes between a mapping and a function: the event, the meaning of a response, and the record of a failure. */
import { randomUUID } from "node:crypto";
import type { StreamRecord } from "./kinesis-stream.ts";

/** An invocation's payload may have 6 MB, base64 and envelope included. */
export const MAX_PAYLOAD_BYTES = 6 * 1024 * 1024;

/** Bytes of a record in the event: base64, partition key, and the envelope's fixed text. */
export function payloadBytes(record: StreamRecord): number {
  return Math.ceil(record.data.length / 3) * 4 + Buffer.byteLength(record.partitionKey) + 600;
}

/** The event as Lambda sends it. */
export function kinesisEvent(streamArn: string, records: readonly StreamRecord[]) {
  return {
    Records: records.map((record) => ({
      kinesis: {
        kinesisSchemaVersion: "1.0",
        partitionKey: record.partitionKey,
        sequenceNumber: record.sequence,
        data: Buffer.from(record.data).toString("base64"),
        // Seconds, with the milliseconds behind the point.
        approximateArrivalTimestamp: record.arrivalMs / 1_000,
      },
      eventSource: "aws:kinesis",
      eventVersion: "1.0",
      eventID: `${record.shardId}:${record.sequence}`,
      eventName: "aws:kinesis:record",
      invokeIdentityArn: "arn:aws:iam::000000000000:role/aggregate",
      awsRegion: "us-east-1",
      eventSourceARN: streamArn,
    })),
  };
}

export type Verdict =
  | { readonly kind: "success" }
  /** Records before `index` are done, those from it on are to be retried. */
  | { readonly kind: "partial"; readonly index: number }
  | { readonly kind: "failure"; readonly why: string };

/**
 * What a response says of its batch when `ReportBatchItemFailures` is on. Empty and null say success, which is the trap:
 * a handler that swallows an error and returns nothing has lost the batch.
 */
export function verdictOf(response: unknown, records: readonly StreamRecord[]): Verdict {
  if (response === null || response === undefined) return { kind: "success" };
  if (typeof response !== "object") return { kind: "failure", why: "the response is no object" };
  const failures = (response as Record<string, unknown>)["batchItemFailures"];
  if (failures === null || failures === undefined) return { kind: "success" };
  if (!Array.isArray(failures)) return { kind: "failure", why: "batchItemFailures is no list" };
  let lowest = records.length;
  for (const failure of failures) {
    const identifier = (failure as Record<string, unknown> | null)?.["itemIdentifier"];
    if (typeof identifier !== "string" || identifier === "") return { kind: "failure", why: "bad itemIdentifier" };
    const index = records.findIndex((record) => record.sequence === identifier);
    if (index < 0) return { kind: "failure", why: "itemIdentifier is not of this batch" };
    lowest = Math.min(lowest, index);
  }
  return lowest === records.length ? { kind: "success" } : { kind: "partial", index: lowest };
}

export type GivenUp = "RetryAttemptsExhausted" | "RecordAgeExceeded";

/** An object that Lambda writes to an S3 failure destination: metadata, and the whole event as text. */
export interface FailureObject {
  readonly key: string;
  readonly body: {
    readonly requestContext: {
      requestId: string;
      functionArn: string;
      condition: GivenUp;
      approximateInvokeCount: number;
    };
    readonly responseContext: { statusCode: number; executedVersion: string; functionError: string } | null;
    readonly version: "1.0";
    readonly timestamp: string;
    readonly KinesisBatchInfo: {
      shardId: string;
      startSequenceNumber: string;
      endSequenceNumber: string;
      approximateArrivalOfFirstRecord: string;
      approximateArrivalOfLastRecord: string;
      batchSize: number;
      streamArn: string;
    };
    readonly payload: string;
  };
}

export function failureObject(given: {
  records: readonly StreamRecord[];
  streamArn: string;
  functionArn: string;
  mappingId: string;
  condition: GivenUp;
  invocations: number;
  nowMs: number;
}): FailureObject {
  const { records, nowMs } = given;
  const first = records[0]!;
  const last = records[records.length - 1]!;
  const timestamp = new Date(nowMs).toISOString();
  const day = timestamp.slice(0, 10);
  const time = timestamp.slice(11, 19).replaceAll(":", ".");
  return {
    key: `aws/lambda/${given.mappingId}/${first.shardId}/${day.replaceAll("-", "/")}/${day}T${time}-${randomUUID()}`,
    body: {
      requestContext: {
        requestId: randomUUID(),
        functionArn: given.functionArn,
        condition: given.condition,
        approximateInvokeCount: given.invocations,
      },
      responseContext:
        given.invocations === 0 ? null : { statusCode: 200, executedVersion: "$LATEST", functionError: "Unhandled" },
      version: "1.0",
      timestamp,
      KinesisBatchInfo: {
        shardId: first.shardId,
        startSequenceNumber: first.sequence,
        endSequenceNumber: last.sequence,
        approximateArrivalOfFirstRecord: new Date(first.arrivalMs).toISOString(),
        approximateArrivalOfLastRecord: new Date(last.arrivalMs).toISOString(),
        batchSize: records.length,
        streamArn: given.streamArn,
      },
      payload: JSON.stringify(kinesisEvent(given.streamArn, records)),
    },
  };
}
