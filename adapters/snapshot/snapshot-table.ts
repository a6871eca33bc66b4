/**
 * Snapshots in DynamoDB, one item for each hash of an entity, to be read while the online store does not answer.
 *
 *   pk  tenant, entity and id, each with its length before it: `7:default4:card6:card_1`
 *   sk  the stream, or `#pushed`
 *   epoch, rev, taken_ms: which state of the store's it is; an older one never replaces a newer one
 *   data: `item-format.ts`; absent where the hash was too large for an item
 *   expires_at: epoch seconds from which on nothing of it can be seen any more; absent for lifetime windows
 * And how far the rounds have come, under (`#round`, `state`): `record`, JSON, and `version`, one more with each change.
 */
import {
  type AttributeValue,
  BatchGetItemCommand,
  ConditionalCheckFailedException,
  type DynamoDBClient,
  type DynamoDBServiceException,
  GetItemCommand,
  PutItemCommand,
} from "@aws-sdk/client-dynamodb";
import { durably } from "../aws/durable-call.ts";
import { joinKeyParts } from "../aws/key-parts.ts";
import type { KeyParts } from "../valkey/layout.ts";
import { SharedGets } from "./shared-gets.ts";

export interface SnapshotItem extends KeyParts {
  /** Null for what was pushed. */
  readonly stream: string | null;
  readonly epoch: number;
  /** Of the hash, in µs. */
  readonly rev: number;
  /** The store's clock when it was read. */
  readonly takenMs: number;
  /** Null for one that is too large to be kept. */
  readonly data: Buffer | null;
  readonly expiresMs: number | null;
}

/** Where a walk through all entities is, and what the ones before it have covered. */
export interface RoundRecord {
  readonly version: number;
  readonly epoch: number;
  /** Of the round under way, the store's clock in µs when it began; null between rounds. */
  readonly startedUs: number | null;
  /** Hashes with a greater rev are written in the round under way. */
  readonly sinceUs: number;
  /** Primaries that answered when the newest round began, and how far the one under way has walked them. */
  readonly runs: string;
  readonly walked: readonly string[];
  readonly cursor: string;
  /** When the newest complete round began: what is stored is no older. Null when none of this epoch is complete. */
  readonly coveredUs: number | null;
  /**
   * By group, what its layout and births were then, and one for what is pushed to an entity, by `pushedMark`; where they have changed,
   * all of its hashes are written again. What has none was not kept: nothing is known of entities without an item.
   */
  readonly marks: Readonly<Record<string, string>>;
  /** The same of the round under way. */
  readonly nextMarks: Readonly<Record<string, string>>;
  /** By group, its control in hex, each slot as young as it is in any bucket: for entities that have no hash. */
  readonly controls: Readonly<Record<string, string>>;
  readonly nextControls: Readonly<Record<string, string>>;
}

export type ItemKey = KeyParts & { readonly stream: string | null };
export type FoundItem = Omit<SnapshotItem, keyof ItemKey>;
/** Of an item in the table. */
type ItemName = Record<"pk" | "sk", AttributeValue.SMember>;

/** No group's name, which a stream's begins. */
export const pushedMark = (entity: string): string => `${PUSHED} ${entity}`;

const THROTTLES: ReadonlySet<string> = new Set([
  "ProvisionedThroughputExceededException",
  "RequestLimitExceeded",
  "ThrottlingException",
]);
const PUSHED = "#pushed";
const ROUND = { pk: { S: "#round" }, sk: { S: "state" } };

const partitionOf = ({ tenant, entity, id }: KeyParts): string => joinKeyParts(tenant, entity, id);
const nameOf = (pk: string, sk: string): string => `${sk} ${pk}`;
/** Names an item in what `get` answers. */
export const itemName = (key: ItemKey): string => nameOf(partitionOf(key), key.stream ?? PUSHED);

const itemOf = (key: ItemKey): ItemName => ({ pk: { S: partitionOf(key) }, sk: { S: key.stream ?? PUSHED } });

export class SnapshotTable {
  readonly #table: string;
  readonly #dynamodb: Pick<DynamoDBClient, "send">;
  readonly #gets = new SharedGets<ItemName, FoundItem>((keys, signal) => this.#batchGet(keys, signal), isPassing);

  constructor(options: { table: string; dynamodb: Pick<DynamoDBClient, "send"> }) {
    this.#table = options.table;
    this.#dynamodb = options.dynamodb;
  }

  /** @returns false when a newer one stands there. @throws InfrastructureError `snapshot_table_unavailable` */
  async put(item: SnapshotItem): Promise<boolean> {
    const number = (value: number): AttributeValue => ({ N: String(value) });
    const [epoch, rev, taken] = [number(item.epoch), number(item.rev), number(item.takenMs)];
    const stored = {
      pk: { S: partitionOf(item) },
      sk: { S: item.stream ?? PUSHED },
      ...{ epoch, rev, taken_ms: taken },
      ...(item.data === null ? {} : { data: { B: item.data } }),
      ...(item.expiresMs === null ? {} : { expires_at: number(Math.ceil(item.expiresMs / 1_000)) }),
    };
    return durably("snapshot_table_unavailable", `writing snapshot table ${this.#table}`, async () => {
      try {
        await this.#dynamodb.send(
          new PutItemCommand({
            TableName: this.#table,
            Item: stored,
            ConditionExpression:
              "attribute_not_exists(pk) OR epoch < :epoch OR (epoch = :epoch AND (rev < :rev OR (rev = :rev AND taken_ms <= :taken)))",
            ExpressionAttributeValues: { ":epoch": epoch, ":rev": rev, ":taken": taken },
          }),
        );
        return true;
      } catch (error) {
        if (error instanceof ConditionalCheckFailedException) return false;
        throw error;
      }
    });
  }

  /**
   * What fails in passing, and what DynamoDB hands back, is asked for again within the signal's time. Reads of one moment share calls.
   * @returns items by `itemName`; those that are not there are left out
   * @throws Error of the SDK, or of the signal
   */
  get(keys: readonly ItemKey[], signal: AbortSignal): Promise<Map<string, FoundItem>> {
    return this.#gets.get(new Map(keys.map((key) => [itemName(key), itemOf(key)])), signal);
  }

  async #batchGet(keys: readonly ItemName[], signal: AbortSignal) {
    const { Responses, UnprocessedKeys } = await this.#dynamodb.send(
      new BatchGetItemCommand({ RequestItems: { [this.#table]: { Keys: [...keys] } } }),
      { abortSignal: signal },
    );
    const items = Responses?.[this.#table] ?? [];
    // What exceeds 16 MB or the table's throughput.
    const left = UnprocessedKeys?.[this.#table]?.Keys ?? [];
    return {
      found: new Map(items.map((item) => [nameOf(item["pk"].S!, item["sk"].S!), decode(item)])),
      left: new Set(left.map(({ pk, sk }) => nameOf(pk.S!, sk.S!))),
    };
  }

  /** @returns null before the first round. @throws Error of the SDK, or of the signal */
  async getRound(signal?: AbortSignal): Promise<RoundRecord | null> {
    const { Item } = await this.#dynamodb.send(
      new GetItemCommand({ TableName: this.#table, Key: ROUND, ConsistentRead: signal === undefined }),
      { abortSignal: signal },
    );
    return Item === undefined ? null : { ...JSON.parse(Item["record"].S!), version: Number(Item["version"].N) };
  }

  /**
   * @param record with the version that was read; 0 for the first
   * @returns the record as it stands now; null when another run has changed it meanwhile
   */
  async putRound(record: RoundRecord): Promise<RoundRecord | null> {
    const next = { ...record, version: record.version + 1 };
    return durably("snapshot_table_unavailable", `writing snapshot table ${this.#table}`, async () => {
      try {
        await this.#dynamodb.send(
          new PutItemCommand({
            TableName: this.#table,
            Item: { ...ROUND, record: { S: JSON.stringify(next) }, version: { N: String(next.version) } },
            ConditionExpression: "attribute_not_exists(pk) OR version = :version",
            ExpressionAttributeValues: { ":version": { N: String(record.version) } },
          }),
        );
        return next;
      } catch (error) {
        if (error instanceof ConditionalCheckFailedException) return null;
        throw error;
      }
    });
  }
}

/** No answer, a fault of the service's, or too much for it just now. */
function isPassing(error: unknown): boolean {
  const { name, $metadata } = error as Partial<DynamoDBServiceException>;
  const status = $metadata?.httpStatusCode;
  return status === undefined || status >= 500 || THROTTLES.has(name ?? "");
}

function decode(item: Record<string, AttributeValue>): FoundItem {
  const number = (name: string): number => Number(item[name]?.N);
  const { data, expires_at } = item;
  return {
    epoch: number("epoch"),
    rev: number("rev"),
    takenMs: number("taken_ms"),
    data: data?.B === undefined ? null : Buffer.from(data.B.buffer, data.B.byteOffset, data.B.byteLength),
    expiresMs: expires_at?.N === undefined ? null : Number(expires_at.N) * 1_000,
  };
}
