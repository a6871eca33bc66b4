/** The API behind API Gateway, in the VPC: features, scores and everything else but events. */
import { createDependencies } from "./api/dependencies.ts";
import { createLambdaHandler } from "./api/lambda.ts";

export const handler = createLambdaHandler("api", (host) =>
  createDependencies({ serve: { ingest: false, read: true }, ...host }),
);
