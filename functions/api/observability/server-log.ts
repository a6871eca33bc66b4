import { FreshetError } from "../../../core/errors.ts";
import { withoutKeys } from "../../shared/hidden-keys.ts";
import type { Log } from "../app.ts";

/** One JSON line: code, ids and the cause's own message, which for our errors holds no payload. */
export const logToStderr: Log = (message, details, error) => {
  const line = { at: new Date().toISOString(), message, ...details, cause: causeOf(error) };
  process.stderr.write(`${withoutKeys(JSON.stringify(line))}\n`);
};

export function causeOf(error: unknown): Record<string, unknown> | undefined {
  if (!(error instanceof Error)) return undefined;
  const { name, message, stack, cause } = error;
  const code = (error as { code?: string }).code;
  // Errors of ours are told by code and message; of others the place is needed too.
  const place = error instanceof FreshetError ? undefined : stack?.split("\n").slice(1, 4).join(" ").trim();
  return { name, code, message, place, cause: causeOf(cause) };
}
