/** The engine of jobs over the archive, from the environment. */
import { AthenaClient } from "@aws-sdk/client-athena";
import { DURABLE_CLIENT } from "../../../adapters/aws/durable-call.ts";
import { FreshetError } from "../../../core/errors.ts";
import { ENVIRONMENT, optionalEnvironment } from "../environment.ts";
import type { QueryEngine } from "./set-builder.ts";

/** Between looks at a query: jobs that need Athena take minutes. */
const POLL_MS = 2_000;

/** @throws FreshetError `environment_invalid` */
export function engineOfEnvironment(): QueryEngine {
  const use = optionalEnvironment("archiveEngine") ?? "auto";
  if (use !== "auto" && use !== "duckdb" && use !== "athena") {
    throw new FreshetError(
      "environment_invalid",
      `${ENVIRONMENT.archiveEngine} is auto, duckdb or athena (given: ${use})`,
      {
        repair: "set archive.engine of the stage to one of them",
      },
    );
  }
  const [database, workGroup] = [optionalEnvironment("athenaDatabase"), optionalEnvironment("athenaWorkGroup")];
  if (database === undefined || workGroup === undefined) return { use, athena: null };
  const athena = new AthenaClient(DURABLE_CLIENT);
  // Where answers go, and how they are encrypted, is the work group's to say.
  return { use, athena: { athena, database, workGroup, output: null, pollMs: POLL_MS } };
}
