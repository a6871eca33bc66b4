import type { Plan, Stream } from "../../../core/plan.ts";
import { requireEnvironment } from "../environment.ts";

/** Plan stream of a Kinesis stream's ARN or name, or of a topic; null for one that the plan does not know. */
export function streamOf(plan: Plan, arnOrName: string): Stream | null {
  const name = arnOrName.slice(arnOrName.lastIndexOf("/") + 1);
  const names = JSON.parse(requireEnvironment("streams")) as Record<string, string>;
  return plan.streams.find((stream) => names[stream.name] === name) ?? null;
}
