/** The catalogue in the OpenAPI document. */
import { z } from "@hono/zod-openapi";
import { FAILURES, json, keyed, type Route } from "../openapi/route-words.ts";
import { catalogueAnswer, catalogueQuery, featureAnswer } from "./catalogue-schemas.ts";

export function catalogueRoutes(): Route[] {
  return [
    {
      method: "get",
      path: "/v1/features",
      tags: ["Features"],
      summary: "The catalogue: declared features and those that the tenant has registered",
      ...keyed("read"),
      request: { query: catalogueQuery },
      responses: { 200: json(catalogueAnswer, "A page of it, by name."), ...FAILURES },
    },
    {
      method: "get",
      path: "/v1/features/{name}",
      tags: ["Features"],
      summary: "What is known of a feature: how it comes about, who uses it, what was served of it",
      ...keyed("read"),
      request: { params: z.object({ name: z.string() }) },
      responses: { 200: json(featureAnswer, "The feature."), ...FAILURES },
    },
  ];
}
