/** The API behind API Gateway, in the VPC: features, scores and everything else but events. */
import { createLambdaHandler } from "./api/lambda.ts";

export const handler = createLambdaHandler("api", { ingest: false, read: true });
