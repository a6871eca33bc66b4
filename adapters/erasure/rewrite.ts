/**
 * A walk through objects that takes something out of them. What is left of an object is written under a fresh name before the old one is
 * removed, so at each moment its rows are in one of the two; readers that have listed the old one list again. Ended anywhere, it
 * goes on where it was, or begins anew: what is out of an object stays out.
 */
import { randomUUID } from "node:crypto";
import {
  DeleteObjectCommand,
  GetObjectCommand,
  ListObjectVersionsCommand,
  PutObjectCommand,
  type S3Client,
} from "@aws-sdk/client-s3";
import { FreshetError } from "../../core/errors.ts";
import { durably } from "../aws/durable-call.ts";
import { listObjects } from "../s3/object-list.ts";

export interface ObjectsPort {
  readonly s3: Pick<S3Client, "send">;
  readonly bucket: string;
}

/** What is to become of an object: what is left of it, null for nothing. `rows` are those that were changed or went. */
export interface Rewritten {
  readonly body: Uint8Array | null;
  readonly rows: number;
}

export interface Rewriting {
  readonly prefix: string;
  /** Whether to look into an object: asked before it is fetched. @default into all */
  readonly concerns?: (key: string) => Promise<boolean>;
  /** @returns null where the object holds nothing of it. @throws FreshetError for one that cannot be read: it is named, and stays */
  readonly rewrite: (body: Buffer, key: string) => Promise<Rewritten | null>;
  /** Of these objects what is there is in others, too: they go instead of being written again. @default none */
  readonly replaced?: ReadonlySet<string>;
  /** Keeps the name, where something else names the object. @default a fresh one */
  readonly inPlace?: boolean;
  /** Told before anything of a step is written: what must be durable by then. */
  readonly beforeWriting?: () => Promise<void>;
}

export interface RewriteReport {
  /** Objects looked through. */
  looked: number;
  /** Objects that held something, and are written again or gone. */
  rewritten: number;
  rows: number;
  /** Names of objects that could not be read, the first ones. */
  unreadable: string[];
}

export const NOTHING_REWRITTEN: RewriteReport = { looked: 0, rewritten: 0, rows: 0, unreadable: [] };

export const added = (a: RewriteReport, b: RewriteReport): RewriteReport => ({
  looked: a.looked + b.looked,
  rewritten: a.rewritten + b.rewritten,
  rows: a.rows + b.rows,
  unreadable: [...new Set([...a.unreadable, ...b.unreadable])].slice(0, MAX_NAMED),
});

export interface WalkOptions {
  /** Key of the last object that is done. */
  readonly after?: string;
  readonly outOfTime?: () => boolean;
  /** Told after each step. @param after where to go on */
  readonly onStep?: (after: string, step: RewriteReport) => Promise<void>;
}

const STEP = 32;
const AT_ONCE = 8;
const MAX_NAMED = 100;
const UUID = /[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/;

/** @returns false when time was up first. @throws InfrastructureError `archive_unavailable` */
export async function rewriteObjects(port: ObjectsPort, rewriting: Rewriting, options: WalkOptions): Promise<boolean> {
  const { prefix } = rewriting;
  const failure = { code: "archive_unavailable", what: `listing ${prefix} in bucket ${port.bucket}` };
  const { objects } = await listObjects(port, { prefix, after: options.after }, failure);
  const keys = objects.map(({ key }) => key);
  for (let from = 0; from < keys.length; from += STEP) {
    // A run that is given no time gets on all the same.
    if (from > 0 && options.outOfTime?.()) return false;
    const step = keys.slice(from, from + STEP);
    const report: RewriteReport = { ...NOTHING_REWRITTEN, unreadable: [] };
    const changes: { key: string; change: Rewritten }[] = [];
    for (let at = 0; at < step.length; at += AT_ONCE) {
      const looks = step.slice(at, at + AT_ONCE).map(async (key) => {
        const change = await look(port, rewriting, key, report);
        if (change !== null) changes.push({ key, change });
      });
      await Promise.all(looks);
    }
    if (changes.length > 0) await rewriting.beforeWriting?.();
    for (const { key, change } of changes) {
      const isElsewhere = rewriting.replaced?.has(key) ?? false;
      if (change.body !== null && !isElsewhere) {
        await putObject(port, rewriting.inPlace ? key : freshName(key), change.body);
      }
      if (!rewriting.inPlace || change.body === null || isElsewhere) await removeObject(port, key);
      else await removeObject(port, key, { older: true });
      report.rewritten++;
      report.rows += change.rows;
    }
    report.looked = step.length;
    await options.onStep?.(step[step.length - 1], report);
  }
  return true;
}

async function look(port: ObjectsPort, { concerns, rewrite }: Rewriting, key: string, report: RewriteReport) {
  if (concerns !== undefined && !(await concerns(key))) return null;
  const body = await getObject(port, key);
  if (body === null) return null;
  try {
    return await rewrite(body, key);
  } catch (error) {
    if (!(error instanceof FreshetError)) throw error;
    if (report.unreadable.length < MAX_NAMED) report.unreadable.push(key);
    return null;
  }
}

/** The same name with another random part. */
function freshName(key: string): string {
  const folder = key.slice(0, key.lastIndexOf("/") + 1);
  const name = key.slice(folder.length);
  return folder + (UUID.test(name) ? name.replace(UUID, randomUUID()) : `${randomUUID()}-${name}`);
}

/** @returns null when it is gone */
export async function getObject({ s3, bucket }: ObjectsPort, key: string): Promise<Buffer | null> {
  return durably("archive_unavailable", `reading an object of bucket ${bucket}`, async () => {
    try {
      const { Body } = await s3.send(new GetObjectCommand({ Bucket: bucket, Key: key }));
      return Buffer.from(await Body!.transformToByteArray());
    } catch (error) {
      if ((error as Error).name === "NoSuchKey") return null;
      throw error;
    }
  });
}

export const putObject = ({ s3, bucket }: ObjectsPort, key: string, body: Uint8Array): Promise<unknown> =>
  durably("archive_unavailable", `writing an object of bucket ${bucket}`, () =>
    s3.send(new PutObjectCommand({ Bucket: bucket, Key: key, Body: body })),
  );

/**
 * Removes an object for good: in a bucket that keeps versions a deletion alone would hide it.
 * @param options.older leaves the newest version
 */
export async function removeObject({ s3, bucket }: ObjectsPort, key: string, options: { older?: boolean } = {}) {
  await durably("archive_unavailable", `removing an object of bucket ${bucket}`, async () => {
    const page = await s3.send(new ListObjectVersionsCommand({ Bucket: bucket, Prefix: key }));
    const versions = [...(page.Versions ?? []), ...(page.DeleteMarkers ?? [])].filter(
      (version) => version.Key === key && version.VersionId !== undefined && version.VersionId !== "null",
    );
    for (const { VersionId, IsLatest } of versions) {
      if (options.older && IsLatest) continue;
      await s3.send(new DeleteObjectCommand({ Bucket: bucket, Key: key, VersionId }));
    }
    if (versions.length === 0 && !options.older) await s3.send(new DeleteObjectCommand({ Bucket: bucket, Key: key }));
  });
}
