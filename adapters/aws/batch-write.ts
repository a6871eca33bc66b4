/** Writes of many items to a DynamoDB table. It may write a part of a call and hand back the rest, which is no error to the SDK. */
import { setTimeout as realSleep } from "node:timers/promises";
import { BatchWriteItemCommand, type DynamoDBClient, type WriteRequest } from "@aws-sdk/client-dynamodb";
import { InfrastructureError } from "../../core/errors.ts";
import { backoffMs } from "../backoff.ts";
import { durably, forEachLimited } from "./durable-call.ts";

export interface BatchWriteOptions {
  readonly dynamodb: Pick<DynamoDBClient, "send">;
  readonly table: string;
  /** Of the error when a call fails, or is never taken whole. */
  readonly code: string;
  /** Start of its message, as `writing late events`. */
  readonly what: string;
  /** What to do when a call is never taken whole. */
  readonly repair: string;
  readonly concurrentCalls: number;
  /** How often the rest of a call is sent, all in all. */
  readonly rounds: number;
  /** @default real time */
  readonly sleep?: (ms: number) => Promise<unknown>;
}

/** DynamoDB's limit of a call. */
const ITEMS_PER_CALL = 25;
/** Ten rounds take 5 s in the mean. */
const PAUSE = { firstMs: 100, longestMs: 1_600 };

/**
 * Durable when it resolves.
 * @param requests no two of one key, for which DynamoDB refuses a whole call
 * @throws InfrastructureError with the given code
 */
export async function writeBatches(requests: readonly WriteRequest[], options: BatchWriteOptions): Promise<void> {
  const { dynamodb, table, code, rounds, repair, sleep = realSleep } = options;
  const what = `${options.what} in table ${table}`;
  const calls = Array.from({ length: Math.ceil(requests.length / ITEMS_PER_CALL) }, (_, i) =>
    requests.slice(i * ITEMS_PER_CALL, (i + 1) * ITEMS_PER_CALL),
  );
  await forEachLimited(calls, options.concurrentCalls, async (call) => {
    let rest = [...call];
    for (let round = 0; rest.length > 0 && round < rounds; round++) {
      if (round > 0) await sleep(backoffMs(round, PAUSE));
      const answer = await durably(code, what, () =>
        dynamodb.send(new BatchWriteItemCommand({ RequestItems: { [table]: rest } })),
      );
      rest = answer.UnprocessedItems?.[table] ?? [];
    }
    if (rest.length > 0)
      throw new InfrastructureError(code, `${what}: ${rest.length} left after ${rounds} rounds`, { repair });
  });
}
