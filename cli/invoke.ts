import { InvokeCommand, LambdaClient } from "@aws-sdk/client-lambda";
import { FreshetError } from "../core/errors.ts";
import type { OperatedDeployment } from "./deployment.ts";

/** Lambda refuses what comes too fast. */
const MAX_ATTEMPTS = 10;

export interface Functions {
  /** @throws FreshetError `function_failed` with the function's own message */
  invoke<T>(name: string, event: unknown): Promise<T>;
  close(): void;
}

/** Functions of a deployment, called as an operator: each call waits for its answer. */
export function openFunctions({ clientConfig, stage }: OperatedDeployment): Functions {
  const lambda = new LambdaClient({ ...clientConfig, maxAttempts: MAX_ATTEMPTS });
  return {
    async invoke<T>(name: string, event: unknown): Promise<T> {
      const answer = await lambda.send(new InvokeCommand({ FunctionName: name, Payload: JSON.stringify(event) }));
      const payload = JSON.parse(answer.Payload?.transformToString() || "null");
      if (answer.FunctionError === undefined) return payload as T;
      const logs = `freshet logs ${name.split("-").pop()}${stage === "local" ? "" : ` --stage ${stage}`}`;
      throw new FreshetError("function_failed", `${name} failed: ${payload?.errorMessage ?? "no message"}`, {
        repair: `its log says more: \`${logs}\`; then run this again`,
      });
    },
    close: () => lambda.destroy(),
  };
}
