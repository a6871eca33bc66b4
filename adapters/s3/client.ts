/** Every client of S3 is made here, so that all find buckets in the same way. */
import { S3Client, type S3ClientConfig } from "@aws-sdk/client-s3";

/**
 * By the path where an endpoint is named, as of an emulator: `bucket.localhost` is no name that every machine resolves. By its own
 * name on AWS.
 */
export function s3Client(config: S3ClientConfig = {}): S3Client {
  const { AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL } = process.env;
  const endpoint = config.endpoint ?? AWS_ENDPOINT_URL_S3 ?? AWS_ENDPOINT_URL;
  return new S3Client({ ...config, forcePathStyle: endpoint !== undefined });
}
