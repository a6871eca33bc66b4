/**
 * Batches that Lambda's mapping gave up: it leaves one object for each in S3, the records themselves included. They are
 * delivered again from there. Objects are named `aws/lambda/<mapping>/…`, which is Lambda's choice.
 *
 * How often one was tried is in the quarantine's index table: pk `_failed-batches` (no key part looks so), sk the object's key.
 */
import { PutItemCommand, QueryCommand } from "@aws-sdk/client-dynamodb";
import { DeleteObjectCommand, GetObjectCommand, NoSuchKey } from "@aws-sdk/client-s3";
import { RecordError } from "../../core/errors.ts";
import { durably } from "../aws/durable-call.ts";
import type { QuarantinePlace } from "../quarantine/quarantine.ts";
import { listObjects } from "../s3/object-list.ts";
import { type DeliveredRun, deliveredRuns } from "./delivery.ts";

const PREFIX = "aws/lambda/";
const PARTITION = "_failed-batches";

export interface Attempts {
  readonly attempts: number;
  /** True when it is tried no more until somebody asks for it. */
  readonly parked: boolean;
  /** Code and message of the last failure. */
  readonly code: string;
  readonly message: string;
}

export class FailedBatches {
  readonly #at: QuarantinePlace;

  constructor(at: QuarantinePlace) {
    this.#at = at;
  }

  /** Keys of all objects, oldest name first. @throws InfrastructureError `quarantine_unavailable`, as do all here */
  async list(): Promise<string[]> {
    const failure = { code: "quarantine_unavailable", what: "listing failed batches" };
    const { objects } = await listObjects(this.#at, { prefix: PREFIX }, failure);
    return objects.map(({ key }) => key);
  }

  /** @returns null when another run has removed it. @throws RecordError `failed_batch_invalid` when it is not what Lambda writes */
  async read(key: string): Promise<DeliveredRun[] | null> {
    const text = await this.#call(`reading failed batch ${key}`, async () => {
      try {
        const { Body } = await this.#at.s3.send(new GetObjectCommand({ Bucket: this.#at.bucket, Key: key }));
        return await Body!.transformToString();
      } catch (error) {
        if (error instanceof NoSuchKey) return null;
        throw error;
      }
    });
    return text === null ? null : parseFailedBatch(text, Date.now());
  }

  async remove(key: string): Promise<void> {
    await this.#call(`removing failed batch ${key}`, () =>
      this.#at.s3.send(new DeleteObjectCommand({ Bucket: this.#at.bucket, Key: key })),
    );
  }

  /** By key, of those that have failed here before. */
  async attempts(): Promise<Map<string, Attempts>> {
    const found = new Map<string, Attempts>();
    let from: Record<string, any> | undefined;
    do {
      const page = await this.#call("reading how often failed batches were tried", () =>
        this.#at.dynamodb.send(
          new QueryCommand({
            TableName: this.#at.table,
            KeyConditionExpression: "pk = :pk",
            ExpressionAttributeValues: { ":pk": { S: PARTITION } },
            ExclusiveStartKey: from,
            ConsistentRead: true,
          }),
        ),
      );
      for (const item of page.Items ?? []) {
        found.set(item["sk"]!.S!, {
          attempts: Number(item["attempts"]!.N),
          parked: item["parked"]!.BOOL!,
          code: item["code"]!.S!,
          message: item["message"]!.S!,
        });
      }
      from = page.LastEvaluatedKey;
    } while (from !== undefined);
    return found;
  }

  async note(key: string, { attempts, parked, code, message }: Attempts): Promise<void> {
    await this.#call(`noting an attempt at failed batch ${key}`, () =>
      this.#at.dynamodb.send(
        new PutItemCommand({
          TableName: this.#at.table,
          Item: {
            pk: { S: PARTITION },
            sk: { S: key },
            attempts: { N: String(attempts) },
            parked: { BOOL: parked },
            code: { S: code },
            message: { S: message },
          },
        }),
      ),
    );
  }

  #call<T>(what: string, call: () => Promise<T>): Promise<T> {
    return durably("quarantine_unavailable", what, call);
  }
}

/**
 * The invocation record that Lambda writes: the event of the invocation is its member `payload`, as text.
 * @param nowMs for records that have no arrival of their own
 * @throws RecordError `failed_batch_invalid`, `delivery_invalid`; never quotes what the object holds
 */
export function parseFailedBatch(text: string, nowMs: number): DeliveredRun[] {
  const record = jsonOf(text, "the object");
  const payload = (record as { payload?: unknown } | null)?.payload;
  return deliveredRuns(typeof payload === "string" ? jsonOf(payload, "its payload") : payload, nowMs);
}

function jsonOf(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new RecordError(
      "failed_batch_invalid",
      `a failed batch is an invocation record of Lambda: ${what} is no JSON`,
      {
        repair: "look at the object; if it is not Lambda's, remove it",
      },
    );
  }
}
