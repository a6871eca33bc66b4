/** Exit codes of every command. */
export const EXIT = { failed: 1, usage: 2, notRunning: 3, interrupted: 130 } as const;

/** Codes of errors that only another command line repairs: an argument that names nothing, or has another form. */
export const USAGE_CODES: ReadonlySet<string> = new Set([
  "benchmark_unknown",
  "contract_unknown",
  "field_invalid",
  "format_unknown",
  "log_unknown",
  "revision_unknown",
  "scope_unknown",
  "service_unknown",
  "option_missing",
  "stream_unknown",
  "tenant_invalid",
  "times_invalid",
  "view_unknown",
]);
