/**
 * Schemas as the registry gave them, in the archive's bucket: `schemas/registry=<hash>/<id>.json`, the hash being of the registry's
 * name, since another registry has other schemas under the same ids. Written once each; kept for ever, outside of the archive's retention.
 */
import { createHash } from "node:crypto";
import { GetObjectCommand, NoSuchKey, PutObjectCommand, type S3Client } from "@aws-sdk/client-s3";
import type { SchemaId } from "../avro/framing.ts";
import { durably } from "../aws/durable-call.ts";
import type { FoundSchema } from "./schema-registry.ts";

export class StoredSchemas {
  private readonly bucket: string;
  private readonly s3: Pick<S3Client, "send">;
  private readonly folder: string;

  /** @param options.registry its name, see `SchemaRegistry` */
  constructor(options: {
    readonly bucket: string;
    readonly s3: Pick<S3Client, "send">;
    readonly registry: string;
  }) {
    this.bucket = options.bucket;
    this.s3 = options.s3;
    this.folder = `schemas/registry=${createHash("sha256").update(options.registry).digest("hex").slice(0, 16)}`;
  }

  /** Null for one that is not there, and for a damaged object. @throws InfrastructureError `schemas_unavailable` */
  get(id: SchemaId): Promise<FoundSchema | null> {
    return durably("schemas_unavailable", `reading schema ${id} from bucket ${this.bucket}`, async () => {
      try {
        const answer = await this.s3.send(new GetObjectCommand({ Bucket: this.bucket, Key: this.keyOf(id) }));
        return found(await answer.Body!.transformToString());
      } catch (error) {
        if (error instanceof NoSuchKey) return null;
        throw error;
      }
    });
  }

  /** @throws InfrastructureError `schemas_unavailable` */
  put(id: SchemaId, { text }: FoundSchema): Promise<unknown> {
    const Body = JSON.stringify({ v: 2, id, text });
    return durably("schemas_unavailable", `writing schema ${id} to bucket ${this.bucket}`, () =>
      this.s3.send(
        new PutObjectCommand({ Bucket: this.bucket, Key: this.keyOf(id), Body, ContentType: "application/json" }),
      ),
    );
  }

  private keyOf(id: SchemaId): string {
    return `${this.folder}/${id}.json`;
  }
}

/** What is damaged is asked for again; so is what version 1 had no text for, which followed no references. */
function found(json: string): FoundSchema | null {
  try {
    const { v, text } = JSON.parse(json);
    const isWhole = typeof text === "string" && (v === 1 || v === 2);
    return isWhole || (v === 2 && text === null) ? { text } : null;
  } catch {
    return null;
  }
}
