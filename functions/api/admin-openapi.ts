/** The routes of a tenant's administrators in the OpenAPI document. */
import type { createRoute } from "@hono/zod-openapi";
import { auditAnswer, auditQuery } from "./admin-schemas.ts";

type Route = Parameters<typeof createRoute>[0];

const json = (schema: unknown, description: string): any => ({
  description,
  content: { "application/json": { schema } },
});

/** @param failures what any call with a key can answer besides its own result */
export function adminRoutes(keyed: (scope: string) => object, failures: Route["responses"]): Route[] {
  return [
    {
      method: "get",
      path: "/v1/audit",
      tags: ["Administration"],
      summary: "Who changed what in the tenant, and which administrator looked at what",
      ...keyed("admin"),
      request: { query: auditQuery },
      responses: { 200: json(auditAnswer, "A page, newest first."), ...failures },
    },
  ];
}
