/**
 * How far the bulk build of a stream has come, so that one that was killed goes on where it was. In the control table, under
 * (`build`, stream): one build of a stream at a time.
 */
import { type DynamoDBClient, GetItemCommand, PutItemCommand } from "@aws-sdk/client-dynamodb";
import { durably } from "./durable-call.ts";
import { BUCKETS } from "./valkey/layout.ts";

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
}

const key = (stream: string) => ({ pk: { S: "build" }, sk: { S: stream } });

export class BuildProgress {
  readonly #table: string;
  readonly #dynamodb: Pick<DynamoDBClient, "send">;

  constructor(options: { table: string; dynamodb: Pick<DynamoDBClient, "send"> }) {
    this.#table = options.table;
    this.#dynamodb = options.dynamodb;
  }

  /** The newest build of a stream; null when there was none. @throws InfrastructureError `control_table_unavailable` */
  async get(stream: string): Promise<BuildRecord | null> {
    const { Item: item } = await durably("control_table_unavailable", `reading control table ${this.#table}`, () =>
      this.#dynamodb.send(new GetItemCommand({ TableName: this.#table, Key: key(stream), ConsistentRead: true })),
    );
    if (item === undefined) return null;
    const done = Object.entries(item["done"]!.M!).map(([group, { B }]) => [group, B!] as const);
    return {
      id: item["id"]!.S!,
      layoutHash: item["layout_hash"]!.S!,
      tenant: item["tenant"]?.S ?? null,
      startedMs: Number(item["started_ms"]!.N),
      updatedMs: Number(item["updated_ms"]!.N),
      state: item["state"]!.S as BuildRecord["state"],
      done: Object.fromEntries(done),
      entities: Number(item["entities"]!.N),
    };
  }

  /** Makes the next build begin anew: the archive has got what this one did not see. */
  async forget(stream: string): Promise<void> {
    const record = await this.get(stream);
    if (record?.state === "running") await this.put(stream, { ...record, state: "done" });
  }

  /** Only by who holds the stream's lease. @throws InfrastructureError `control_table_unavailable` */
  async put(stream: string, record: BuildRecord): Promise<void> {
    const done = Object.entries(record.done).map(([group, bits]) => [group, { B: bits }] as const);
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
    };
    await durably("control_table_unavailable", `writing control table ${this.#table}`, () =>
      this.#dynamodb.send(new PutItemCommand({ TableName: this.#table, Item: item })),
    );
  }
}

export const noBuckets = (): Uint8Array => new Uint8Array(BUCKETS / 8);

export const isDone = (bits: Uint8Array | undefined, bucket: number): boolean =>
  bits !== undefined && ((bits[bucket >> 3] >> (bucket & 7)) & 1) === 1;

export function markDone(bits: Uint8Array, buckets: readonly number[]): void {
  for (const bucket of buckets) bits[bucket >> 3] |= 1 << (bucket & 7);
}

/** Buckets of a group that are not done, ascending. */
export const pendingOf = (record: Pick<BuildRecord, "done">, group: string): number[] =>
  Array.from({ length: BUCKETS }, (_, bucket) => bucket).filter((bucket) => !isDone(record.done[group], bucket));
