/**
 * How far the bulk build of a stream has come, so that one that was killed goes on where it was. In the control table, under
 * (`build`, stream): one build of a stream at a time. The same item counts what was imported, so that no build can be written
 * down that has not seen it.
 */
import {
  type AttributeValue,
  ConditionalCheckFailedException,
  type DynamoDBClient,
  GetItemCommand,
  PutItemCommand,
  UpdateItemCommand,
} from "@aws-sdk/client-dynamodb";
import { durably } from "../aws/durable-call.ts";
import { BUCKETS } from "../valkey/layout.ts";

export interface BuildRecord {
  readonly id: string;
  /** Of the plan that it builds for: another layout begins anew. */
  readonly layoutHash: string;
  /** The only tenant that it builds; null for all of them. */
  readonly tenant: string | null;
  readonly startedMs: number;
  readonly updatedMs: number;
  readonly state: "running" | "done";
  /** By group: buckets that are done, as one bit each. */
  readonly done: Readonly<Record<string, Uint8Array>>;
  readonly entities: number;
  /** Of the store that holds what is done: another epoch, or another process in a primary's place, may lack some of it. */
  readonly epoch: number;
  readonly runs: string;
  /** Imports into the stream, begun or ended, that its listings have seen. */
  readonly imports: number;
  /** Of the newest puts of any build of the stream. */
  readonly generation: number;
  /** Somebody began it anew, over tiles that were complete. */
  readonly restarted: boolean;
  /** Until when one before it that was begun anew may have put; 0 when none was. */
  readonly restartedUntilMs: number;
  /** It takes one in 8^split of the buckets that are left at once. */
  readonly split: number;
}

const key = (stream: string) => ({ pk: { S: "build" }, sk: { S: stream } });
const entitiesKey = (stream: string) => ({ pk: { S: "build" }, sk: { S: `${stream} entities` } });

/** Until when builds of a stream that somebody began anew may have put, this one and those before it; 0 when there was none. */
export const restartedUntil = ({ restarted, restartedUntilMs, updatedMs }: BuildRecord): number =>
  restarted ? updatedMs : restartedUntilMs;

export class BuildProgress {
  readonly #table: string;
  readonly #dynamodb: Pick<DynamoDBClient, "send">;

  constructor(options: { table: string; dynamodb: Pick<DynamoDBClient, "send"> }) {
    this.#table = options.table;
    this.#dynamodb = options.dynamodb;
  }

  /** The newest build of a stream; null when there was none. @throws InfrastructureError `control_table_unavailable`, as do all */
  async get(stream: string): Promise<BuildRecord | null> {
    const item = await this.#item(stream);
    if (item?.["id"] === undefined) return null;
    const done = Object.entries(item["done"]!.M!).map(([group, { B }]) => [group, B!] as const);
    const number = (name: string) => Number(item[name]?.N ?? 0);
    return {
      id: item["id"]!.S!,
      layoutHash: item["layout_hash"]!.S!,
      tenant: item["tenant"]?.S ?? null,
      startedMs: number("started_ms"),
      updatedMs: number("updated_ms"),
      state: item["state"]!.S as BuildRecord["state"],
      done: Object.fromEntries(done),
      entities: number("entities"),
      epoch: number("epoch"),
      runs: item["runs"]?.S ?? "",
      imports: number("built_imports"),
      generation: number("generation"),
      restarted: item["restarted"]?.BOOL ?? false,
      restartedUntilMs: number("restarted_until_ms"),
      split: number("split"),
    };
  }

  /** How often an import into the stream was begun or ended; 0 when nothing was ever imported. */
  async imports(stream: string): Promise<number> {
    return Number((await this.#item(stream))?.["imports"]?.N ?? 0);
  }

  /** When an entity of the stream was rebuilt last, in ms; 0 when none was. Whose it was is in the audit log alone. */
  async rebuiltMs(stream: string): Promise<number> {
    return Number((await this.#item(stream, entitiesKey))?.["rebuilt_ms"]?.N ?? 0);
  }

  async noteRebuild(stream: string, atMs: number): Promise<void> {
    await durably("control_table_unavailable", `writing control table ${this.#table}`, () =>
      this.#dynamodb.send(
        new PutItemCommand({
          TableName: this.#table,
          Item: { ...entitiesKey(stream), rebuilt_ms: { N: String(atMs) } },
        }),
      ),
    );
  }

  /** Counts an import. Before its first object, for builds that have listed; after its last one, for those that list meanwhile. */
  async noteImport(stream: string): Promise<void> {
    await durably("control_table_unavailable", `writing control table ${this.#table}`, () =>
      this.#dynamodb.send(
        new UpdateItemCommand({
          TableName: this.#table,
          Key: key(stream),
          UpdateExpression: "ADD imports :one",
          ExpressionAttributeValues: { ":one": { N: "1" } },
        }),
      ),
    );
  }

  /**
   * Writes a build's record over its own, or over that of the one which it replaces.
   * @returns false, with nothing changed, when another build stands there, or something has been imported that it has not seen
   */
  async put(stream: string, record: BuildRecord, replaces: string | null = null): Promise<boolean> {
    const done = Object.entries(record.done).map(([group, bits]) => [group, { B: bits }] as const);
    const imports = { N: String(record.imports) };
    const item = {
      ...key(stream),
      id: { S: record.id },
      layout_hash: { S: record.layoutHash },
      ...(record.tenant === null ? {} : { tenant: { S: record.tenant } }),
      started_ms: { N: String(record.startedMs) },
      updated_ms: { N: String(record.updatedMs) },
      state: { S: record.state },
      done: { M: Object.fromEntries(done) },
      entities: { N: String(record.entities) },
      epoch: { N: String(record.epoch) },
      runs: { S: record.runs },
      imports,
      built_imports: imports,
      generation: { N: String(record.generation) },
      restarted: { BOOL: record.restarted },
      restarted_until_ms: { N: String(record.restartedUntilMs) },
      split: { N: String(record.split) },
    };
    const seen = record.imports === 0 ? "(attribute_not_exists(imports) OR imports = :imports)" : "imports = :imports";
    const condition = `${seen} AND (attribute_not_exists(id) OR id = :id OR id = :replaces)`;
    return durably("control_table_unavailable", `writing control table ${this.#table}`, async () => {
      try {
        await this.#dynamodb.send(
          new PutItemCommand({
            TableName: this.#table,
            Item: item,
            ConditionExpression: condition,
            ExpressionAttributeValues: {
              ":imports": imports,
              ":id": item.id,
              ":replaces": { S: replaces ?? record.id },
            },
          }),
        );
        return true;
      } catch (error) {
        if (error instanceof ConditionalCheckFailedException) return false;
        throw error;
      }
    });
  }

  async #item(stream: string, keyOf = key): Promise<Record<string, AttributeValue> | undefined> {
    const { Item: item } = await durably("control_table_unavailable", `reading control table ${this.#table}`, () =>
      this.#dynamodb.send(new GetItemCommand({ TableName: this.#table, Key: keyOf(stream), ConsistentRead: true })),
    );
    return item;
  }
}

export const noBuckets = (): Uint8Array => new Uint8Array(BUCKETS / 8);

const isDone = (bits: Uint8Array | undefined, bucket: number): boolean =>
  bits !== undefined && ((bits[bucket >> 3] >> (bucket & 7)) & 1) === 1;

export function markDone(bits: Uint8Array, buckets: readonly number[]): void {
  for (const bucket of buckets) bits[bucket >> 3] |= 1 << (bucket & 7);
}

/** Buckets of a group that are not done, ascending. */
export const pendingOf = (record: Pick<BuildRecord, "done">, group: string): number[] =>
  Array.from({ length: BUCKETS }, (_, bucket) => bucket).filter((bucket) => !isDone(record.done[group], bucket));
