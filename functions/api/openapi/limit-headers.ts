/** The headers by which answers tell of limits, for the OpenAPI document. */
const limitHeader = (description: string) => ({ description, schema: { type: "string" as const } });
/** Of every answer to a call with a key, where its tenant has limits. */
export const limitHeaders = {
  "Retry-After": limitHeader("Seconds, at least 1; only of refusals."),
  "RateLimit-Policy": limitHeader('Size of a full bucket and seconds that it takes to fill: `"score";q=4000;w=2`.'),
  RateLimit: limitHeader('What is left, and seconds until the bucket is full again: `"score";r=3990;t=1`.'),
};
