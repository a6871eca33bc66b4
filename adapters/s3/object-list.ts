/** Listings of S3, page after page. */
import { ListObjectsV2Command, type S3Client } from "@aws-sdk/client-s3";
import { durably } from "../aws/durable-call.ts";

export interface StoredObject {
  readonly key: string;
  readonly bytes: number;
  /** When it was written, in ms. */
  readonly writtenMs: number;
}

export interface Listing {
  /** In order of their keys. */
  readonly objects: StoredObject[];
  /** With a delimiter: what lies before it, each once, the delimiter included. */
  readonly prefixes: string[];
}

/**
 * @param options.after only keys greater than this
 * @param failure code of the error, and the start of its sentence
 * @throws InfrastructureError with that code
 */
export async function listObjects(
  { s3, bucket }: { readonly s3: Pick<S3Client, "send">; readonly bucket: string },
  options: { readonly prefix: string; readonly after?: string; readonly delimiter?: string },
  failure: { readonly code: string; readonly what: string },
): Promise<Listing> {
  const { prefix: Prefix, after: StartAfter, delimiter: Delimiter } = options;
  const listing: Listing = { objects: [], prefixes: [] };
  let ContinuationToken: string | undefined;
  do {
    const page = await durably(failure.code, failure.what, () =>
      s3.send(new ListObjectsV2Command({ Bucket: bucket, Prefix, StartAfter, Delimiter, ContinuationToken })),
    );
    for (const { Key, Size, LastModified } of page.Contents ?? []) {
      listing.objects.push({ key: Key!, bytes: Size ?? 0, writtenMs: LastModified?.getTime() ?? 0 });
    }
    for (const each of page.CommonPrefixes ?? []) listing.prefixes.push(each.Prefix!);
    ContinuationToken = page.NextContinuationToken;
  } while (ContinuationToken !== undefined);
  return listing;
}
