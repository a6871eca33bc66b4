import type { Plan } from "../core/plan.ts";
import type { FunctionCode } from "./constructs/function-code.ts";
import type { SchemaRegistryChoice } from "./constructs/schema-registry.ts";
import type { Stage } from "./stage.ts";
import type { Target } from "./target.ts";

/** What every stack is made from: which size, on what, of which definitions, with which code. */
export interface Deployment {
  readonly stage: Stage;
  readonly target: Target;
  readonly plan: Plan;
  readonly code: FunctionCode;
  /** @default events are in Freshet's own framing alone */
  readonly schemaRegistry?: SchemaRegistryChoice;
}

/**
 * `freshet-dev-transactions`. Names are fixed rather than generated: runbooks, the command line and people say them, and
 * a stateless stack that is deleted and deployed again finds the same ones.
 */
export function physicalName(deployment: Deployment, name: string): string {
  return `freshet-${deployment.stage.name}-${name.replaceAll("_", "-")}`;
}
