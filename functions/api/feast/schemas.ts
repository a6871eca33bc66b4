/** Feast's shapes for the OpenAPI document. */
import { z } from "@hono/zod-openapi";
import type { Plan } from "../../../core/plan.ts";
import { MAX_BATCH_ROWS, MAX_FEATURES, MAX_PUSH_ROWS } from "../limits.ts";

const value = z.union([z.number(), z.string(), z.boolean(), z.null()]);

export const feastOnlineAnswer = z
  .strictObject({
    results: z
      .array(
        z.strictObject({
          values: z.array(z.union([value, z.array(value)])),
          statuses: z
            .array(z.enum(["PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE", "INVALID"]))
            .describe("INVALID: the feature is new and still being built."),
          event_timestamps: z.array(z.string()).describe("RFC 3339; 1970-01-01T00:00:00Z for none."),
        }),
      )
      .describe("One for each name, with one item for each row."),
    metadata: z.strictObject({ feature_names: z.array(z.string()) }),
  })
  .openapi("FeastOnlineFeatures");

export const feastError = z
  .union([
    z.string().describe("JSON in a string: module, class, message, code, field, repair, request_id."),
    z.looseObject({ detail: z.unknown(), code: z.string() }),
  ])
  .openapi("FeastError");

export const feastRunning = z
  .looseObject({ error: z.string(), feature_views: z.array(z.string()), code: z.string() })
  .openapi("FeastMaterializing");

const frame = z
  .record(z.string(), z.array(value).max(MAX_PUSH_ROWS))
  .describe(
    "Columns: the join key, `event_timestamp` (ISO 8601; UTC without a zone), and registered features of the view.",
  );
export const feastWrite = z
  .object({ feature_view_name: z.string().describe("A view in which features are registered."), df: frame })
  .openapi("FeastWrite");
export const feastPush = z
  .object({
    push_source_name: z.string().describe("The same view's name."),
    df: frame,
    to: z.enum(["online", "online_and_offline"]).optional().describe("Both write the online store and the archive."),
  })
  .openapi("FeastPush");

const time = z.string().describe("ISO 8601; UTC without a zone.");
const materialized = z.array(z.string()).nullable().optional().describe("Batch feature views; all when left out.");
export const feastMaterialize = z
  .object({
    start_ts: time.nullable().optional(),
    end_ts: time.nullable().optional(),
    feature_views: materialized,
    disable_event_timestamp: z
      .boolean()
      .optional()
      .describe("Runs the last whole period, without start_ts and end_ts."),
  })
  .openapi("FeastMaterialize");
export const feastIncremental = z
  .object({ end_ts: time, feature_views: materialized })
  .openapi("FeastMaterializeIncremental");
export const feastMaterializeQuery = z.object({
  async: z.string().optional().describe("true: answers at once."),
  force: z.string().optional().describe("true: beside runs that are under way."),
});
export const feastAccepted = z
  .strictObject({ status: z.literal("accepted"), feature_views: z.array(z.string()) })
  .openapi("FeastAccepted");

export function feastRequests(plan: Plan) {
  const [view] = [...plan.views, ...plan.batchViews];
  const joinKey = plan.entities.find(({ name }) => name === view?.entity)?.joinKey ?? "id";
  return {
    online: z
      .object({
        entities: z
          .record(z.string(), z.array(z.unknown()).min(1).max(MAX_BATCH_ROWS))
          .describe("Join keys and request data; each list has one item for each row."),
        features: z.array(z.string()).max(MAX_FEATURES).optional().describe("Either this or `feature_service`."),
        feature_service: z.string().nullable().optional(),
        full_feature_names: z.boolean().nullable().optional().describe("`view__feature` instead of `feature`."),
      })
      .openapi("FeastOnlineRequest", {
        example: { entities: { [joinKey]: ["c1"] }, features: view?.features.slice(0, 2).map(({ name }) => name) },
      }),
  };
}
