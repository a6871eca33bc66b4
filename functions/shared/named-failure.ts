import { FreshetError } from "../../core/errors.ts";

/** A failure as an execution of a state machine shows it: the code for a name, rule and repair in one sentence. */
export function namedFailure(error: unknown): unknown {
  if (!(error instanceof FreshetError)) return error;
  const repair = error.repair === undefined ? "" : `; ${error.repair}`;
  return Object.assign(new Error(`${error.message}${repair}`, { cause: error }), { name: error.code });
}
