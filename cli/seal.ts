import { FreshetError } from "../core/errors.ts";
import { plan } from "../features/plan.ts";
import type { ControlReport } from "../functions/shared/control-loop.ts";
import type { OperatedDeployment } from "./deployment.ts";
import { openFunctions } from "./invoke.ts";

/**
 * Where a stream is sealed up to, as control knows it now, in ms; infinity for a stream that no entity's features are made
 * of, as labels: there is nothing to be late for.
 * @throws FreshetError `store_not_ready`
 */
export async function sealOf(deployment: OperatedDeployment, stream: string): Promise<number> {
  if (!plan.groups.some((group) => group.stream === stream)) return Number.POSITIVE_INFINITY;
  const functions = openFunctions(deployment);
  try {
    const { seals, state } = await functions.invoke<ControlReport>(deployment.controlFunction, {});
    if (seals[stream] !== undefined) return seals[stream];
    throw new FreshetError(
      "store_not_ready",
      `the online store is ${state}, so no one knows up to where ${stream} is sealed`,
      {
        repair: "run `freshet recover`, then import again",
      },
    );
  } finally {
    functions.close();
  }
}
