/**
 * The other end of the late queue: what repair reads, takes out, and puts off when it fails. An item stays until its event is
 * visible in the archive, or can never be; attempts are counted on it.
 */
import {
  type AttributeValue,
  ConditionalCheckFailedException,
  type DynamoDBClient,
  ScanCommand,
  UpdateItemCommand,
  type WriteRequest,
} from "@aws-sdk/client-dynamodb";
import { writeBatches } from "../aws/batch-write.ts";
import { durably } from "../aws/durable-call.ts";
import { type LateItem, lateKey } from "./late-queue.ts";

/** As the table holds it. */
export interface PendingItem extends LateItem {
  /** Of repairs that failed over it. */
  readonly attempts: number;
  /** It is left alone until then; 0 for one that never failed. */
  readonly notBeforeMs: number;
}

const CONCURRENT_CALLS = 4;
const MAX_ROUNDS = 6;
const FIRST_DELAY_MS = 60_000;
const LONGEST_DELAY_MS = 6 * 3_600_000;

export class LateWork {
  readonly #table: string;
  readonly #dynamodb: Pick<DynamoDBClient, "send">;

  constructor({ table, dynamodb }: { table: string; dynamodb: Pick<DynamoDBClient, "send"> }) {
    this.#table = table;
    this.#dynamodb = dynamodb;
  }

  /** Everything that waits, some thousand at a time, in no order. @throws InfrastructureError `late_queue_unavailable`, as do all */
  async *pages(): AsyncGenerator<PendingItem[]> {
    let from: Record<string, AttributeValue> | undefined;
    do {
      const page = await this.#call("reading late events", () =>
        this.#dynamodb.send(new ScanCommand({ TableName: this.#table, ConsistentRead: true, ExclusiveStartKey: from })),
      );
      yield (page.Items ?? []).map(readLateItem);
      from = page.LastEvaluatedKey;
    } while (from !== undefined);
  }

  /** Removing what is gone changes nothing. */
  async remove(items: readonly LateItem[]): Promise<void> {
    const requests = items.map((item): WriteRequest => {
      const { pk, sk } = lateKey(item);
      return { DeleteRequest: { Key: { pk: { S: pk }, sk: { S: sk } } } };
    });
    await writeBatches(requests, {
      ...{ dynamodb: this.#dynamodb, table: this.#table },
      ...{ code: "late_queue_unavailable", what: "taking out late events" },
      repair: "none needed: they are taken out by the next repair",
      ...{ concurrentCalls: CONCURRENT_CALLS, rounds: MAX_ROUNDS },
    });
  }

  /**
   * Counts a failure on an item, and leaves it alone for a minute, then twice that and so on, six hours at most.
   * @param code of the error
   */
  async putOff(item: PendingItem, code: string, nowMs: number): Promise<void> {
    const { pk, sk } = lateKey(item);
    const delayMs = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** Math.min(item.attempts, 20));
    await this.#call("putting off a late event", async () => {
      try {
        await this.#dynamodb.send(
          new UpdateItemCommand({
            TableName: this.#table,
            Key: { pk: { S: pk }, sk: { S: sk } },
            UpdateExpression: "SET attempts = :attempts, failed = :code, not_before_ms = :until",
            ConditionExpression: "attribute_exists(pk)",
            ExpressionAttributeValues: {
              ":attempts": { N: String(item.attempts + 1) },
              ":code": { S: code },
              ":until": { N: String(nowMs + delayMs) },
            },
          }),
        );
      } catch (error) {
        if (!(error instanceof ConditionalCheckFailedException)) throw error;
      }
    });
  }

  #call<T>(what: string, call: () => Promise<T>): Promise<T> {
    return durably("late_queue_unavailable", `${what} in table ${this.#table}`, call);
  }
}

/** @param item as the table, or its stream of changes, has it */
export function readLateItem(
  item: Readonly<Record<string, { readonly S?: string; readonly N?: string }>>,
): PendingItem {
  const text = (name: string) => item[name]!.S!;
  const number = (name: string) => Number(item[name]?.N ?? 0);
  return {
    tenant: text("tenant"),
    entity: text("entity"),
    id: text("id"),
    stream: text("stream"),
    baseIndex: number("base_index"),
    identity: text("identity"),
    eventId: text("event_id"),
    eventTimeMs: number("event_time_ms"),
    arrivalMs: number("arrival_ms"),
    attempts: number("attempts"),
    notBeforeMs: number("not_before_ms"),
  };
}
