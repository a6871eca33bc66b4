import { InvokeCommand, LambdaClient } from "@aws-sdk/client-lambda";
import { FreshetError } from "../core/errors.ts";
import type { OperatedDeployment } from "./deployment.ts";

/** Lambda refuses what comes too fast. */
const MAX_ATTEMPTS = 10;

export interface Functions {
  /** @throws FreshetError with the function's own code and words; `function_failed` where it was none of ours */
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
      throw failureOf(payload, name, stage);
    },
    close: () => lambda.destroy(),
  };
}

/** Of ours (`codedFailure`) the message begins with the code and ends with the repair. */
function failureOf(payload: { errorMessage?: string } | null, name: string, stage: string): FreshetError {
  const { errorMessage = "no message" } = payload ?? {};
  const [, code, words] = /^([a-z]+(?:_[a-z0-9]+)+): (.*)$/s.exec(errorMessage) ?? [];
  if (code !== undefined) return new FreshetError(code, words!);
  const logs = `freshet logs ${name.split("-").pop()}${stage === "local" ? "" : ` --stage ${stage}`}`;
  return new FreshetError("function_failed", `${name} failed: ${errorMessage}`, {
    repair: `its log says more: \`${logs}\`; then run this again`,
  });
}
