/** `POST /v1/events/*` behind API Gateway, outside the VPC: it needs the broker and the keys, never the store. */
import { createLambdaHandler } from "./api/lambda.ts";

export const handler = createLambdaHandler("ingest", { ingest: true, read: false });
