/**
 * The one error class of the project. A message says what was given, which rule it broke and how to repair it; `code` is
 * stable and documented (docs/api.md for those that reach HTTP).
 */
export class FreshetError extends Error {
  readonly code: string;
  /** The offending field, definition or option, where there is one. */
  readonly field?: string;
  /** What to do about it, as a sentence that can stand alone. */
  readonly repair?: string;

  constructor(code: string, message: string, options: { field?: string; repair?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "FreshetError";
    this.code = code;
    this.field = options.field;
    this.repair = options.repair;
  }
}

/** A definition that the plan refuses: wrong at synth, in `freshet plan` and at start, never at run time. */
export class DefinitionError extends FreshetError {
  override readonly name = "DefinitionError";
}

/** A record that can never become right by trying again: quarantined, and then counted as done. */
export class RecordError extends FreshetError {
  override readonly name = "RecordError";
}

/** A dependency that failed, or a store in a state that forbids writes. Nothing is skipped; the caller tries again. */
export class InfrastructureError extends FreshetError {
  override readonly name = "InfrastructureError";
}

/** Refuses a definition: rule with given value, then the repair. @throws DefinitionError always */
export function refuse(code: string, message: string, repair: string, field?: string): never {
  throw new DefinitionError(code, `${message}; ${repair}`, { repair, field });
}

/** What was given, by its kind, as messages have it: `a string`, `nothing`. */
export function typeName(value: unknown): string {
  if (value === null) return "null";
  if (value === undefined) return "nothing";
  if (Array.isArray(value)) return value.length === 0 ? "an empty array" : "an array";
  return `a${typeof value === "object" ? "n" : ""} ${typeof value}`;
}
