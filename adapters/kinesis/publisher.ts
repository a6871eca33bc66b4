import { type KinesisClient, PutRecordsCommand } from "@aws-sdk/client-kinesis";
import type { Publisher, PublishOutcome } from "../broker/broker.ts";
import { createPublisher, type PublishingOptions } from "../broker/publishing.ts";

/** PutRecords takes at most 500 records; the byte bound leaves room under its 5 MiB, partition keys included. */
const LIMITS = { records: 500, bytes: 4.5 * 1024 * 1024 };

export function createKinesisPublisher(client: Pick<KinesisClient, "send">, options: PublishingOptions): Publisher {
  return createPublisher(
    async (name, records) => {
      try {
        const answer = await client.send(
          new PutRecordsCommand({
            StreamName: name,
            Records: records.map(({ data, partitionKey }) => ({ Data: data, PartitionKey: partitionKey })),
          }),
        );
        return records.map((_, i): PublishOutcome => {
          const error = answer.Records?.[i]?.ErrorCode;
          const acknowledged = answer.Records?.[i] !== undefined && (error === undefined || error === null);
          if (acknowledged) return "queued";
          return isThrottle(error) ? "throttled" : "unavailable";
        });
      } catch (error) {
        return records.map(() => (isThrottle((error as Error)?.name) ? "throttled" : "unavailable"));
      }
    },
    LIMITS,
    options,
  );
}

const isThrottle = (code: string | undefined) =>
  code === "ProvisionedThroughputExceededException" ||
  code === "ThrottlingException" ||
  code === "LimitExceededException" ||
  code === "KMSThrottlingException";
