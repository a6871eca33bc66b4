import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { ControlTable } from "../adapters/control-table/control-table.ts";
import type { Lock } from "../core/compile/compile.ts";
import { followLock } from "../core/compile/lock-history.ts";
import type { OperatedDeployment } from "./deployment.ts";

/**
 * What a deployment's store makes of a lock that is to be deployed on it.
 * @returns a line for people
 * @throws DefinitionError `plan_lock_contradicts`: neither aggregate nor control would run under it
 */
export async function compareWithDeployed(deployment: OperatedDeployment, lock: Lock): Promise<string> {
  const dynamodb = new DynamoDBClient(deployment.clientConfig);
  try {
    const known = await new ControlTable({ table: deployment.controlTable, dynamodb }).getLock();
    if (known === null) return `Stage ${deployment.stage} has nothing stored yet.`;
    const { overclaimed } = followLock(known, lock);
    if (overclaimed.length === 0) return `Stage ${deployment.stage}: every id means what is stored there.`;
    const slots = overclaimed.map(({ group, object, id }) => `${group} ${object ? "object" : "cell"} ${id}`);
    return `Stage ${deployment.stage}: begin anew, since they were kept for less meanwhile: ${slots.join(", ")}.`;
  } finally {
    dynamodb.destroy();
  }
}
