import { InvokeCommand, LambdaClient } from "@aws-sdk/client-lambda";
import { FreshetError } from "../core/errors.ts";
import { clientConfig } from "./deploy.ts";
import type { Deployment } from "./state.ts";

/**
 * Has the control function make the online store ready: control hashes, births, the store function.
 * @param cleanShutdown whether the store was ended by us with its file whole, so that a new run id of it means no loss
 * @returns the state of the store: `ok`, or what is wrong
 * @throws FreshetError `control_failed`
 */
export async function initControl(
  emulatorPort: number,
  deployment: Deployment,
  cleanShutdown: boolean,
): Promise<{ readonly state: string }> {
  const client = new LambdaClient(clientConfig(emulatorPort));
  try {
    const answer = await client.send(
      new InvokeCommand({
        FunctionName: deployment.controlFunction,
        Payload: JSON.stringify({ cleanRestart: cleanShutdown }),
      }),
    );
    const report = JSON.parse(answer.Payload?.transformToString() || "{}");
    if (answer.FunctionError === undefined) return report;
    const { errorMessage = "no message" } = report;
    throw new FreshetError("control_failed", `the control function failed: ${errorMessage}`, {
      repair: "run `npm run freshet -- logs control`",
    });
  } finally {
    client.destroy();
  }
}
