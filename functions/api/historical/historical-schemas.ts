/** Shapes of historical jobs in zod, for the published contract. */
import { z } from "@hono/zod-openapi";

const time = z
  .union([z.number().int().min(0), z.iso.datetime({ offset: true }), z.iso.date()])
  .nullable()
  .optional();

export const historicalRequest = z
  .strictObject({
    service: z.string(),
    features: z
      .array(z.string())
      .max(500)
      .nullable()
      .optional()
      .describe("Registered features to join beside the service's own; columns are named with their version."),
    labels: z.string().nullable().optional().describe("Stream of outcomes; by default the service's."),
    from: time.describe("First event time: epoch milliseconds or ISO 8601. All when left out."),
    to: time.describe("End of event times, exclusive."),
    as_of: z
      .enum(["event_time", "arrival"])
      .nullable()
      .optional()
      .describe("Instant of an event at which its row is read."),
    from_log: z
      .boolean()
      .nullable()
      .optional()
      .describe(
        "Rows are what was scored, at its instant, instead of all labelled events. Without `as_of` and `rows`.",
      ),
    rows: z
      .array(z.record(z.string(), z.unknown()))
      .min(1)
      .max(5_000)
      .nullable()
      .optional()
      .describe("Rows of yours instead of labels: `as_of_ms`, join keys, request fields; further columns are kept."),
  })
  .openapi("HistoricalRequest", {
    example: { service: "fraud", from: "2026-11-01T00:00:00Z", to: "2026-11-15T00:00:00Z" },
  });

export const jobAnswer = z
  .strictObject({
    job_id: z.string(),
    service: z.string(),
    state: z.enum(["queued", "running", "done", "failed", "cancelled"]),
    progress: z.number().min(0).max(1),
    created_ms: z.number().int(),
    updated_ms: z.number().int(),
    files: z
      .array(z.strictObject({ name: z.string(), url: z.string(), expires_ms: z.number().int() }))
      .describe("Parquet parts and manifest.json, once it is done. The addresses need no key."),
    manifest: z
      .record(z.string(), z.unknown())
      .nullable()
      .describe("As in manifest.json: features with types, counts, plan hash."),
    error: z.strictObject({ code: z.string(), detail: z.string(), repair: z.string().nullable() }).nullable(),
    request_id: z.string(),
  })
  .openapi("HistoricalJob");
