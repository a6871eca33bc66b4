import { HeadObjectCommand, type S3ClientConfig } from "@aws-sdk/client-s3";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { s3Client } from "../../../adapters/s3/client.ts";

beforeEach(() => {
  vi.stubEnv("AWS_ENDPOINT_URL", undefined);
  vi.stubEnv("AWS_ENDPOINT_URL_S3", undefined);
});
afterEach(() => {
  vi.unstubAllEnvs();
});

/** Where a request for an object of bucket `events` goes. */
async function addressOf(config: S3ClientConfig = {}): Promise<string> {
  const client = s3Client({ region: "eu-north-1", credentials: { accessKeyId: "a", secretAccessKey: "b" }, ...config });
  let address = "";
  client.middlewareStack.add(
    () => async (args) => {
      const { hostname, port, path } = args.request as { hostname: string; port?: number; path: string };
      address = `${hostname}${port === undefined ? "" : `:${port}`}${path}`;
      return { response: {}, output: { $metadata: {} } } as never;
    },
    { step: "finalizeRequest", priority: "low" },
  );
  await client.send(new HeadObjectCommand({ Bucket: "events", Key: "k" }));
  return address;
}

test("a bucket is part of the name on AWS", async () => {
  expect(await addressOf()).toBe("events.s3.eu-north-1.amazonaws.com/k");
});

test("a bucket is part of the path wherever an endpoint is named", async () => {
  expect(await addressOf({ endpoint: "http://localhost:4566" })).toBe("localhost:4566/events/k");
  vi.stubEnv("AWS_ENDPOINT_URL", "http://localstack:4566");
  expect(await addressOf()).toBe("localstack:4566/events/k");
  vi.stubEnv("AWS_ENDPOINT_URL_S3", "http://s3.localstack:4567");
  expect(await addressOf()).toBe("s3.localstack:4567/events/k");
});
