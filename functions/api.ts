/** The API behind API Gateway, in the VPC: features, scores and everything else but events. */

import { plan } from "../features/plan.ts";
import { createDependencies } from "./api/dependencies.ts";
import { createHistoricalPorts } from "./api/historical/historical-ports.ts";
import { createLambdaHandler } from "./api/lambda.ts";
import { createPushedPorts } from "./api/registered/pushed-ports.ts";
import { createScoringPorts } from "./api/scoring/scoring-ports.ts";

export const handler = createLambdaHandler("api", (host) =>
  createDependencies({
    serve: { ingest: false, read: true },
    scoring: createScoringPorts({ plan, timers: false, log: host.log }),
    historical: createHistoricalPorts({ queueOf: null, log: host.log }),
    pushed: createPushedPorts(),
    ...host,
  }),
);
