/** Reads of features in the OpenAPI document. */
import { z } from "@hono/zod-openapi";
import type { Plan } from "../../../core/plan.ts";
import { contextAnswer, contextQuery } from "../catalogue/catalogue-schemas.ts";
import { body, FAILURES, json, keyed, type Route } from "../openapi/route-words.ts";
import * as schemas from "../openapi/schemas.ts";

export function readingRoutes(plan: Plan, requests: schemas.RequestSchemas): Route[] {
  const entity = z.enum(plan.entities.map(({ name }) => name));
  return [
    {
      method: "post",
      path: "/v1/features/online",
      tags: ["Features"],
      summary: "Read features of one set of entities",
      ...keyed("read"),
      request: body(requests.online),
      responses: { 200: json(schemas.onlineAnswer, "Values by feature name."), ...FAILURES },
    },
    {
      method: "post",
      path: "/v1/features/batch",
      tags: ["Features"],
      summary: "Read the same features for up to 100 rows",
      ...keyed("read"),
      request: body(requests.batch),
      responses: { 200: json(schemas.batchAnswer, "One row of arrays for each row given."), ...FAILURES },
    },
    {
      method: "get",
      path: "/v1/features/{entity}/{id}",
      tags: ["Features"],
      summary: "Read everything known of one entity",
      ...keyed("read"),
      request: { params: z.object({ entity, id: z.string() }) },
      responses: { 200: json(schemas.entityAnswer, "Values by feature name."), ...FAILURES },
    },
    {
      method: "get",
      path: "/v1/context/{entity}/{id}",
      tags: ["Features"],
      summary: "What is known of an entity, as text for a language model's prompt",
      description:
        "Whole lines within a budget of tokens, the most informative first, with descriptions, units and ages in words; " +
        "the last line says how much was left out. Texts are quoted: no value can pass for another line.",
      ...keyed("read"),
      request: {
        params: z.object({ entity, id: z.string() }),
        query: contextQuery,
      },
      responses: {
        200: {
          description: "The context.",
          content: {
            "text/plain": { schema: z.string() },
            "text/markdown": { schema: z.string() },
            "application/json": { schema: contextAnswer },
          },
        },
        ...FAILURES,
      },
    },
  ];
}
