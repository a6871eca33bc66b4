/** What the archive says of a benchmark's events. */
import { GetObjectCommand, ListObjectsV2Command, type S3Client } from "@aws-sdk/client-s3";
import { readArchive } from "../adapters/archive/archive.ts";
import { s3Client } from "../adapters/s3/client.ts";
import { ENVIRONMENT } from "../functions/shared/environment.ts";
import { clientConfig } from "../local/deploy.ts";
import type { Deployment } from "../local/state.ts";

export interface Arrival {
  readonly eventTimeMs: number;
  /** When the last of its entities had it. */
  readonly visibleMs: number;
}

/**
 * Events whose id starts with `prefix`, applied to all of their entities.
 * @throws Error for one that is there twice as applied, or has another fate
 */
export async function readArrivals(
  emulatorPort: number,
  deployment: Deployment,
  sinceMs: number,
  prefix: string,
): Promise<Arrival[]> {
  const client = s3Client(clientConfig(emulatorPort));
  const Bucket = await archiveBucket(client, deployment);
  const arrivals = new Map<string, Arrival>();
  try {
    for (const Key of await objectsSince(client, Bucket, sinceMs)) {
      const { Body } = await client.send(new GetObjectCommand({ Bucket, Key }));
      for (const { eventId, eventTimeMs, fates } of readArchive(await Body!.transformToByteArray())) {
        if (eventId === null || !eventId.startsWith(prefix)) continue;
        if (arrivals.has(eventId)) throw new Error(`event ${eventId} is in the archive twice`);
        const wrong = fates.find(({ fate }) => fate !== "applied");
        if (wrong || fates.length === 0) throw new Error(`event ${eventId} is ${wrong?.fate ?? "without a fate"}`);
        const visibleMs = Math.max(...fates.map((fate) => fate.visibleMs!));
        arrivals.set(eventId, { eventTimeMs: eventTimeMs!, visibleMs });
      }
    }
  } finally {
    client.destroy();
  }
  return [...arrivals.values()];
}

/** The API's functions do not know the archive, so its name is found by what it holds. */
async function archiveBucket(client: S3Client, { environment }: Deployment): Promise<string> {
  const known = environment[ENVIRONMENT.archiveBucket];
  if (known !== undefined) return known;
  const { ListBucketsCommand } = await import("@aws-sdk/client-s3");
  const { Buckets = [] } = await client.send(new ListBucketsCommand({}));
  const found = Buckets.find(({ Name }) => /archive/i.test(Name ?? ""));
  if (!found?.Name) throw new Error("no bucket is an archive");
  return found.Name;
}

/** Objects whose name says that they arrived since then; names carry the arrival of their first row. */
async function objectsSince(client: S3Client, Bucket: string, sinceMs: number): Promise<string[]> {
  const keys: string[] = [];
  let ContinuationToken: string | undefined;
  do {
    const page = await client.send(new ListObjectsV2Command({ Bucket, Prefix: "raw/", ContinuationToken }));
    for (const { Key = "" } of page.Contents ?? []) {
      const arrival = /\/stream=transactions\/.*\/(\d{13})-[^/]*$/.exec(Key);
      if (arrival !== null && Number(arrival[1]) >= sinceMs - 1_000) keys.push(Key);
    }
    ContinuationToken = page.NextContinuationToken;
  } while (ContinuationToken !== undefined);
  return keys;
}
