import { FreshetError } from "../../core/errors.ts";

/** A failure as an execution of a state machine shows it: the code for a name, rule and repair in one sentence. */
export function namedFailure(error: unknown): unknown {
  if (!(error instanceof FreshetError)) return error;
  return Object.assign(new Error(sentenceOf(error), { cause: error }), { name: error.code });
}

/**
 * A failure as `freshet` reads it (cli/invoke.ts): who has called a function is given the message alone, since an emulator's runtime has one name for
 * all errors.
 */
export function codedFailure(error: unknown): unknown {
  if (!(error instanceof FreshetError)) return error;
  return Object.assign(new Error(`${error.code}: ${sentenceOf(error)}`, { cause: error }), { name: error.code });
}

const sentenceOf = ({ message, repair }: FreshetError): string =>
  repair === undefined ? message : `${message}; ${repair}`;
