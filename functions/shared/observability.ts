/** Logger and metrics, made once for a function. Logs hold ids, offsets and codes; never payloads, keys or secrets. */
import { Logger } from "@aws-lambda-powertools/logger";
import { Metrics } from "@aws-lambda-powertools/metrics";
import { FreshetError } from "../../core/errors.ts";

export const logger = new Logger();
export const metrics = new Metrics({ namespace: "Freshet" });
// Alarms and graphs name a metric by stream alone; the library would add the function's name as a second dimension.
metrics.clearDefaultDimensions();

/**
 * A failure as structured fields: code, reason and repair of ours, name and reason of any other, with its cause. Not
 * `message`: the logger keeps that key for its own.
 */
export function describeError(error: unknown): Record<string, unknown> {
  if (!(error instanceof Error)) return { error: String(error) };
  const own = error instanceof FreshetError ? { code: error.code, repair: error.repair } : {};
  const cause = error.cause === undefined ? {} : { cause: describeError(error.cause) };
  return { error: error.name, reason: error.message, ...own, ...cause };
}
