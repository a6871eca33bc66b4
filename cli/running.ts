import { FreshetError } from "../core/errors.ts";
import { partsOf } from "../local/parts.ts";
import { type Deployment, type LaptopPorts, type LaptopState, readState } from "../local/state.ts";
import { missingParts } from "../local/status.ts";

/** The state of a runtime that is up and deployed. */
export interface Running extends LaptopState {
  readonly ports: LaptopPorts;
  readonly deployment: Deployment;
  readonly apiKey: string;
}

/** @throws FreshetError `not_running`, which ends a command with exit code 3 */
export function requireRunning(home: string): Running {
  const state = readState(home);
  const missing = missingParts(home);
  if (missing.length > 0 || state.deployment === undefined || state.apiKey === undefined) {
    const some = missing.length > 0 && missing.length < partsOf(state).length;
    throw new FreshetError(
      "not_running",
      some ? `not all of Freshet is running here: ${missing.join(", ")} ended` : "Freshet is not running here",
      { repair: "run `make up`" },
    );
  }
  return state as Running;
}
