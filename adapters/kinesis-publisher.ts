import { type KinesisClient, PutRecordsCommand } from "@aws-sdk/client-kinesis";

export interface OutgoingRecord {
  readonly data: Uint8Array;
  readonly partitionKey: string;
}

/**
 * What became of a record: `queued` (the broker acknowledged it), `throttled` (the shard is at its limit) or `unavailable`
 * (no acknowledgement; it may or may not be in the stream, and sending it again is safe because event ids are idempotent).
 */
export type PublishOutcome = "queued" | "throttled" | "unavailable";

export interface Publisher {
  /** Outcomes aligned with `records`. Never throws for a broker that fails: that is an outcome. */
  publish(stream: string, records: readonly OutgoingRecord[]): Promise<PublishOutcome[]>;
}

/** PutRecords takes at most 500 records; the byte bound leaves room under its 5 MiB, partition keys included. */
const MAX_RECORDS_PER_CALL = 500;
const MAX_BYTES_PER_CALL = 4.5 * 1024 * 1024;

/**
 * @param options.streamNames plan name to Kinesis name
 * @param options.budgetMs how long failed records are tried again; the caller has its own queue and should hear soon
 */
export function createKinesisPublisher(
  client: Pick<KinesisClient, "send">,
  options: {
    streamNames: Readonly<Record<string, string>>;
    budgetMs?: number;
    sleep?: (ms: number) => Promise<void>;
    random?: () => number;
    now?: () => number;
  },
): Publisher {
  const {
    streamNames,
    budgetMs = 2_000,
    sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
    random = Math.random,
    now = Date.now,
  } = options;

  /** One PutRecords call; writes the outcomes of its records. */
  async function put(name: string, records: readonly OutgoingRecord[], part: number[], outcomes: PublishOutcome[]) {
    try {
      const answer = await client.send(
        new PutRecordsCommand({
          StreamName: name,
          Records: part.map((i) => ({ Data: records[i].data, PartitionKey: records[i].partitionKey })),
        }),
      );
      part.forEach((index, i) => {
        const error = answer.Records?.[i]?.ErrorCode;
        const acknowledged = answer.Records?.[i] !== undefined && (error === undefined || error === null);
        if (acknowledged) outcomes[index] = "queued";
        else outcomes[index] = isThrottle(error) ? "throttled" : "unavailable";
      });
    } catch (error) {
      const outcome = isThrottle((error as Error)?.name) ? "throttled" : "unavailable";
      for (const index of part) outcomes[index] = outcome;
    }
  }

  return {
    async publish(stream, records) {
      const outcomes: PublishOutcome[] = new Array(records.length).fill("unavailable");
      const name = streamNames[stream];
      if (name === undefined) return outcomes;
      const deadline = now() + budgetMs;
      let pending = records.map((_, i) => i);
      for (let attempt = 0; pending.length > 0; attempt++) {
        for (const part of parts(records, pending)) await put(name, records, part, outcomes);
        pending = pending.filter((i) => outcomes[i] !== "queued");
        // Full jitter, 50 ms doubling to 800: callers that were throttled together must not come back together.
        const delay = Math.ceil(random() * Math.min(800, 50 * 2 ** attempt));
        if (pending.length === 0 || now() + delay >= deadline) break;
        await sleep(delay);
      }
      return outcomes;
    },
  };
}

const isThrottle = (code: string | undefined) =>
  code === "ProvisionedThroughputExceededException" ||
  code === "ThrottlingException" ||
  code === "LimitExceededException" ||
  code === "KMSThrottlingException";

function parts(records: readonly OutgoingRecord[], pending: readonly number[]): number[][] {
  const result: number[][] = [];
  let current: number[] = [];
  let bytes = 0;
  for (const index of pending) {
    const size = records[index].data.length + records[index].partitionKey.length * 3;
    if (current.length > 0 && (current.length === MAX_RECORDS_PER_CALL || bytes + size > MAX_BYTES_PER_CALL)) {
      result.push(current);
      current = [];
      bytes = 0;
    }
    current.push(index);
    bytes += size;
  }
  if (current.length > 0) result.push(current);
  return result;
}
