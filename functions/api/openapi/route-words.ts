/** What descriptions of routes in the OpenAPI document are made of. */
import type { createRoute, z } from "@hono/zod-openapi";
import * as schemas from "./schemas.ts";

export type Route = Parameters<typeof createRoute>[0];

export const json = (schema: z.ZodType, description: string) => ({
  description,
  content: { "application/json": { schema } },
});
export const problem = (description: string) => ({
  description,
  content: { "application/problem+json": { schema: schemas.problem } },
});
export const body = (schema: z.ZodType, required = true) => ({
  body: { required, content: { "application/json": { schema } } },
});
/** Of a call that wants a key. */
export const keyed = (scope: string) => ({ security: [{ apiKey: [] }], "x-scope": scope });

/** What any call with a key can answer besides its own result. */
export const FAILURES = {
  400: problem("The request breaks a rule; `code`, `field` and `repair` say which and what to do."),
  401: problem("The API key is missing, unknown or expired."),
  403: problem("The API key lacks the scope."),
  404: problem("The stream, service, entity or feature does not exist."),
  413: problem("The body is too large."),
  415: problem("The content type is not supported, or how the body is compressed."),
  500: problem("A fault of ours; the log has the `request_id`."),
  503: problem("A dependency does not answer; try again."),
};
const header = (description: string) => ({ description, schema: { type: "string" as const } });
/** Of every call with a key. The headers but the first are of every answer to one, where its tenant has limits. */
export const LIMITED = {
  ...problem("The tenant is at its limit; `Retry-After` says how many seconds to wait."),
  headers: {
    "Retry-After": header("Seconds, at least 1; only of refusals that waiting helps."),
    "RateLimit-Policy": header('Size of a full bucket and seconds that it takes to fill: `"score";q=4000;w=2`.'),
    RateLimit: header('What is left, and seconds until the bucket is full again: `"score";r=3990;t=1`.'),
  },
};
