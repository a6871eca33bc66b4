/** The HTTP contract's shapes in zod: the source of the OpenAPI document, and what the contract suite holds answers to. */
import { z } from "@hono/zod-openapi";
import { KEY_LIMIT } from "../../../core/event.ts";
import type { Plan, Service } from "../../../core/plan.ts";
import { EXAMPLES, eventsRequest, pascal, TYPES } from "../events/event-schemas.ts";
import { MAX_BATCH_ROWS, MAX_FEATURES } from "../limits.ts";
import { isKeyRequired } from "../reading/selection.ts";

const scalar = z.union([z.number(), z.string(), z.boolean(), z.null()]);
const value = z.union([scalar, z.array(scalar)]).describe("A list for lastN and topK.");
const requestId = z.string().describe("Also in the header x-request-id; name it when you ask for help.");

export const problem = z
  .looseObject({
    type: z.string().describe("`urn:freshet:problem:` and the code."),
    title: z.string(),
    status: z.number().int(),
    detail: z.string().describe("What was given and which rule it broke."),
    code: z.string().describe("Stable; the table of codes is in docs/api.md."),
    field: z.string().optional().describe("Path of the offending field."),
    repair: z.string().optional().describe("What to do about it."),
    request_id: requestId,
  })
  .openapi("Problem");

const eventResult = z
  .strictObject({
    index: z.number().int(),
    event_id: z.string().nullable(),
    status: z.enum(["queued", "invalid", "throttled"]),
    enriched: z.boolean().optional().describe("Only on streams with lookups: whether every one of them had a value."),
    not_enriched: z
      .record(
        z.string(),
        z.enum([
          "NULL_VALUE",
          "NOT_FOUND",
          "OUTSIDE_MAX_AGE",
          "NOT_READY",
          "KEY_MISSING",
          "STORE_UNAVAILABLE",
          "VALUE_REFUSED",
        ]),
      )
      .optional()
      .describe("Fields that were recorded as null, and why."),
    code: z.string().optional(),
    field: z.string().optional(),
    detail: z.string().optional(),
    repair: z.string().optional(),
  })
  .openapi("EventResult");

export const eventsAnswer = z
  .strictObject({
    stream: z.string(),
    queued: z.number().int(),
    invalid: z.number().int(),
    throttled: z.number().int(),
    results: z.array(eventResult).describe("One for each event, in the order given."),
    request_id: requestId,
  })
  .openapi("EventsAnswer");

const status = z
  .enum(["PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE", "NOT_READY"])
  .describe(
    "NOT_FOUND: no event of the entity is visible. NULL_VALUE: none in this window. NOT_READY: still being built.",
  );
const eventTime = z.number().int().nullable().describe("Newest event time behind the value, epoch milliseconds.");
const featureValue = z.strictObject({ value, status, event_time_ms: eventTime }).openapi("FeatureValue");

const snapshotAge = z.number().int().optional().describe("Of the oldest snapshot that stood in for the store.");
const readTail = {
  as_of_ms: z.number().int().describe("The clock of the read; windows end here."),
  degraded: z.boolean(),
  degraded_reason: z.string().nullable(),
  snapshot_age_ms: snapshotAge,
  warnings: z
    .array(z.strictObject({ code: z.string(), feature: z.string(), date: z.string(), use: z.string().nullable() }))
    .optional()
    .describe("Features that are on their way out; the header Deprecation has the first date."),
  request_id: requestId,
};
export const onlineAnswer = z
  .strictObject({ features: z.record(z.string(), featureValue), ...readTail })
  .openapi("OnlineFeatures");
export const entityAnswer = z
  .strictObject({ entity: z.string(), id: z.string(), features: z.record(z.string(), featureValue), ...readTail })
  .openapi("EntityFeatures");
export const batchAnswer = z
  .strictObject({
    features: z.array(z.string()),
    rows: z.array(
      z.strictObject({ values: z.array(value), statuses: z.array(status), event_times_ms: z.array(eventTime) }),
    ),
    ...readTail,
  })
  .describe("Arrays of a row are aligned with `features`.")
  .openapi("BatchFeatures");

export const explanation = z
  .strictObject({
    method: z
      .enum(["rules", "path", "shap"])
      .describe("path: along the decision path; shap: exact Shapley values. Both in log-odds."),
    base: z.number().describe("Of rules the score when none fires; of a model its mean, in log-odds."),
    raw_score: z.number().nullable().describe("Of a model: the score in log-odds, base + all contributions."),
    contributions: z
      .array(
        z.strictObject({
          name: z.string(),
          contribution: z.number(),
          value: scalar.optional().describe("Of a model: the input."),
          reason: z.string().optional().describe("Of rules."),
          weight: z.number().optional().describe("Of rules."),
        }),
      )
      .describe("Rules that fired, adding up to score - base; or features, adding up to raw_score - base."),
    reasons: z
      .array(z.strictObject({ name: z.string(), text: z.string(), contribution: z.number() }))
      .describe("What raised the score, in words; of a model at most five features."),
    features: z.record(z.string(), scalar),
  })
  .openapi("Explanation");

export const scoredRow = {
  score: z.number().min(0).max(1),
  decision: z.enum(["approve", "review", "decline"]),
  model_version: z.string(),
  variant: z.string().describe("champion, challenger, or fallback for the rules."),
  features_used: z.array(z.string()),
  features_missing: z.array(z.string()).describe("Had no value; a declared default stood in where there is one."),
  degraded: z
    .boolean()
    .describe(
      "The online store did not answer or may lag behind what was acknowledged, or the model was not to be had.",
    ),
  degraded_reason: z.string().nullable(),
  snapshot_age_ms: snapshotAge,
};
export const scoreTail = { latency_ms: z.number().min(0), as_of_ms: z.number().int(), request_id: requestId };

export const batchScoreAnswer = z
  .strictObject({ rows: z.array(z.strictObject(scoredRow)).describe("In the order given."), ...scoreTail })
  .openapi("BatchScore");

const metrics = z.record(z.string(), z.number().nullable());
const version = z.number().int().nullable();
export const modelsAnswer = z
  .strictObject({
    models: z.array(
      z.strictObject({
        name: z.string().describe("The service that it scores for."),
        aliases: z.strictObject({ champion: version, challenger: version, shadow: version }),
        challenger_share: z.number().nullable().describe("Null for the service's own setting."),
        serving: z
          .strictObject({
            champion: z.string().nullable(),
            challenger: z.string().nullable(),
            shadow: z.string().nullable(),
          })
          .describe("What the process that answers scores with; it follows the aliases within seconds."),
        versions: z.array(
          z.strictObject({
            version: z.number().int(),
            model: z.string(),
            metrics,
            plan_hash: z.string(),
            git_commit: z.string().nullable(),
            created_ms: z.number().int(),
            registered_ms: z.number().int(),
            by: z.string(),
          }),
        ),
      }),
    ),
  })
  .openapi("Models");

export const aliasAnswer = z
  .strictObject({
    alias: z.string(),
    from: version,
    to: version,
    kind: z.enum(["promote", "rollback"]),
    forced: z.boolean().describe("The gate refused and was overruled."),
    reason: z
      .string()
      .nullable()
      .describe("Why the gate refused, where it was overruled; else what its comparison could not tell, if anything."),
    request_id: requestId,
  })
  .openapi("AliasChange");

export const aliasRequest = z
  .object({
    version: z
      .number()
      .int()
      .min(1)
      .nullable()
      .optional()
      .describe("Null takes a challenger's or shadow's alias away."),
    share: z.number().min(0).max(1).nullable().optional().describe("Of a challenger: its share of traffic."),
    force: z.boolean().optional().describe("Overrules the gate; the history keeps that."),
    rollback: z.boolean().optional().describe("Instead of a version: the champion before the present one."),
  })
  .openapi("AliasRequest");

export const scoreAnswer = z
  .strictObject({ ...scoredRow, explanation: explanation.optional(), ...scoreTail })
  .openapi("Score");

export const readyAnswer = z
  .strictObject({
    status: z.enum(["ready", "degraded"]),
    reason: z.string().optional(),
    repair: z.string().nullable().optional(),
    checks: z.strictObject({
      online_store: z.strictObject({
        reachable: z.boolean(),
        control: z.string(),
        full: z.boolean(),
        seals_ms: z.record(z.string(), z.number()),
      }),
      breakers: z
        .strictObject({ store: z.enum(["open", "closed"]), snapshots: z.enum(["open", "closed"]) })
        .optional()
        .describe("What calls are kept from, because it does not answer."),
      plan: z.strictObject({ hash: z.string(), services: z.array(z.string()) }),
      models: z
        .strictObject({
          polled_ms: z.number().int().nullable(),
          loaded: z.number().int(),
          refused: z
            .record(z.string(), z.number().int())
            .describe("How many aliases name a model that is not served, by code."),
        })
        .optional(),
    }),
  })
  .openapi("Ready");

export const healthAnswer = z.strictObject({ status: z.literal("ok") }).openapi("Health");

export const key = z.string().min(1).max(KEY_LIMIT).nullable();

/** Bodies that depend on the plan: every join key, stream and service by its own name. */
export function requestSchemas(plan: Plan) {
  const entities = z.strictObject(
    Object.fromEntries(
      plan.entities.map(({ joinKey, name }) => [joinKey, key.optional().describe(`Id of the ${name}.`)]),
    ),
  );
  const features = z
    .array(z.string())
    .min(1)
    .max(MAX_FEATURES)
    .optional()
    .describe("Full names; either this or `service`.");
  const service = z.string().optional().describe("All features of a service.");
  // One of two members: zod has no word for it that keeps both documented.
  const oneOf = { oneOf: [{ required: ["features"] }, { required: ["service"] }] };
  const names = plan.views[0]?.features.slice(0, 2).map(({ name }) => name);
  const row = { [plan.entities[0]?.joinKey ?? "id"]: "c1" };
  return {
    online: z
      .strictObject({
        entities,
        features,
        service,
        request: z
          .record(z.string(), z.unknown())
          .optional()
          .describe("With `service`, and all of its request fields: also answers on-demand features."),
      })
      .openapi("OnlineRequest", { ...oneOf, example: { entities: row, features: names } }),
    batch: z
      .strictObject({ entities: z.array(entities).min(1).max(MAX_BATCH_ROWS), features, service })
      .openapi("BatchRequest", { ...oneOf, example: { entities: [row, row], features: names } }),
    events: Object.fromEntries(plan.streams.map((stream) => [stream.name, eventsRequest(plan, stream)])),
    score: Object.fromEntries(plan.services.map((one) => [one.name, scoreRequest(plan, one).one])),
    scoreBatch: Object.fromEntries(plan.services.map((one) => [one.name, scoreRequest(plan, one).batch])),
  };
}

export type RequestSchemas = ReturnType<typeof requestSchemas>;

function scoreRequest(plan: Plan, service: Service) {
  const entities = plan.entities.filter(({ name }) => service.entities.includes(name));
  const keys = entities.map((entity) => {
    const described = key.describe(`Id of the ${entity.name}.`);
    return [entity.joinKey, isKeyRequired(plan, service, entity) ? described : described.optional()];
  });
  const fields = Object.entries(service.request).map(([name, type]) => [name, TYPES[type].nullable()]);
  const example = [
    ...entities.map(({ joinKey, name }) => [joinKey, `${name[0]}1`]),
    ...Object.entries(service.request).map(([name, type]) => [name, EXAMPLES[type]]),
  ];
  const variant = {
    variant: z.enum(["champion", "challenger", "fallback"]).nullable().optional().describe("Overrules the experiment."),
  };
  const one = z
    .object({
      ...Object.fromEntries(keys),
      ...Object.fromEntries(fields),
      ...variant,
      explain: z
        .union([z.boolean(), z.literal("exact")])
        .optional()
        .describe("Adds `explanation`; exact: with Shapley values, which take milliseconds."),
    })
    .openapi(`${pascal(service.name)}ScoreRequest`, { example: { ...Object.fromEntries(example), explain: true } });
  const row = z.object({ ...Object.fromEntries(keys), ...Object.fromEntries(fields), ...variant });
  const batch = z
    .object({ rows: z.array(row).min(1).max(MAX_BATCH_ROWS) })
    .openapi(`${pascal(service.name)}BatchScoreRequest`, { example: { rows: [Object.fromEntries(example)] } });
  return { one, batch };
}
