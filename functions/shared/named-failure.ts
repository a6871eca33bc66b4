import { FreshetError } from "../../core/errors.ts";

/**
 * A failure as those see it who have called a function, who are given its name and message alone: the code for a name, rule and repair in one sentence.
 * So an execution of a state machine shows it, and `freshet` (cli/invoke.ts).
 */
export function namedFailure(error: unknown): unknown {
  if (!(error instanceof FreshetError)) return error;
  const repair = error.repair === undefined ? "" : `; ${error.repair}`;
  return Object.assign(new Error(`${error.message}${repair}`, { cause: error }), { name: error.code });
}
