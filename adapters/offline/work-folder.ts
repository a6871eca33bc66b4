/**
 * What a job over the archive has done so far, as objects below one prefix of the archive's bucket, so that another invocation goes on
 * where one ended. Objects are written under fresh names, or with the same content whoever writes them; a small JSON object that is written
 * once says which of them count.
 */
import { createWriteStream, mkdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { GetObjectCommand, PutObjectCommand, type S3Client } from "@aws-sdk/client-s3";
import { durably, forEachLimited } from "../aws/durable-call.ts";
import { listObjects, type StoredObject } from "../s3/object-list.ts";
import { removeObjects } from "./compaction-log.ts";
import { ArchiveMirror } from "./mirror.ts";

const CONCURRENT_GETS = 8;

export class WorkFolder {
  readonly #s3: Pick<S3Client, "send">;
  readonly bucket: string;
  /** Ends with a slash. */
  readonly prefix: string;

  constructor(options: { readonly s3: Pick<S3Client, "send">; readonly bucket: string; readonly prefix: string }) {
    this.#s3 = options.s3;
    this.bucket = options.bucket;
    this.prefix = options.prefix;
  }

  uri(name: string): string {
    return `s3://${this.bucket}/${this.prefix}${name}`;
  }

  /** Null where it is not there. @throws InfrastructureError `archive_unavailable`, as do all here */
  async read<T>(name: string): Promise<T | null> {
    return this.#call(`reading ${name}`, async () => {
      try {
        const { Body } = await this.#s3.send(new GetObjectCommand({ Bucket: this.bucket, Key: this.prefix + name }));
        return JSON.parse(await Body!.transformToString()) as T;
      } catch (error) {
        if ((error as Error).name === "NoSuchKey") return null;
        throw error;
      }
    });
  }

  async write(name: string, value: unknown): Promise<void> {
    await this.#put(name, JSON.stringify(value));
  }

  /** Writes what is not there yet. @returns what is there then: the value, or an earlier one */
  async writeOnce<T>(name: string, value: T): Promise<T> {
    try {
      await this.#put(name, JSON.stringify(value), "*");
      return value;
    } catch (error) {
      const { $metadata } = (error as Error).cause as { $metadata?: { httpStatusCode?: number } };
      const known =
        $metadata?.httpStatusCode === 412 || $metadata?.httpStatusCode === 409 ? await this.read<T>(name) : null;
      if (known === null) throw error;
      return known;
    }
  }

  async putFile(name: string, path: string): Promise<void> {
    await this.#put(name, await readFile(path));
  }

  /** Objects below a name, in order of their names. Keys are relative to the folder. */
  async list(below: string): Promise<StoredObject[]> {
    const { objects } = await listObjects(
      { s3: this.#s3, bucket: this.bucket },
      { prefix: this.prefix + below },
      { code: "archive_unavailable", what: `listing ${this.prefix}${below} in bucket ${this.bucket}` },
    );
    return objects.map(({ key, ...rest }) => ({ ...rest, key: key.slice(this.prefix.length) }));
  }

  /** Brings objects to this machine. @returns their paths, in the order given */
  async fetch(names: readonly string[], folder: string): Promise<string[]> {
    await forEachLimited(names, CONCURRENT_GETS, async (name) => {
      const path = join(folder, name);
      mkdirSync(dirname(path), { recursive: true });
      await this.#call(`reading ${name}`, async () => {
        const { Body } = await this.#s3.send(new GetObjectCommand({ Bucket: this.bucket, Key: this.prefix + name }));
        await pipeline(Body as Readable, createWriteStream(path));
      });
    });
    return names.map((name) => join(folder, name));
  }

  async remove(which: (name: string) => boolean = () => true): Promise<void> {
    const objects = (await this.list("")).filter(({ key }) => which(key));
    const mirror = new ArchiveMirror({ s3: this.#s3, bucket: this.bucket, folder: "" });
    await removeObjects(
      { s3: this.#s3, mirror },
      objects.map(({ key }) => this.prefix + key),
    );
  }

  async #put(name: string, Body: string | Buffer, IfNoneMatch?: string): Promise<void> {
    await this.#call(`writing ${name}`, () =>
      this.#s3.send(new PutObjectCommand({ Bucket: this.bucket, Key: this.prefix + name, Body, IfNoneMatch })),
    );
  }

  #call<T>(what: string, call: () => Promise<T>): Promise<T> {
    return durably("archive_unavailable", `${what} of ${this.prefix} in bucket ${this.bucket}`, call);
  }
}
