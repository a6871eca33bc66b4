import { FreshetError } from "../../core/errors.ts";

/** `s3://bucket/key`; the key may be empty. @throws FreshetError `s3_uri` */
export function parseS3Uri(uri: string): { bucket: string; key: string } {
  const match = /^s3:\/\/([a-z0-9.-]{3,63})\/?(.*)$/.exec(uri);
  if (match !== null) return { bucket: match[1], key: match[2] };
  throw new FreshetError("s3_uri", `not the address of an S3 object (given: ${uri})`, { repair: "s3://bucket/prefix" });
}
