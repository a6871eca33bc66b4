/**
 * What must outlive the online store: whether there has ever been one, and when each stream began. A store whose control
 * hashes are gone is told from a store that never was by this table alone, so every write here is conditional.
 *
 * Table, keys `pk` and `sk` (strings): (`store`, `current`), (`restore`, `current`), (`stream`, name), (`lease`, stream) and
 * (`build`, stream; see build-progress.ts). No tenant: all are of the deployment.
 */
import {
  type AttributeValue,
  ConditionalCheckFailedException,
  type DynamoDBClient,
  GetItemCommand,
  PutItemCommand,
  UpdateItemCommand,
} from "@aws-sdk/client-dynamodb";
import type { Lock } from "../../core/compile/lock.ts";
import { InfrastructureError } from "../../core/errors.ts";
import { canonicalJson } from "../../core/json.ts";
import { durably } from "../aws/durable-call.ts";

export interface StoreRecord {
  readonly epoch: number;
  /** `creating` until every bucket's control hash is written: until then, missing ones are to be written, not mourned. */
  readonly state: "creating" | "ready";
}

export interface StreamRecord {
  readonly createdAtMs: number;
  /** The stream's first seal, as a base index. */
  readonly seal0: number;
}

/** Who works on a stream below its seal. Not needed for correctness: a put says which seal it was made for. */
export interface StreamLease {
  /** Names what it is for, and nobody else: `build 3f…`. Shown to people. */
  readonly holder: string;
  readonly expiresMs: number;
}

/** A restore of a bulk snapshot: what one that was cut off goes on with. */
export interface RestoreRecord {
  readonly id: string;
  /** The round that is restored. */
  readonly snapshot: string;
  /** Null for all of them. */
  readonly buckets: readonly number[] | null;
  readonly epoch: number;
  /** `begun` until the buckets are all blocked for it, `loading` until each is written, `loaded` until what came since is all there. */
  readonly state: "begun" | "loading" | "loaded" | "done";
  readonly startedMs: number;
  /** Buckets whose object was damaged or gone, and the older round that was taken for each. */
  readonly older: Readonly<Record<string, string>>;
  readonly records: number;
}

/**
 * Rounds below whose seals late events may have been counted since, in a store that was sealed less far. No replay would bring these into one that is
 * restored from them. Either those that were newer than one that was restored, and had begun before; or all of the epochs before the
 * one in which the broker alone filled the store.
 */
export type AbandonedRounds =
  | {
      /** The round that was restored. */
      readonly after: string;
      /** The store's clock when all else was blocked, in µs. */
      readonly beforeUs: number;
    }
  | { readonly beforeEpoch: number };

/** Repairs that the store may lack since it was opened the last time: their entities are to be built anew. */
export interface RepeatRecord {
  /** Those that became visible from then on; null for the newest ones. */
  readonly sinceMs: number | null;
  /** When the store was opened: which are the newest is told by those of before. */
  readonly beforeMs: number;
  readonly done: boolean;
}

const STORE_KEY = { pk: { S: "store" }, sk: { S: "current" } };
const streamKey = (name: string) => ({ pk: { S: "stream" }, sk: { S: name } });
const LOCK_KEY = { pk: { S: "plan" }, sk: { S: "lock" } };
const RESTORE_KEY = { pk: { S: "restore" }, sk: { S: "current" } };
const ABANDONED_KEY = { pk: { S: "restore" }, sk: { S: "abandoned" } };
const REPEAT_KEY = { pk: { S: "repeat" }, sk: { S: "repairs" } };
const leaseKey = (stream: string) => ({ pk: { S: "lease" }, sk: { S: stream } });

/** Whoever writes a snapshot into the store holds it. No stream has such a name. */
export const RESTORE_LEASE = "*restore";

export class ControlTable {
  readonly #table: string;
  readonly #dynamodb: Pick<DynamoDBClient, "send">;

  constructor(options: { table: string; dynamodb: Pick<DynamoDBClient, "send"> }) {
    this.#table = options.table;
    this.#dynamodb = options.dynamodb;
  }

  /** @returns null when no store was ever begun. @throws InfrastructureError `control_table_unavailable`, as do all */
  async getStore(): Promise<StoreRecord | null> {
    const item = await this.#get(STORE_KEY);
    return item === null ? null : { epoch: Number(item["epoch"]!.N), state: item["state"]!.S as StoreRecord["state"] };
  }

  /**
   * Begins the first store, unless one was begun before: of two callers one wins, and both learn which record stands.
   * @returns the record that stands now; it is the caller's own iff its epoch is `epoch`
   */
  async beginStore(epoch: number): Promise<StoreRecord> {
    await this.#create({ ...STORE_KEY, epoch: { N: String(epoch) }, state: { S: "creating" } });
    return (await this.getStore())!;
  }

  /**
   * Marks the store of this epoch as whole. Doing so again changes nothing.
   * @throws InfrastructureError `control_epoch_conflict` when another epoch stands, or none
   */
  async finishStore(epoch: number): Promise<void> {
    const finished = await this.#conditionally(() =>
      this.#dynamodb.send(
        new UpdateItemCommand({
          TableName: this.#table,
          Key: STORE_KEY,
          UpdateExpression: "SET #state = :ready",
          ConditionExpression: "epoch = :epoch",
          ExpressionAttributeNames: { "#state": "state" },
          ExpressionAttributeValues: { ":ready": { S: "ready" }, ":epoch": { N: String(epoch) } },
        }),
      ),
    );
    if (finished) return;
    const standing = await this.getStore();
    throw new InfrastructureError(
      "control_epoch_conflict",
      `store epoch ${epoch} cannot be finished: ${standing === null ? "no store was begun" : `epoch ${standing.epoch} stands`}`,
      { repair: "let the control function run again; it continues with the epoch that stands" },
    );
  }

  /**
   * Moves from one epoch to the next. @throws InfrastructureError `control_epoch_conflict` when another one stands
   */
  async nextEpoch(from: number): Promise<void> {
    const moved = await this.#conditionally(() =>
      this.#dynamodb.send(
        new UpdateItemCommand({
          TableName: this.#table,
          Key: STORE_KEY,
          UpdateExpression: "SET epoch = :next, #state = :ready",
          ConditionExpression: "epoch = :from",
          ExpressionAttributeNames: { "#state": "state" },
          ExpressionAttributeValues: {
            ":from": { N: String(from) },
            ":next": { N: String(from + 1) },
            ":ready": { S: "ready" },
          },
        }),
      ),
    );
    if (moved) return;
    throw new InfrastructureError("control_epoch_conflict", `the store is no longer at epoch ${from}`, {
      repair: "somebody else restores it: look at `freshet status`",
    });
  }

  /** @returns null for a stream that was never seen */
  async getStream(name: string): Promise<StreamRecord | null> {
    const item = await this.#get(streamKey(name));
    return item === null ? null : { createdAtMs: Number(item["created_at_ms"]!.N), seal0: Number(item["seal0"]!.N) };
  }

  /** Records a stream's beginning once. @returns the record that stands: the first one ever put */
  async putStream(name: string, record: StreamRecord): Promise<StreamRecord> {
    await this.#create({
      ...streamKey(name),
      created_at_ms: { N: String(record.createdAtMs) },
      seal0: { N: String(record.seal0) },
    });
    return (await this.getStream(name))!;
  }

  /** What the store has been filled under; null before control has seen any. */
  async getLock(): Promise<Lock | null> {
    const item = await this.#get(LOCK_KEY);
    return item === null ? null : (JSON.parse(item["lock"]!.S!) as Lock);
  }

  /** The next such lock. A run of control that was overtaken changes nothing. @param before as it was read */
  async putLock(lock: Lock, before: Lock | null): Promise<void> {
    await this.#conditionally(() =>
      this.#dynamodb.send(
        new PutItemCommand({
          TableName: this.#table,
          Item: { ...LOCK_KEY, lock: { S: canonicalJson(lock) } },
          ConditionExpression: before === null ? "attribute_not_exists(pk)" : "#lock = :before",
          ...(before === null
            ? {}
            : {
                ExpressionAttributeNames: { "#lock": "lock" },
                ExpressionAttributeValues: { ":before": { S: canonicalJson(before) } },
              }),
        }),
      ),
    );
  }

  /** The newest restore of a snapshot; null when there was none. */
  async getRestore(): Promise<RestoreRecord | null> {
    const item = await this.#get(RESTORE_KEY);
    return item === null ? null : (JSON.parse(item["record"]!.S!) as RestoreRecord);
  }

  /** Under the lease of `RESTORE_LEASE`. */
  async putRestore(record: RestoreRecord): Promise<void> {
    const Item = { ...RESTORE_KEY, record: { S: JSON.stringify(record) } };
    await durably("control_table_unavailable", `writing control table ${this.#table}`, () =>
      this.#dynamodb.send(new PutItemCommand({ TableName: this.#table, Item })),
    );
  }

  /** Rounds that nothing may be restored from any more. */
  async getAbandoned(): Promise<readonly AbandonedRounds[]> {
    const item = await this.#get(ABANDONED_KEY);
    return (item?.["rounds"]?.L ?? []).map(({ S }) => JSON.parse(S!) as AbandonedRounds);
  }

  /** Adds to them; twice changes nothing for who reads them. */
  async abandonRounds(rounds: AbandonedRounds): Promise<void> {
    await durably("control_table_unavailable", `writing control table ${this.#table}`, () =>
      this.#dynamodb.send(
        new UpdateItemCommand({
          TableName: this.#table,
          Key: ABANDONED_KEY,
          UpdateExpression: "SET rounds = list_append(if_not_exists(rounds, :none), :added)",
          ExpressionAttributeValues: { ":none": { L: [] }, ":added": { L: [{ S: JSON.stringify(rounds) }] } },
        }),
      ),
    );
  }

  /** What is still to be repeated; null for nothing. */
  async getRepeat(): Promise<RepeatRecord | null> {
    const item = await this.#get(REPEAT_KEY);
    const record = item === null ? null : (JSON.parse(item["due"]!.S!) as RepeatRecord);
    return record === null || record.done ? null : record;
  }

  /** @param standing what was read: nothing is written over another one. @returns whether it was written */
  async putRepeat(record: RepeatRecord, standing: RepeatRecord | null): Promise<boolean> {
    const Item = { ...REPEAT_KEY, due: { S: JSON.stringify(record) }, is_done: { BOOL: record.done } };
    const ConditionExpression =
      standing === null ? "attribute_not_exists(pk) OR is_done = :standing" : "due = :standing";
    const value: AttributeValue = standing === null ? { BOOL: true } : { S: JSON.stringify(standing) };
    const ExpressionAttributeValues = { ":standing": value };
    return this.#conditionally(() =>
      this.#dynamodb.send(
        new PutItemCommand({ TableName: this.#table, Item, ConditionExpression, ExpressionAttributeValues }),
      ),
    );
  }

  /** The stream's lease as it stands, expired or not. */
  async getLease(stream: string): Promise<StreamLease | null> {
    const item = await this.#get(leaseKey(stream));
    return item === null ? null : { holder: item["holder"]!.S!, expiresMs: Number(item["expires_ms"]!.N) };
  }

  /**
   * Takes or renews a stream's lease: while it lasts, its seal stands and nobody else builds or repairs below it.
   * @returns false when another holder's has not expired
   */
  async takeLease(stream: string, lease: StreamLease, nowMs: number): Promise<boolean> {
    return this.#conditionally(() =>
      this.#dynamodb.send(
        new PutItemCommand({
          TableName: this.#table,
          Item: { ...leaseKey(stream), holder: { S: lease.holder }, expires_ms: { N: String(lease.expiresMs) } },
          ConditionExpression: "attribute_not_exists(pk) OR holder = :holder OR expires_ms <= :now",
          ExpressionAttributeValues: { ":holder": { S: lease.holder }, ":now": { N: String(nowMs) } },
        }),
      ),
    );
  }

  /** Gives a lease back; another holder's stays. */
  async releaseLease(stream: string, holder: string): Promise<void> {
    await this.#conditionally(() =>
      this.#dynamodb.send(
        // Expired at once rather than deleted: nothing that runs may delete an item of this table.
        new UpdateItemCommand({
          TableName: this.#table,
          Key: leaseKey(stream),
          UpdateExpression: "SET expires_ms = :now",
          ConditionExpression: "holder = :holder",
          ExpressionAttributeValues: { ":holder": { S: holder }, ":now": { N: "0" } },
        }),
      ),
    );
  }

  async #get(key: Record<string, AttributeValue>): Promise<Record<string, AttributeValue> | null> {
    const answer = await durably("control_table_unavailable", `reading control table ${this.#table}`, () =>
      this.#dynamodb.send(new GetItemCommand({ TableName: this.#table, Key: key, ConsistentRead: true })),
    );
    return answer.Item ?? null;
  }

  async #create(item: Record<string, AttributeValue>): Promise<void> {
    await this.#conditionally(() =>
      this.#dynamodb.send(
        new PutItemCommand({ TableName: this.#table, Item: item, ConditionExpression: "attribute_not_exists(pk)" }),
      ),
    );
  }

  /** @returns false when the condition did not hold. (A retry after a lost answer may say so too; callers read back.) */
  async #conditionally(write: () => Promise<unknown>): Promise<boolean> {
    return durably("control_table_unavailable", `writing control table ${this.#table}`, async () => {
      try {
        await write();
        return true;
      } catch (error) {
        if (error instanceof ConditionalCheckFailedException) return false;
        throw error;
      }
    });
  }
}
