/**
 * The late queue: for each entity, the events that arrived below the seal and wait for repair. Repair rebuilds tiles from the
 * archive, so an item says which tile and which event, and holds no fields.
 *
 * Table, keys `pk` and `sk` (strings):
 *   pk  key parts (tenant, entity, id, stream): all that repair must rebuild of one hash, in one query
 *   sk  base index in 15 digits, `#`, identity: in order of time; the same event delivered twice is one item
 */
import { type DynamoDBClient, ScanCommand, type WriteRequest } from "@aws-sdk/client-dynamodb";
import { writeBatches } from "../aws/batch-write.ts";
import { durably } from "../aws/durable-call.ts";
import { joinKeyParts } from "../aws/key-parts.ts";

export interface LateItem {
  readonly tenant: string;
  readonly entity: string;
  readonly id: string;
  readonly stream: string;
  /** floor(event time / the stream's base). */
  readonly baseIndex: number;
  /** 16 hex digits. */
  readonly identity: string;
  readonly eventId: string;
  readonly eventTimeMs: number;
  readonly arrivalMs: number;
}

const CONCURRENT_CALLS = 8;
/** About 5 s in the mean before the shard is told to wait. */
const MAX_ROUNDS = 10;
/** One page reads 1 MB. A queue longer than this many pages is reported as "at least". */
const MAX_COUNT_PAGES = 20;

export class LateQueue {
  readonly #table: string;
  readonly #dynamodb: Pick<DynamoDBClient, "send">;
  readonly #sleep: ((ms: number) => Promise<void>) | undefined;

  constructor(options: {
    table: string;
    dynamodb: Pick<DynamoDBClient, "send">;
    /** @default real time */
    sleep?: (ms: number) => Promise<void>;
  }) {
    this.#table = options.table;
    this.#dynamodb = options.dynamodb;
    this.#sleep = options.sleep;
  }

  /**
   * Durable when it resolves; putting an item again changes nothing.
   * @throws InfrastructureError `late_queue_unavailable`
   */
  async put(items: readonly LateItem[]): Promise<void> {
    // One call must not name a key twice: DynamoDB refuses it whole.
    const requests = new Map<string, WriteRequest>();
    for (const item of items) {
      const { pk, sk } = lateKey(item);
      requests.set(joinKeyParts(pk, sk), { PutRequest: { Item: lateItem(item, pk, sk) } });
    }
    await writeBatches([...requests.values()], {
      ...{ dynamodb: this.#dynamodb, table: this.#table, sleep: this.#sleep },
      ...{ code: "late_queue_unavailable", what: "writing late events" },
      repair: "nothing was skipped, the batch is delivered again; give the table more write capacity",
      ...{ concurrentCalls: CONCURRENT_CALLS, rounds: MAX_ROUNDS },
    });
  }

  /**
   * How much of a stream waits for repair, over all tenants: one for each late event and entity that it belongs to. Reads
   * the whole queue, so it is for people and metrics, not for a request's path.
   * @returns `complete` is false when the queue was too long to count; `pending` is then a lower bound
   * @throws InfrastructureError `late_queue_unavailable`
   */
  async count(stream: string): Promise<{ pending: number; complete: boolean }> {
    let pending = 0;
    let from: Record<string, any> | undefined;
    for (let page = 0; page < MAX_COUNT_PAGES; page++) {
      const answer = await durably("late_queue_unavailable", `counting late events in table ${this.#table}`, () =>
        this.#dynamodb.send(
          new ScanCommand({
            TableName: this.#table,
            Select: "COUNT",
            FilterExpression: "#stream = :stream",
            ExpressionAttributeNames: { "#stream": "stream" },
            ExpressionAttributeValues: { ":stream": { S: stream } },
            ExclusiveStartKey: from,
          }),
        ),
      );
      pending += answer.Count ?? 0;
      from = answer.LastEvaluatedKey;
      if (from === undefined) return { pending, complete: true };
    }
    return { pending, complete: false };
  }
}

export function lateKey(item: Pick<LateItem, "tenant" | "entity" | "id" | "stream" | "baseIndex" | "identity">) {
  return {
    pk: joinKeyParts(item.tenant, item.entity, item.id, item.stream),
    sk: `${String(item.baseIndex).padStart(15, "0")}#${item.identity}`,
  };
}

function lateItem(item: LateItem, pk: string, sk: string) {
  return {
    pk: { S: pk },
    sk: { S: sk },
    tenant: { S: item.tenant },
    entity: { S: item.entity },
    id: { S: item.id },
    stream: { S: item.stream },
    base_index: { N: String(item.baseIndex) },
    identity: { S: item.identity },
    event_id: { S: item.eventId },
    event_time_ms: { N: String(item.eventTimeMs) },
    arrival_ms: { N: String(item.arrivalMs) },
  };
}
