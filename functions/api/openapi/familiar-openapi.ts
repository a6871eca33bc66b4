/** The familiar addresses in the published contract. */
import { z } from "@hono/zod-openapi";
import type { Plan } from "../../../core/plan.ts";
import { catalogueAnswer, catalogueQuery, featureAnswer } from "../catalogue/catalogue-schemas.ts";
import { registeredAnswer, registerRequest } from "../registered/pushed-schemas.ts";
import { UNSERVED } from "../scoring/scoring-openapi.ts";
import { body, FAILURES, json, keyed, problem, type Route } from "./route-words.ts";
import * as schemas from "./schemas.ts";

export const rebuildAnswer = z.object({
  job: z.string(),
  state: z.enum(["queued", "running"]),
  entities: z.array(z.string()),
  id: z.string(),
  request_id: z.string(),
});

export function familiarRoutes(plan: Plan, requests: schemas.RequestSchemas): Route[] {
  const same = (address: string) => ({ tags: ["Familiar addresses"], summary: `The same as ${address}` });
  const entity = z.enum(plan.entities.map(({ name }) => name));
  const rebuild = {
    tags: ["Features"],
    summary: "Rebuild an entity's sealed tiles from the archive",
    description:
      "Values are no cached copies, so a read after an acknowledged write needs no invalidation; this mends an entity that is wrong. " +
      "A function does it, in seconds to minutes. While one is under way the same job is answered.",
    ...keyed("admin"),
    responses: { 202: json(rebuildAnswer, "It is queued, or under way."), ...FAILURES },
  };
  return [
    {
      method: "post",
      path: "/api/v1/features/online",
      ...{ ...same("POST /v1/features/online"), ...keyed("read"), request: body(requests.online) },
      responses: { 200: json(schemas.onlineAnswer, "Values by feature name."), ...FAILURES },
    },
    {
      method: "post",
      path: "/api/v1/features/batch",
      ...{ ...same("POST /v1/features/batch"), ...keyed("read"), request: body(requests.batch) },
      responses: { 200: json(schemas.batchAnswer, "One row of arrays for each row given."), ...FAILURES },
    },
    {
      method: "post",
      path: "/api/v1/features/register",
      ...{ ...same("POST /v1/features/register"), ...keyed("admin"), request: body(registerRequest(plan)) },
      responses: {
        200: json(registeredAnswer, "It is registered already, or was changed."),
        201: json(registeredAnswer, "It was registered."),
        ...FAILURES,
        409: problem("It is registered otherwise, its view is declared, or there are too many."),
      },
    },
    {
      method: "get",
      path: "/api/v1/features",
      ...{ ...same("GET /v1/features"), ...keyed("read"), request: { query: catalogueQuery } },
      responses: { 200: json(catalogueAnswer, "A page of it, by name."), ...FAILURES },
    },
    {
      method: "get",
      path: "/api/v1/features/{name}",
      ...{ ...same("GET /v1/features/{name}"), ...keyed("read") },
      request: { params: z.object({ name: z.string() }) },
      responses: { 200: json(featureAnswer, "The feature."), ...FAILURES },
    },
    {
      method: "get",
      path: "/api/v1/features/{entity}/{id}",
      ...{ ...same("GET /v1/features/{entity}/{id}"), ...keyed("read") },
      request: { params: z.object({ entity, id: z.string() }) },
      responses: { 200: json(schemas.entityAnswer, "Values by feature name."), ...FAILURES },
    },
    {
      method: "delete",
      path: "/v1/cache/{entity}/{id}",
      ...rebuild,
      request: { params: z.object({ entity, id: z.string() }) },
    },
    {
      method: "delete",
      path: "/api/v1/cache/invalidate/{id}",
      ...rebuild,
      ...same("DELETE /v1/cache/{entity}/{id}"),
      request: { params: z.object({ id: z.string() }) },
    },
    ...plan.services.map(
      ({ name }): Route => ({
        method: "post",
        path: `/score/${name}`,
        ...{ ...same(`POST /v1/score/${name}`), ...keyed("score"), request: body(z.looseObject({})) },
        description: "But that join keys and request fields which the body lacks are taken as null.",
        responses: {
          200: json(schemas.scoreAnswer, "The score."),
          ...FAILURES,
          409: UNSERVED,
        },
      }),
    ),
  ];
}
