/** Published shapes of a ranking. */
import { z } from "@hono/zod-openapi";
import { KEY_LIMIT } from "../../../core/event.ts";
import type { Plan, Service } from "../../../core/plan.ts";
import { EXAMPLES, pascal, TYPES } from "../events/event-schemas.ts";
import { DEFAULT_RANKED, MAX_CANDIDATES, MAX_EXPLAINED } from "../limits.ts";
import { explanation, key, scoredRow, scoreTail } from "../openapi/schemas.ts";
import { isKeyRequired } from "../reading/selection.ts";

export const rankAnswer = z
  .strictObject({
    items: z
      .array(
        z.strictObject({
          id: z.string(),
          score: z.number().min(0).max(1),
          event_id: z
            .string()
            .describe(
              "Send it as the id of the event that says that the candidate was shown: outcomes are joined by it.",
            ),
          features_missing: z.array(z.string()),
          explanation: explanation.optional().describe("Of the first ten, when asked for."),
        }),
      )
      .describe("The best first; equal scores in the order given."),
    candidates: z.number().int().describe("How many were ranked; an id that came twice is one."),
    model_version: z.string().nullable().describe("Null where there was nothing to rank."),
    variant: z.string().nullable().describe("champion, challenger, or fallback for the rules; the same for all."),
    degraded: scoredRow.degraded,
    degraded_reason: scoredRow.degraded_reason,
    snapshot_age_ms: scoredRow.snapshot_age_ms,
    ...scoreTail,
  })
  .openapi("Ranking");

/** By the names of the plan. @param service one with a candidate */
export function rankRequest(plan: Plan, service: Service) {
  const entities = plan.entities.filter(({ name }) => service.entities.includes(name));
  const candidate = entities.find(({ name }) => name === service.candidate)!;
  const others = entities.filter((entity) => entity !== candidate);
  const id = z.string().min(1).max(KEY_LIMIT).describe(`Id of the ${candidate.name}.`);
  const keys = others.map((entity) => {
    const described = key.describe(`Id of the ${entity.name}.`);
    return [entity.joinKey, isKeyRequired(plan, service, entity) ? described : described.optional()];
  });
  const fields = Object.fromEntries(
    Object.entries(service.request).map(([name, type]) => [name, TYPES[type].nullable().optional()]),
  );
  const own = z
    .object({ [candidate.joinKey]: id, ...fields })
    .describe("With request fields of its own, which go before those of the body.");
  const given = Object.fromEntries(Object.entries(service.request).map(([name, type]) => [name, EXAMPLES[type]]));
  return z
    .object({
      ...Object.fromEntries(keys),
      ...fields,
      candidates: z
        .array(z.union([id, own]))
        .max(MAX_CANDIDATES)
        .describe("What to rank. Each declared request field has to be in the body or in every candidate."),
      k: z
        .number()
        .int()
        .min(1)
        .max(MAX_CANDIDATES)
        .nullable()
        .optional()
        .describe(`How many of the best to answer; ${DEFAULT_RANKED} where it is left out.`),
      variant: z
        .enum(["champion", "challenger", "fallback"])
        .nullable()
        .optional()
        .describe("Overrules the experiment."),
      explain: z
        .union([z.boolean(), z.literal("exact")])
        .optional()
        .describe(`Adds \`explanation\` to the first ${MAX_EXPLAINED}.`),
    })
    .openapi(`${pascal(service.name)}RankRequest`, {
      example: {
        ...Object.fromEntries(others.map(({ joinKey, name }) => [joinKey, `${name[0]}1`])),
        ...given,
        candidates: [`${candidate.name}_1`, { [candidate.joinKey]: `${candidate.name}_2`, ...given }],
        k: 10,
      },
    });
}
