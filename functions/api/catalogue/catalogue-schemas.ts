/** Shapes of the catalogue in zod, for the published contract. */
import { z } from "@hono/zod-openapi";

const kind = z
  .enum(["windowed", "batch", "pushed"])
  .describe("Computed from a stream, by a scheduled query, or pushed by you.");

export const catalogueQuery = z.object({
  q: z.string().max(200).optional().describe("Words that name, description, owner or tags hold."),
  entity: z.string().optional(),
  view: z.string().optional(),
  owner: z.string().optional(),
  tag: z.string().optional(),
  kind: kind.optional(),
  deprecated: z.enum(["true", "false"]).optional(),
  limit: z
    .string()
    .regex(/^([1-9][0-9]?|[1-4][0-9]{2}|500)$/)
    .optional()
    .describe("1 to 500; 50 when left out."),
  cursor: z.string().optional().describe("`next` of the page before."),
});

const entry = {
  name: z.string(),
  kind,
  view: z.string(),
  entity: z.string(),
  dtype: z.string().describe("int64, double, string or boolean; with [] for a list."),
  description: z.string(),
  unit: z.string(),
  owner: z.string(),
  tags: z.array(z.string()),
  ttl_ms: z.number().int(),
  version: z.number().int().nullable().describe("Of a registered feature; null for declared ones."),
  deprecated: z.strictObject({ date: z.string(), use: z.string().nullable() }).nullable(),
};

export const catalogueAnswer = z
  .strictObject({
    features: z.array(z.strictObject(entry)),
    next: z.string().nullable().describe("The cursor of the next page; null on the last."),
    request_id: z.string(),
  })
  .openapi("Catalogue");

export const contextQuery = z.object({
  format: z.enum(["text", "markdown", "json"]).optional().describe("text when left out."),
  max_tokens: z
    .string()
    .regex(/^([1-9][0-9]{0,4}|100000)$/)
    .optional()
    .describe("1,000 when left out. A token counts as three bytes of UTF-8."),
  service: z.string().optional().describe("Only what this feature service takes."),
  features: z.string().optional().describe("Only these, with commas between them."),
});

export const contextAnswer = z
  .strictObject({
    entity: z.string(),
    id: z.string(),
    features: z
      .array(
        z.strictObject({
          name: z.string(),
          description: z.string(),
          unit: z.string(),
          value: z.union([
            z.number(),
            z.string(),
            z.boolean(),
            z.array(z.union([z.number(), z.string(), z.boolean(), z.null()])),
          ]),
          event_time_ms: z.number().int().nullable(),
          age: z.string().nullable().describe("In words, as 3 minutes ago."),
          deprecated: z.boolean(),
        }),
      )
      .describe("The most informative first: what services take, then the fresher."),
    left_out: z.array(z.string()).describe("For the limit of tokens."),
    without_value: z.array(z.strictObject({ name: z.string(), status: z.string() })),
    tokens: z.number().int().describe("Of the same as text."),
    as_of_ms: z.number().int(),
    degraded: z.boolean(),
    degraded_reason: z.string().nullable(),
    snapshot_age_ms: z.number().int().optional().describe("Of the oldest snapshot that stood in for the store."),
    request_id: z.string(),
  })
  .openapi("Context");

const rate = z.number().min(0).max(1).nullable();
const told = {
  by: z.string(),
  since_ms: z.number().int(),
  whole_rows: z.number().int().describe("So many rows of each list of names are counted, each."),
  then_one_row_of: z.number().int().describe("Of later ones a sample, each row of which stands for so many."),
};
const values = z
  .strictObject({ count: z.number().int(), min: z.number(), max: z.number(), mean: z.number() })
  .nullable()
  .describe("Of numbers; true and false count as 1 and 0.");
export const featureAnswer = z
  .strictObject({
    ...entry,
    definition: z.record(z.string(), z.unknown()).describe("Stream, operator and window; the query; or all versions."),
    services: z.array(z.string()).describe("Feature services that take it."),
    models: z
      .array(z.strictObject({ service: z.string(), alias: z.string(), model: z.string() }))
      .describe("The tenant's models that score by it now."),
    served: z
      .strictObject({
        ...told,
        rows: z.number().int().describe("As they were counted, and estimated from the sample."),
        present_rate: rate,
        null_rate: rate,
        missing_rate: rate,
        mean_age_ms: z.number().nullable().describe("From the event behind a value to its read."),
        max_age_ms: z.number().nullable(),
        newest_event_time_ms: z.number().int().nullable(),
        values,
      })
      .describe("What one process has served to the tenant since it began; not of all that is stored."),
    pushed: z
      .strictObject({
        ...told,
        rows: z.number().int().describe("As they were counted, and estimated from the sample."),
        null_rate: rate,
        newest_event_time_ms: z.number().int().nullable(),
        visible_ms: z.number().int().nullable().describe("Of the newest push."),
        values,
      })
      .nullable()
      .describe("What one process has taken of this version since it began; null for declared features."),
    request_id: z.string(),
  })
  .openapi("Feature");
