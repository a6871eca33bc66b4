/**
 * How side outputs call S3 and DynamoDB: bounded waits, a few retries with jitter, and then an error that blocks the
 * shard. The SDK's standard mode does the retrying (full jitter on an exponential backoff); what it lacks by default is
 * an end to waiting, without which a silent peer would hold an invocation until Lambda's timeout.
 */
import { InfrastructureError } from "../../core/errors.ts";

/** Client options for every S3 and DynamoDB client of the aggregate function. Region and endpoint come from the environment. */
export const DURABLE_CLIENT = {
  maxAttempts: 4,
  requestHandler: { connectionTimeout: 1_000, requestTimeout: 4_000, throwOnRequestTimeout: true },
} as const;

/**
 * @param what sentence start for the message, as `archive object in bucket b`: names only, never content
 * @throws InfrastructureError with `code`, when the call fails for any reason that retries did not cure
 */
export async function durably<T>(code: string, what: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (cause) {
    if (cause instanceof InfrastructureError) throw cause;
    throw new InfrastructureError(code, `${what} failed: ${errorName(cause)}`, {
      repair:
        "nothing was skipped, the batch is delivered again; restore the service, or the function's permission on it",
      cause,
    });
  }
}

/** The SDK's error name with the HTTP status; its message may quote a key, so it stays in `cause`. */
function errorName(error: unknown): string {
  if (!(error instanceof Error)) return "unknown error";
  const { code, $metadata } = error as { code?: unknown; $metadata?: { httpStatusCode?: number } };
  const name = error.name === "Error" && typeof code === "string" ? code : error.name;
  return $metadata?.httpStatusCode === undefined ? name : `${name} (HTTP ${$metadata.httpStatusCode})`;
}

/** Runs `work` over `items`, at most `limit` at a time; the first failure wins and no further item is started. */
export async function forEachLimited<T>(
  items: readonly T[],
  limit: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  let next = 0;
  let failed = false;
  const lane = async (): Promise<void> => {
    while (next < items.length && !failed) {
      try {
        await work(items[next++]!);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  const lanes = await Promise.allSettled(Array.from({ length: Math.min(limit, items.length) }, lane));
  const failure = lanes.find((result) => result.status === "rejected");
  if (failure !== undefined) throw failure.reason;
}
