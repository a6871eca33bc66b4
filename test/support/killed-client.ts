/** A process that dies while it changes a bucket. */
import { DeleteObjectsCommand, PutObjectCommand, type S3Client } from "@aws-sdk/client-s3";

/** Throws at the n-th call that changes the bucket, and at all that follow: the process has gone. */
export function killedAt(s3: Pick<S3Client, "send">, n: number): Pick<S3Client, "send"> & { survived(): boolean } {
  let changes = 0;
  const send = (command: any) => {
    if (command instanceof PutObjectCommand || command instanceof DeleteObjectsCommand) changes++;
    if (changes >= n) throw new Error("killed");
    return s3.send(command);
  };
  return { send: send as S3Client["send"], survived: () => changes < n };
}
