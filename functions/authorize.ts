/** Decides for API Gateway whether a request has a key of ours. Reads the table of keys and nothing else. */
import { Logger } from "@aws-lambda-powertools/logger";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { type AuthorizerEvent, createAuthorizer } from "./api/keys/authorizer.ts";
import { createKeyStore } from "./api/keys/key-store.ts";
import { createAuthenticator } from "./api/keys/keys.ts";
import { optionalEnvironment, requireEnvironment } from "./shared/environment.ts";
import { describeError } from "./shared/observability.ts";

const logger = new Logger();
const dynamodb = new DynamoDBClient({
  maxAttempts: 2,
  requestHandler: { connectionTimeout: 500, requestTimeout: 500, throwOnRequestTimeout: true },
});
const usageKeys = optionalEnvironment("usageKeys");
const authorize = createAuthorizer(
  createAuthenticator(createKeyStore(dynamodb, requireEnvironment("keysTable")), Date.now),
  usageKeys === undefined ? null : JSON.parse(usageKeys),
);

export const handler = async (event: AuthorizerEvent) => {
  try {
    const answer = await authorize(event);
    // Ids only. A line for each decision that is not kept: who was let in, and how often somebody was not.
    logger.info("decided", { effect: answer.policyDocument.Statement[0].Effect, ...answer.context });
    return answer;
  } catch (error) {
    logger.error("not decided", describeError(error));
    throw error;
  }
};
