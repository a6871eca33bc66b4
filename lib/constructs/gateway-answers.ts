import { ResponseType } from "aws-cdk-lib/aws-apigateway";

export interface OwnAnswer {
  readonly type: ResponseType;
  readonly status: number;
  readonly code: string;
  readonly title: string;
  readonly detail: string;
  readonly repair: string;
  readonly field?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

const OF_KEYS = {
  status: 401,
  field: "x-api-key",
  headers: { "www-authenticate": `'ApiKey realm="freshet", header="x-api-key"'` },
};

/**
 * What API Gateway answers by itself, as the router's problem documents: same members, codes and titles, which a test compares.
 * No variable of the error goes into them, since its message may quote a header.
 */
export const OWN_ANSWERS: readonly OwnAnswer[] = [
  {
    ...OF_KEYS,
    type: ResponseType.UNAUTHORIZED,
    code: "api_key_missing",
    title: "An API key is required",
    detail: "the request has no API key",
    repair: "send your key in the header x-api-key; freshet status --json shows the development key",
  },
  {
    // The authorizer denies for no other reason.
    ...OF_KEYS,
    type: ResponseType.ACCESS_DENIED,
    code: "api_key_invalid",
    title: "The API key is not valid",
    detail: "the API key is not known",
    repair: "check that the whole key was copied (fk_, id, secret); a deleted key cannot be used again",
  },
  {
    // The authorizer has let the caller in, and named a key that the gateway does not know: a deployment under way.
    type: ResponseType.INVALID_API_KEY,
    status: 503,
    code: "keys_unavailable",
    title: "API keys cannot be checked",
    detail: "the gateway does not know the tenant's usage plan yet",
    repair: "try again in a few seconds",
    headers: { "retry-after": "'2'" },
  },
  {
    type: ResponseType.AUTHORIZER_FAILURE,
    status: 503,
    code: "keys_unavailable",
    title: "API keys cannot be checked",
    detail: "the table of API keys could not be read",
    repair: "try again in a few seconds",
    headers: { "retry-after": "'2'" },
  },
  {
    // A path that has a resource and no method; API Gateway calls that a missing token.
    type: ResponseType.MISSING_AUTHENTICATION_TOKEN,
    status: 404,
    code: "not_found",
    title: "There is nothing here",
    detail: "no route matches this path",
    repair: "see /docs for all calls",
  },
  {
    type: ResponseType.REQUEST_TOO_LARGE,
    status: 413,
    code: "body_too_large",
    title: "The body is too large",
    detail: "the body is larger than API Gateway takes",
    repair: "split it into several requests",
  },
  {
    type: ResponseType.THROTTLED,
    status: 429,
    code: "throttled",
    title: "The stream is at its limit",
    detail: "the API takes no more requests of this tenant, or of all together, in this second",
    repair: "send it again with backoff and jitter",
  },
  {
    type: ResponseType.INTEGRATION_FAILURE,
    status: 502,
    code: "integration_failure",
    title: "The function could not answer",
    detail: "the function behind the API failed to answer",
    repair: "send it again; if it stays, give the request_id to whoever runs this service",
  },
  {
    type: ResponseType.INTEGRATION_TIMEOUT,
    status: 504,
    code: "integration_timeout",
    title: "The function did not answer in time",
    detail: "the function behind the API did not answer in time; events of the request may have been queued",
    repair: "send it again: an event that was queued is not counted twice",
  },
  {
    type: ResponseType.DEFAULT_4XX,
    status: 400,
    code: "request_refused",
    title: "API Gateway refused the request",
    detail: "the request did not reach the service",
    repair: "send plain HTTP with x-api-key; an Authorization header only as Bearer and an API key",
  },
  {
    type: ResponseType.DEFAULT_5XX,
    status: 500,
    code: "internal",
    title: "Something failed on our side",
    detail: "the request could not be answered because of an error on our side",
    repair: "try again; if it stays, give the request_id to whoever runs this service",
  },
];
