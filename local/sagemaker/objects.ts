import { createReadStream, createWriteStream, existsSync, mkdirSync, readdirSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { GetObjectCommand, ListObjectsV2Command, PutObjectCommand, type S3Client } from "@aws-sdk/client-s3";
import { parseS3Uri } from "../../adapters/s3/uri.ts";

/**
 * Every object under a prefix, into a folder, by what follows the prefix: SageMaker's `S3Prefix`.
 * @returns how many
 */
export async function download(s3: S3Client, uri: string, folder: string): Promise<number> {
  const { bucket, key: prefix } = parseS3Uri(uri);
  let count = 0;
  let token: string | undefined;
  do {
    const page = await s3.send(new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix, ContinuationToken: token }));
    for (const { Key: key = "" } of page.Contents ?? []) {
      // A prefix that is an object itself keeps its file name; one that ends within a name keeps the rest of it.
      const rest = key === prefix ? key.split("/").at(-1)! : key.slice(prefix.length).replace(/^\/+/, "");
      const file = join(folder, rest);
      if (rest === "" || rest.endsWith("/") || relative(folder, file).startsWith("..")) continue;
      mkdirSync(dirname(file), { recursive: true });
      const { Body } = await s3.send(new GetObjectCommand({ Bucket: bucket, Key: key }));
      await pipeline(Body as Readable, createWriteStream(file));
      count += 1;
    }
    token = page.NextContinuationToken;
  } while (token !== undefined);
  return count;
}

export async function upload(s3: S3Client, file: string, uri: string): Promise<void> {
  const { bucket, key } = parseS3Uri(uri);
  await s3.send(new PutObjectCommand({ Bucket: bucket, Key: key, Body: createReadStream(file) }));
}

export async function uploadFolder(s3: S3Client, folder: string, uri: string): Promise<void> {
  if (!existsSync(folder)) return;
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
    if (!entry.isFile()) continue;
    const file = join(entry.parentPath, entry.name);
    await upload(s3, file, `${uri.replace(/\/$/, "")}/${relative(folder, file).split(sep).join("/")}`);
  }
}
