/** `POST /v1/events/*` and `/v1/labels` behind API Gateway, outside the VPC: it needs the broker and the keys, never the store. */
import { createDependencies } from "./api/dependencies.ts";
import { createLambdaHandler } from "./api/lambda.ts";

export const handler = createLambdaHandler("ingest", (host) =>
  createDependencies({ serve: { ingest: true, read: false }, scoring: null, historical: null, pushed: null, ...host }),
);
