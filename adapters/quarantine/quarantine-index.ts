/**
 * What is in the quarantine: its index (layout in quarantine.ts), the bytes that an item leads to, and what became of a record
 * since. Items of one tenant lie in sixteen partitions a stream, and are read in the order of stream and id.
 */
import {
  type AttributeValue,
  ConditionalCheckFailedException,
  GetItemCommand,
  QueryCommand,
  ScanCommand,
  UpdateItemCommand,
} from "@aws-sdk/client-dynamodb";
import { GetObjectCommand, NoSuchKey } from "@aws-sdk/client-s3";
import { durably } from "../aws/durable-call.ts";
import { digest, type QuarantinePlace, quarantinePartition, quarantinePartitions } from "./quarantine.ts";

/** `still_refused`: it was replayed, and is refused still. */
export const QUARANTINE_STATUSES = ["open", "still_refused", "replayed", "dropped"] as const;
export type QuarantineStatus = (typeof QUARANTINE_STATUSES)[number];
/** What a replay or a drop is about. */
export const WAITING: readonly QuarantineStatus[] = ["open", "still_refused"];

export interface QuarantineItem {
  readonly id: string;
  /** As the record gives it; null when it was refused before its tenant could be read. */
  readonly tenant: string | null;
  readonly stream: string;
  readonly status: QuarantineStatus;
  /** Of the newest refusal. */
  readonly reason: string;
  readonly field: string | null;
  readonly message: string;
  readonly fingerprint: string | null;
  readonly shard: string;
  readonly sequence: string;
  readonly subSequence: number;
  readonly arrivalMs: number;
  readonly size: number;
  readonly sha256: string;
  /** When the status became what it is; null while nobody has touched it. */
  readonly changedMs: number | null;
  readonly objectKey: string;
  readonly objectLine: number;
}

/** A record as people and programs are told of it. Whose it is they have asked for. */
export const quarantineJson = (item: QuarantineItem) => ({
  id: item.id,
  stream: item.stream,
  status: item.status,
  reason: item.reason,
  field: item.field,
  message: item.message,
  fingerprint: item.fingerprint,
  shard: item.shard,
  sequence: item.sequence,
  sub_sequence: item.subSequence,
  arrival_ms: item.arrivalMs,
  size: item.size,
  changed_ms: item.changedMs,
});

export interface QuarantineFilter {
  /** Null for records that no tenant answers for; undefined for everybody's, which is for operators. */
  readonly tenant?: string | null;
  /** At least one, as of the statuses. */
  readonly streams: readonly string[];
  readonly statuses: readonly QuarantineStatus[];
  readonly reason?: string;
  /** First bad field. */
  readonly field?: string;
  /** Arrivals from then on. */
  readonly sinceMs?: number;
}

interface QuarantinePage {
  readonly items: readonly QuarantineItem[];
  /** Items that were looked at for it. */
  readonly examined: number;
  /** Goes into `after` for the next page; null for none. */
  readonly next: string | null;
}

const PAGE_ITEMS = 1_000;

export class QuarantineIndex {
  readonly #at: QuarantinePlace;

  constructor(at: QuarantinePlace) {
    this.#at = at;
  }

  /**
   * The next items that pass the filter: at most `limit`, and as few as one call to the table gives.
   * @param after of the page before; what is none begins at the beginning
   * @throws InfrastructureError `quarantine_unavailable`, as do all here
   */
  async page(filter: QuarantineFilter, after: string | null, limit = PAGE_ITEMS): Promise<QuarantinePage> {
    const { tenant } = filter;
    if (tenant === undefined) return this.#scan(filter, after, limit);
    const partitions = [...filter.streams].sort().flatMap((stream) => quarantinePartitions(tenant, stream));
    const [, at = "0", from = ""] = /^(\d{1,6})\.([0-9a-f]{32})?$/.exec(after ?? "") ?? [];
    const index = Number(at);
    if (index >= partitions.length) return { items: [], examined: 0, next: null };
    const answer = await this.#call("reading the quarantine", () =>
      this.#at.dynamodb.send(
        new QueryCommand({
          TableName: this.#at.table,
          KeyConditionExpression: "pk = :pk AND sk > :from",
          ...conditions(filter, { ":pk": { S: partitions[index]! }, ":from": { S: from === "" ? " " : from } }),
          Limit: limit,
          ConsistentRead: true,
        }),
      ),
    );
    const { Items = [], ScannedCount = 0, LastEvaluatedKey } = answer;
    const last = LastEvaluatedKey?.["sk"]?.S;
    const following = index + 1 < partitions.length ? `${index + 1}.` : null;
    return { items: Items.map(toItem), examined: ScannedCount, next: last ? `${index}.${last}` : following };
  }

  async #scan(filter: QuarantineFilter, after: string | null, limit: number): Promise<QuarantinePage> {
    const answer = await this.#call("reading the quarantine", () =>
      this.#at.dynamodb.send(
        new ScanCommand({
          TableName: this.#at.table,
          ...conditions(filter, {}),
          Limit: limit,
          ExclusiveStartKey: after === null ? undefined : JSON.parse(after),
          ConsistentRead: true,
        }),
      ),
    );
    const { Items = [], ScannedCount = 0, LastEvaluatedKey } = answer;
    const next = LastEvaluatedKey === undefined ? null : JSON.stringify(LastEvaluatedKey);
    return { items: Items.map(toItem), examined: ScannedCount, next };
  }

  /** @param streams where it may be. @returns null when the tenant has no such record */
  async get(tenant: string | null, streams: readonly string[], id: string): Promise<QuarantineItem | null> {
    for (const stream of streams) {
      const { Item } = await this.#call("reading a quarantined record", () =>
        this.#at.dynamodb.send(
          new GetItemCommand({
            TableName: this.#at.table,
            Key: { pk: { S: quarantinePartition(tenant, stream, id) }, sk: { S: id } },
            ConsistentRead: true,
          }),
        ),
      );
      if (Item !== undefined) return toItem(Item);
    }
    return null;
  }

  /**
   * The records as they were delivered, by id; of those whose object is gone or altered, nothing.
   * @param items as many as fit into memory; those of one object cost one request
   */
  async bytes(items: readonly QuarantineItem[]): Promise<Map<string, Buffer>> {
    const found = new Map<string, Buffer>();
    for (const [key, own] of Map.groupBy(items, ({ objectKey }) => objectKey)) {
      const lines = await this.#lines(key);
      for (const { id, objectLine, sha256 } of own) {
        const bytes = bytesOf(lines[objectLine], id);
        if (bytes !== null && digest(bytes) === sha256) found.set(id, bytes);
      }
    }
    return found;
  }

  async #lines(key: string): Promise<string[]> {
    return this.#call("reading a quarantine object", async () => {
      try {
        const { Body } = await this.#at.s3.send(new GetObjectCommand({ Bucket: this.#at.bucket, Key: key }));
        return (await Body!.transformToString()).split("\n");
      } catch (error) {
        if (error instanceof NoSuchKey) return [];
        throw error;
      }
    });
  }

  /**
   * Says what became of a record that waits; one that somebody else has ended stays as it is.
   * @param refusal the new one, of a record that is refused still
   */
  async mark(
    { id, tenant, stream }: Pick<QuarantineItem, "id" | "tenant" | "stream">,
    status: Exclude<QuarantineStatus, "open">,
    nowMs: number,
    refusal: Pick<QuarantineItem, "reason" | "field" | "message"> | null = null,
  ): Promise<boolean> {
    const set = ["#status = :status", "changed_ms = :now"];
    const values: Record<string, AttributeValue> = { ":status": { S: status }, ":now": { N: String(nowMs) } };
    const names: Record<string, string> = { "#status": "status" };
    if (refusal !== null) {
      set.push("reason = :reason", "message = :message");
      Object.assign(values, { ":reason": { S: refusal.reason }, ":message": { S: refusal.message } });
      names["#field"] = "field";
      if (refusal.field !== null) {
        set.push("#field = :field");
        values[":field"] = { S: refusal.field };
      }
    }
    const remove = refusal !== null && refusal.field === null ? " REMOVE #field" : "";
    return this.#call("writing what became of a quarantined record", async () => {
      try {
        await this.#at.dynamodb.send(
          new UpdateItemCommand({
            TableName: this.#at.table,
            Key: { pk: { S: quarantinePartition(tenant, stream, id) }, sk: { S: id } },
            UpdateExpression: `SET ${set.join(", ")}${remove}`,
            ConditionExpression: "#status IN (:open, :still)",
            ExpressionAttributeNames: names,
            ExpressionAttributeValues: { ...values, ":open": { S: "open" }, ":still": { S: "still_refused" } },
          }),
        );
        return true;
      } catch (error) {
        if (error instanceof ConditionalCheckFailedException) return false;
        throw error;
      }
    });
  }

  #call<T>(what: string, call: () => Promise<T>): Promise<T> {
    return durably("quarantine_unavailable", what, call);
  }
}

/** Of the index's own items: the table holds others, which have no `object_key`. */
function conditions(filter: QuarantineFilter, values: Record<string, AttributeValue>) {
  const { statuses, reason, field, sinceMs, streams } = filter;
  const names: Record<string, string> = { "#status": "status", "#stream": "stream" };
  const all: Record<string, AttributeValue> = { ...values };
  const oneOf = (name: string, prefix: string, options: readonly string[]): string => {
    options.forEach((option, i) => {
      all[`:${prefix}${i}`] = { S: option };
    });
    return `${name} IN (${options.map((_, i) => `:${prefix}${i}`).join(", ")})`;
  };
  const parts = [
    "attribute_exists(object_key)",
    oneOf("#status", "status", statuses),
    oneOf("#stream", "stream", streams),
  ];
  if (reason !== undefined) {
    parts.push("reason = :reason");
    all[":reason"] = { S: reason };
  }
  if (field !== undefined) {
    names["#field"] = "field";
    parts.push("#field = :field");
    all[":field"] = { S: field };
  }
  if (sinceMs !== undefined) {
    parts.push("arrival_ms >= :since");
    all[":since"] = { N: String(sinceMs) };
  }
  return {
    FilterExpression: parts.join(" AND "),
    ExpressionAttributeNames: names,
    ExpressionAttributeValues: all,
  };
}

/** @returns null for a line that is not this record's */
function bytesOf(line: string | undefined, id: string): Buffer | null {
  try {
    const envelope = JSON.parse(line ?? "null");
    return envelope?.id === id && typeof envelope.bytes === "string" ? Buffer.from(envelope.bytes, "base64") : null;
  } catch {
    return null;
  }
}

const toItem = (item: Record<string, AttributeValue>): QuarantineItem => ({
  id: item["sk"]!.S!,
  tenant: item["tenant"]?.S ?? null,
  stream: item["stream"]!.S!,
  status: item["status"]!.S as QuarantineStatus,
  reason: item["reason"]!.S!,
  field: item["field"]?.S ?? null,
  message: item["message"]!.S!,
  fingerprint: item["fingerprint"]?.S ?? null,
  shard: item["shard"]!.S!,
  sequence: item["sequence"]!.S!,
  subSequence: Number(item["sub_sequence"]!.N),
  arrivalMs: Number(item["arrival_ms"]!.N),
  size: Number(item["size"]!.N),
  sha256: item["sha256"]!.S!,
  changedMs: item["changed_ms"] === undefined ? null : Number(item["changed_ms"].N),
  objectKey: item["object_key"]!.S!,
  objectLine: Number(item["object_line"]!.N),
});
