/** The CDK app, as `cdk` runs it; `synthesize.ts` says which context it takes. */
import { join } from "node:path";
import { App } from "aws-cdk-lib";
import { FreshetError } from "../core/errors.ts";
import { bundledCode } from "../lib/constructs/function-code.ts";
import { synthesize } from "./synthesize.ts";

const functions = join(import.meta.dirname, "..", "functions");
try {
  synthesize(new App(), (target) => bundledCode(functions, target === "local" ? process : undefined));
} catch (error) {
  if (!(error instanceof FreshetError)) throw error;
  // A definition or an option to repair, not a fault of the app: no stack trace.
  console.error(`${error.code}: ${error.message}${error.repair === undefined ? "" : `\n  ${error.repair}`}`);
  process.exitCode = 1;
}
