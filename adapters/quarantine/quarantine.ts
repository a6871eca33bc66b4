/**
 * The quarantine: records that can never become right by trying again. The raw bytes and what is known of them go to S3,
 * one object for a tenant and invocation; an index item for each record goes to DynamoDB, after the object, so that no
 * item points at nothing.
 *
 * Index table, keys `pk` and `sk` (strings), no secondary index:
 *   pk  key parts (tenant or `_unattributed`, stream, first hex digit of the id): sixteen partitions a tenant and stream, so that a
 *       flood of bad records is not held back by the 1,000 writes a second of one partition, and holds back no good ones
 *   sk  id: first 128 bits of SHA-256 over (stream, shard, sequence, sub-sequence), in hex; the same delivery is one item
 *   status `open`; whoever replays or drops a record changes it (quarantine-index.ts), and a later redelivery leaves it as it is
 * Others keep items in the same table: failed-batches.ts, quarantine-jobs.ts. Their pk begins with `_`, which no key part does.
 */
import { createHash, hash, randomUUID } from "node:crypto";
import { ConditionalCheckFailedException, type DynamoDBClient, PutItemCommand } from "@aws-sdk/client-dynamodb";
import { PutObjectCommand, type S3Client } from "@aws-sdk/client-s3";
import type { Delivery } from "../archive/archive-format.ts";
import { durably, forEachLimited } from "../aws/durable-call.ts";
import { joinKeyParts } from "../aws/key-parts.ts";
import { dayOf, tenantPartition } from "../s3/object-path.ts";

/** Where the quarantine is kept. */
export interface QuarantinePlace {
  readonly bucket: string;
  readonly table: string;
  readonly s3: Pick<S3Client, "send">;
  readonly dynamodb: Pick<DynamoDBClient, "send">;
}

export interface QuarantinedRecord extends Delivery {
  /** As the record gives it, right or wrong; null when it was refused before its tenant could be read. */
  readonly tenant: string | null;
  /** The refusing error's code. */
  readonly reason: string;
  /** First bad field, when a field is to blame. */
  readonly field: string | null;
  /** The refusing error's message. */
  readonly message: string;
  /** Schema fingerprint of the wire record in hex, or the id that a registry's framing names; null when it has neither. */
  readonly fingerprint: string | null;
  /** The record as delivered; of a KPL-aggregated record, the one sub-record (or all of it, when it does not open). */
  readonly bytes: Uint8Array;
}

const CONCURRENT_ITEMS = 32;
const CONCURRENT_OBJECTS = 8;

/** An object holds at most this much raw data (base64 adds a third), unless one record alone is larger. */
const MAX_OBJECT_BYTES = 8 * 1024 * 1024;

export class QuarantineWriter {
  readonly #at: QuarantinePlace;

  constructor(at: QuarantinePlace) {
    this.#at = at;
  }

  /**
   * Durable when it resolves. Writing a record again makes another copy of its bytes, and no second item.
   * @throws InfrastructureError `quarantine_unavailable`
   */
  async write(records: readonly QuarantinedRecord[]): Promise<void> {
    await forEachLimited(objectsOf(records), CONCURRENT_OBJECTS, async (group) => {
      const key = objectKey(group[0]!);
      const body = group.map((record) => `${JSON.stringify(envelope(record))}\n`).join("");
      await durably("quarantine_unavailable", `writing a quarantine object to bucket ${this.#at.bucket}`, () =>
        this.#at.s3.send(
          new PutObjectCommand({ Bucket: this.#at.bucket, Key: key, Body: body, ContentType: "application/x-ndjson" }),
        ),
      );
      const numbered = group.map((record, line) => ({ record, line }));
      await forEachLimited(numbered, CONCURRENT_ITEMS, ({ record, line }) => this.#index(record, key, line));
    });
  }

  async #index(record: QuarantinedRecord, objectKey: string, objectLine: number): Promise<void> {
    await durably("quarantine_unavailable", `writing a quarantine item to table ${this.#at.table}`, async () => {
      try {
        await this.#at.dynamodb.send(
          new PutItemCommand({
            TableName: this.#at.table,
            Item: indexItem(record, objectKey, objectLine),
            ConditionExpression: "attribute_not_exists(pk)",
          }),
        );
      } catch (error) {
        if (!(error instanceof ConditionalCheckFailedException)) throw error;
      }
    });
  }
}

/** 32 hex digits: what a delivery is called in the index, in the object and on the command line. */
export function quarantineId({ stream, shard, sequence, subSequence }: Omit<Delivery, "arrivalMs">): string {
  return hash("sha256", joinKeyParts(stream, shard, sequence, String(subSequence)), "hex").slice(0, 32);
}

/** The partition keys that hold all items of a tenant and stream. @param tenant null for unattributed records */
export function quarantinePartitions(tenant: string | null, stream: string): string[] {
  return Array.from("0123456789abcdef", (digit) => quarantinePartition(tenant, stream, digit));
}

export const quarantinePartition = (tenant: string | null, stream: string, id: string): string =>
  joinKeyParts(tenantPartition(tenant), stream, id[0]!);

function indexItem(record: QuarantinedRecord, objectKey: string, objectLine: number) {
  const id = quarantineId(record);
  return {
    pk: { S: quarantinePartition(record.tenant, record.stream, id) },
    sk: { S: id },
    status: { S: "open" },
    ...(record.tenant === null ? {} : { tenant: { S: record.tenant } }),
    stream: { S: record.stream },
    reason: { S: record.reason },
    ...(record.field === null ? {} : { field: { S: record.field } }),
    message: { S: record.message },
    ...(record.fingerprint === null ? {} : { fingerprint: { S: record.fingerprint } }),
    shard: { S: record.shard },
    sequence: { S: record.sequence },
    sub_sequence: { N: String(record.subSequence) },
    arrival_ms: { N: String(record.arrivalMs) },
    size: { N: String(record.bytes.length) },
    sha256: { S: digest(record.bytes) },
    object_key: { S: objectKey },
    object_line: { N: String(objectLine) },
  };
}

/** A line of the object: it stands alone, should the index be lost. */
function envelope(record: QuarantinedRecord) {
  return {
    v: 1,
    id: quarantineId(record),
    tenant: record.tenant,
    stream: record.stream,
    reason: record.reason,
    field: record.field,
    message: record.message,
    fingerprint: record.fingerprint,
    shard: record.shard,
    sequence: record.sequence,
    sub_sequence: record.subSequence,
    arrival_ms: record.arrivalMs,
    sha256: digest(record.bytes),
    bytes: Buffer.from(record.bytes).toString("base64"),
  };
}

export const digest = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

function objectKey(first: QuarantinedRecord): string {
  const folder = `quarantine/tenant=${tenantPartition(first.tenant)}/stream=${first.stream}/dt=${dayOf(first.arrivalMs)}`;
  return `${folder}/${String(first.arrivalMs).padStart(13, "0")}-${first.shard}-${randomUUID()}.ndjson`;
}

/** Records by what their object's path says, cut by size. */
function objectsOf(records: readonly QuarantinedRecord[]): QuarantinedRecord[][] {
  const objects: QuarantinedRecord[][] = [];
  const open = new Map<string, { records: QuarantinedRecord[]; bytes: number }>();
  for (const record of records) {
    const path = joinKeyParts(tenantPartition(record.tenant), record.stream, dayOf(record.arrivalMs));
    let object = open.get(path);
    if (object === undefined || object.bytes + record.bytes.length > MAX_OBJECT_BYTES) {
      object = { records: [], bytes: 0 };
      open.set(path, object);
      objects.push(object.records);
    }
    object.records.push(record);
    object.bytes += record.bytes.length;
  }
  return objects;
}
