/** Scores, rankings and models in the OpenAPI document. */
import { z } from "@hono/zod-openapi";
import type { Plan } from "../../../core/plan.ts";
import { body, FAILURES, json, keyed, problem, type Route } from "../openapi/route-words.ts";
import * as schemas from "../openapi/schemas.ts";
import { rankAnswer, rankRequest } from "./rank-schemas.ts";

export const UNSERVED = problem("The service has neither model nor fallback, or not the variant asked for.");

export function scoringRoutes(plan: Plan, requests: schemas.RequestSchemas): Route[] {
  const scored = plan.services.flatMap((service): Route[] => [
    {
      method: "post",
      path: `/v1/score/${service.name}`,
      tags: ["Scores"],
      summary: `Score with ${service.name}`,
      description:
        "A flat body: join keys and request fields; other fields are ignored. Score before you send the event. " +
        "Missing features never fail the call: see `features_missing` and `degraded`.",
      ...keyed("score"),
      request: body(requests.score[service.name]),
      responses: {
        200: json(schemas.scoreAnswer, "The score."),
        ...FAILURES,
        409: UNSERVED,
      },
    },
    {
      method: "post",
      path: `/v1/score/${service.name}/batch`,
      tags: ["Scores"],
      summary: `Score up to 100 rows with ${service.name}`,
      description: "Each row as the body of a single score, without `explain`. One read, one run of each model.",
      ...keyed("score"),
      request: body(requests.scoreBatch[service.name]),
      responses: {
        200: json(schemas.batchScoreAnswer, "A score for each row."),
        ...FAILURES,
        409: UNSERVED,
      },
    },
  ]);
  const ranking = plan.services.filter(({ candidate }) => candidate !== undefined);
  const ranked = ranking.map(
    (service): Route => ({
      method: "post",
      path: `/v1/rank/${service.name}`,
      tags: ["Scores"],
      summary: `Rank candidates with ${service.name}`,
      description:
        "Up to 500 candidates in the order of their scores: one read, one variant of the model for all. Candidates that " +
        "nothing is known of are ranked too. What is answered is logged, and so counts in experiments.",
      ...keyed("score"),
      request: body(rankRequest(plan, service)),
      responses: {
        200: json(rankAnswer, "The best candidates."),
        ...FAILURES,
        409: problem("The service does not rank, has neither model nor fallback, or not the variant asked for."),
      },
    }),
  );
  return [...scored, ...ranked];
}

export function modelRoutes(plan: Plan): Route[] {
  return [
    {
      method: "get",
      path: "/v1/models",
      tags: ["Models"],
      summary: "Versions and aliases of the tenant's models",
      ...keyed("admin"),
      responses: { 200: json(schemas.modelsAnswer, "One model for each service."), ...FAILURES },
    },
    {
      method: "post",
      path: "/v1/models/{name}/aliases/{alias}",
      tags: ["Models"],
      summary: "Give an alias to a version, or roll the champion back",
      description: "A champion's goes through the gate. It scores within five seconds, on every host.",
      ...keyed("admin"),
      request: {
        params: z.object({
          name: z.enum(plan.services.map(({ name }) => name)),
          alias: z.enum(["champion", "challenger", "shadow"]),
        }),
        ...body(schemas.aliasRequest),
      },
      responses: {
        200: json(schemas.aliasAnswer, "The change."),
        ...FAILURES,
        409: problem("The gate refuses, the alias stands already, or somebody else has changed it meanwhile."),
      },
    },
  ];
}
