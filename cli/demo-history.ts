/**
 * Which simulated weeks a demo has brought into a deployment, or was bringing when it was ended: the next one goes on with the same
 * weeks, since others would be further payments of the same customers. Kept in the archive's bucket, beside the data that it speaks of, so that the
 * two are lost together.
 */
import { GetObjectCommand, NoSuchKey, PutObjectCommand, type S3Client } from "@aws-sdk/client-s3";

const DAY_MS = 86_400_000;
const HISTORY_DAYS = 42;
const KEY = "demo/history.json";

/** Half-open, in epoch milliseconds. */
export interface History {
  readonly fromMs: number;
  readonly toMs: number;
}
export interface DemoHistory extends History {
  /** Whether all of it is in the archive and in the online store. */
  readonly isThere: boolean;
}
interface Place {
  readonly s3: Pick<S3Client, "send">;
  readonly bucket: string;
}

/** @param sealMs where weeks end that nobody has begun to bring */
export async function demoHistory({ s3, bucket }: Place, sealMs: number): Promise<DemoHistory> {
  try {
    const { Body } = await s3.send(new GetObjectCommand({ Bucket: bucket, Key: KEY }));
    const { fromMs, toMs, isThere = true } = JSON.parse(await Body!.transformToString());
    return { fromMs, toMs, isThere };
  } catch (error) {
    if (error instanceof NoSuchKey) return { fromMs: sealMs - HISTORY_DAYS * DAY_MS, toMs: sealMs, isThere: false };
    throw error;
  }
}

export async function noteHistory({ s3, bucket }: Place, history: DemoHistory): Promise<void> {
  await s3.send(new PutObjectCommand({ Bucket: bucket, Key: KEY, Body: JSON.stringify(history) }));
}
