/** What a mapping tells a host of an invocation, and what a handler sees of it. */
export interface InvocationContext {
  readonly awsRequestId: string;
  readonly functionName: string;
  readonly invokedFunctionArn: string;
  readonly timeoutMs: number;
}

/** A Lambda context, as far as our handlers use one. */
export function lambdaContext({ timeoutMs, ...rest }: InvocationContext) {
  const startedMs = Date.now();
  return {
    ...rest,
    functionVersion: "$LATEST",
    memoryLimitInMB: "1024",
    logGroupName: `/aws/lambda/${rest.functionName}`,
    logStreamName: rest.awsRequestId,
    callbackWaitsForEmptyEventLoop: true,
    getRemainingTimeInMillis: () => Math.max(0, timeoutMs - (Date.now() - startedMs)),
  };
}
