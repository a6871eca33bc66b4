/** Shapes of registered features in zod, for the published contract. */
import { z } from "@hono/zod-openapi";
import type { Plan } from "../../../core/plan.ts";
import { MAX_FEATURES, MAX_PUSH_ROWS } from "../limits.ts";

const scalar = z.union([z.number(), z.string(), z.boolean(), z.null()]);
const requestId = z.string();
const time = z.union([z.number().int(), z.string()]).describe("Epoch milliseconds, or ISO 8601 with its zone.");
const deprecation = z
  .strictObject({
    date: z.string().describe("From when on it should not be used, as 2027-01-31."),
    use: z.string().nullable().optional().describe("What to use instead."),
  })
  .nullable();

export function registerRequest(plan: Plan) {
  const [entity] = plan.entities;
  return z
    .strictObject({
      name: z
        .string()
        .describe("`view:feature`; without a view, the view is `pushed`. Versions are a field of their own."),
      version: z
        .union([z.number().int().min(1), z.string()])
        .optional()
        .describe("1 when left out. Another type or entity needs another version, which is another value."),
      dtype: z.string().describe("int64, double, string or boolean; float, int, long and bool are understood."),
      entity: z.enum(plan.entities.map(({ name }) => name) as [string, ...string[]]),
      ttl: z
        .union([z.string(), z.number().int()])
        .optional()
        .describe("Values older than this are not served: a duration as 24h, or seconds. 1h when left out."),
      description: z.string().max(1_000).optional(),
      unit: z.string().max(32).optional().describe("Of the value, as EUR."),
      owner: z.string().max(128).optional(),
      tags: z.array(z.string()).max(16).optional(),
      deprecated: deprecation.optional(),
      replace: z
        .boolean()
        .optional()
        .describe(
          "Whether ttl (a shorter one), description, unit, owner, tags and deprecation may replace what is registered.",
        ),
      current: z
        .boolean()
        .optional()
        .describe("Whether the name alone means this version from now on, as it does a first version."),
    })
    .openapi("RegisterFeature", {
      example: {
        name: "profile:account_age_days",
        dtype: "double",
        entity: entity.name,
        ttl: "30d",
        description: "Days since the account was opened.",
        unit: "days",
        owner: "risk",
        tags: ["profile"],
      },
    });
}

export const registeredAnswer = z
  .strictObject({
    name: z.string(),
    version: z.number().int(),
    versioned_name: z.string().describe("Reads and pushes this very version."),
    current_version: z.number().int().describe("What the name alone means."),
    entity: z.string(),
    dtype: z.enum(["int64", "double", "string", "boolean"]),
    ttl_ms: z.number().int(),
    description: z.string(),
    unit: z.string(),
    owner: z.string(),
    tags: z.array(z.string()),
    deprecated: deprecation,
    registered_at_ms: z.number().int(),
    outcome: z.enum(["created", "changed", "unchanged"]),
    request_id: requestId,
  })
  .openapi("RegisteredFeature");

const pushRow = z.object({
  id: z.string().optional().describe("The entity's id; its join key is understood as well, and no other member."),
  event_time_ms: time.optional().describe("When the values were true; the request's own when left out."),
  values: z
    .union([z.array(scalar), z.record(z.string(), scalar)])
    .describe("In the order of `features`; or by name, where `features` is left out. Null is a value."),
});

export const pushRequest = z
  .strictObject({
    features: z.array(z.string()).min(1).max(MAX_FEATURES).optional().describe("Names of one entity's features."),
    entity: z.string().optional(),
    event_time_ms: time.optional(),
    rows: z.array(pushRow).min(1).max(MAX_PUSH_ROWS),
  })
  .openapi("PushFeatures", {
    example: {
      features: ["profile:account_age_days"],
      rows: [{ id: "c1", event_time_ms: 1_794_268_800_000, values: [412] }],
    },
  });

export const pushAnswer = z
  .strictObject({
    accepted: z.number().int().describe("Rows that are in the store and in the archive."),
    refused: z.number().int(),
    visible_ms: z.number().int().nullable().describe("Reads from then on see all that was accepted, or newer."),
    results: z
      .array(
        z.strictObject({
          index: z.number().int(),
          id: z.string().nullable(),
          code: z.string(),
          field: z.string().optional(),
          detail: z.string(),
          repair: z.string().optional(),
        }),
      )
      .describe("One for each row that was refused."),
    request_id: requestId,
  })
  .openapi("PushAnswer");
