/**
 * Erasures: what was asked, how far it is, and what was found where; afterwards the record that it was done. DynamoDB keys: pk
 * `erasure#<tenant>`, sk the erasure's id; and (`#open`, tenant and id) for each that is under way, so that they are found without looking
 * through those that are over. An id of an entity is in it only until nothing can bring the entity back; the salted hash stays.
 */
import { createHash, randomBytes } from "node:crypto";
import {
  ConditionalCheckFailedException,
  DeleteItemCommand,
  type DynamoDBClient,
  GetItemCommand,
  PutItemCommand,
  QueryCommand,
} from "@aws-sdk/client-dynamodb";
import type { ErasedEntity } from "../../core/erasure.ts";
import { durably } from "../aws/durable-call.ts";
import { joinKeyParts } from "../aws/key-parts.ts";
import type { RewriteReport } from "./rewrite.ts";

/**
 * `running`: being taken out. `confirming`: waits until nobody who had begun before can be at work, and looks again. `guarding`: found nowhere any more;
 * what the broker and snapshots still hold is refused. `done`: nothing can bring it back, and the ids are forgotten.
 */
export type ErasureState = "running" | "confirming" | "guarding" | "done";

export interface ErasureLook extends RewriteReport {
  readonly step: string;
  readonly round: number;
  readonly finishedMs: number;
}

export interface Erasure {
  readonly tenant: string;
  readonly id: string;
  readonly state: ErasureState;
  /** Null once it is done. */
  readonly subjects: readonly ErasedEntity[] | null;
  /** Of each subject, by `proofOf`: who knows the id can tell that it is meant. */
  readonly salt: string;
  readonly hashes: readonly string[];
  readonly block: boolean;
  /** Nothing that happened before counts any more. Later than asked for where the first step had to wait. */
  readonly beforeMs: number;
  /** `key <id>`, or an operator's name. */
  readonly requestedBy: string;
  readonly requestedMs: number;
  readonly round: number;
  /** Under way; null between rounds. */
  readonly step: string | null;
  /** Last object of the step that is done. */
  readonly after: string | null;
  /** Of the step under way. */
  readonly partial: RewriteReport;
  readonly looks: readonly ErasureLook[];
  /** Features of others that are computed from the erased key: they count one fewer in what is built again. */
  readonly affected: readonly string[];
  /** Files that were made for users before, and hold it. */
  readonly holding: readonly string[];
  readonly onlineMs: number | null;
  /** When a whole look found nothing any more. */
  readonly confirmedMs: number | null;
  /** When the next round may begin, or the ids may be forgotten. */
  readonly waitUntilMs: number | null;
  /** While it guards: refused records that were set aside before then are known not to name it. Absent before the first such look. */
  readonly guardedMs?: number;
  readonly error: { readonly code: string; readonly detail: string; readonly atMs: number } | null;
  /** One more with each change. */
  readonly version: number;
}

export const newSalt = (): string => randomBytes(16).toString("hex");

/** SHA-256 over salt, tenant, entity and id, in hex. */
export const proofOf = (salt: string, tenant: string, { entity, id }: ErasedEntity): string =>
  createHash("sha256")
    .update(joinKeyParts(salt, tenant, entity, id))
    .digest("hex");

const OPEN = "#open";
const STORE = { pk: { S: "#store" }, sk: { S: "current" } };
const keyOf = (tenant: string, id: string) => ({ pk: { S: `erasure#${tenant}` }, sk: { S: id } });
const openKey = (tenant: string, id: string) => ({ pk: { S: OPEN }, sk: { S: `${tenant}/${id}` } });

export class Erasures {
  readonly #table: string;
  readonly #dynamodb: Pick<DynamoDBClient, "send">;

  constructor({ table, dynamodb }: { table: string; dynamodb: Pick<DynamoDBClient, "send"> }) {
    this.#table = table;
    this.#dynamodb = dynamodb;
  }

  /** @throws InfrastructureError `erasures_unavailable`, as do all here */
  async create(erasure: Erasure): Promise<void> {
    // First, so that no record is there that nobody works on.
    await this.#call(() =>
      this.#dynamodb.send(new PutItemCommand({ TableName: this.#table, Item: openKey(erasure.tenant, erasure.id) })),
    );
    await this.#call(() => this.#dynamodb.send(this.#put(erasure, "attribute_not_exists(pk)")));
  }

  /** @returns as it stands now; null when another run has changed it since it was read */
  async update(erasure: Erasure): Promise<Erasure | null> {
    const next = { ...erasure, version: erasure.version + 1 };
    return this.#call(async () => {
      try {
        await this.#dynamodb.send(this.#put(next, "version = :version", erasure.version));
        return next;
      } catch (error) {
        if (error instanceof ConditionalCheckFailedException) return null;
        throw error;
      }
    });
  }

  async get(tenant: string, id: string): Promise<Erasure | null> {
    const { Item } = await this.#call(() =>
      this.#dynamodb.send(new GetItemCommand({ TableName: this.#table, Key: keyOf(tenant, id), ConsistentRead: true })),
    );
    return Item === undefined ? null : (JSON.parse(Item["record"]!.S!) as Erasure);
  }

  /** The tenant's, newest first. */
  async list(tenant: string, limit: number): Promise<Erasure[]> {
    const { Items = [] } = await this.#query(`erasure#${tenant}`, { ScanIndexForward: false, Limit: limit });
    return Items.map((item) => JSON.parse(item["record"]!.S!) as Erasure);
  }

  /** All that are not done, of every tenant. */
  async open(): Promise<Erasure[]> {
    const found: Erasure[] = [];
    let from: Record<string, any> | undefined;
    do {
      const { Items = [], LastEvaluatedKey } = await this.#query(OPEN, { ExclusiveStartKey: from });
      for (const item of Items) {
        const [tenant, id] = item["sk"]!.S!.split("/") as [string, string];
        const erasure = await this.get(tenant, id);
        if (erasure !== null) found.push(erasure);
      }
      from = LastEvaluatedKey;
    } while (from !== undefined);
    return found;
  }

  /** After the record says that it is done. */
  async close({ tenant, id }: Pick<Erasure, "tenant" | "id">): Promise<void> {
    await this.#call(() =>
      this.#dynamodb.send(new DeleteItemCommand({ TableName: this.#table, Key: openKey(tenant, id) })),
    );
  }

  /** Which store the tombstones are known to be in. */
  async getStore(): Promise<string | null> {
    const { Item } = await this.#call(() =>
      this.#dynamodb.send(new GetItemCommand({ TableName: this.#table, Key: STORE, ConsistentRead: true })),
    );
    return Item?.["identity"]?.S ?? null;
  }

  async putStore(identity: string): Promise<void> {
    await this.#call(() =>
      this.#dynamodb.send(
        new PutItemCommand({ TableName: this.#table, Item: { ...STORE, identity: { S: identity } } }),
      ),
    );
  }

  #put(erasure: Erasure, condition: string, version?: number): PutItemCommand {
    return new PutItemCommand({
      TableName: this.#table,
      Item: {
        ...keyOf(erasure.tenant, erasure.id),
        state: { S: erasure.state },
        version: { N: String(erasure.version) },
        record: { S: JSON.stringify(erasure) },
      },
      ConditionExpression: condition,
      ...(version === undefined ? {} : { ExpressionAttributeValues: { ":version": { N: String(version) } } }),
    });
  }

  #query(pk: string, more: object) {
    return this.#call(() =>
      this.#dynamodb.send(
        new QueryCommand({
          TableName: this.#table,
          KeyConditionExpression: "pk = :pk",
          ExpressionAttributeValues: { ":pk": { S: pk } },
          ConsistentRead: true,
          ...more,
        }),
      ),
    );
  }

  #call<T>(call: () => Promise<T>): Promise<T> {
    return durably("erasures_unavailable", `asking table ${this.#table}`, call);
  }
}
