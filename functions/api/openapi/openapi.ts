/** The OpenAPI 3.1 document, made from the plan on first request: nothing of it is on the path of other calls. */
import { createRoute, OpenAPIHono } from "@hono/zod-openapi";
import type { Plan } from "../../../core/plan.ts";
import { adminRoutes } from "../administration/admin-openapi.ts";
import { quarantineRoutes } from "../administration/quarantine-openapi.ts";
import { catalogueRoutes } from "../catalogue/catalogue-openapi.ts";
import { eventRoutes } from "../events/event-openapi.ts";
import { feastRoutes } from "../feast/openapi.ts";
import { historicalRoutes } from "../historical/historical-openapi.ts";
import { healthRoutes } from "../observability/health-openapi.ts";
import { PROBLEMS } from "../problems.ts";
import { readingRoutes } from "../reading/reading-openapi.ts";
import { pushedRoutes } from "../registered/pushed-openapi.ts";
import { modelRoutes, scoringRoutes } from "../scoring/scoring-openapi.ts";
import { familiarRoutes } from "./familiar-openapi.ts";
import { LIMITED } from "./route-words.ts";
import { requestSchemas } from "./schemas.ts";

export function createOpenApiDocument(plan: Plan, version: string): object {
  const app = new OpenAPIHono();
  const registry = app.openAPIRegistry;
  registry.registerComponent("securitySchemes", "apiKey", { type: "apiKey", in: "header", name: "x-api-key" });
  const requests = requestSchemas(plan);
  const routes = [
    ...eventRoutes(plan, requests),
    ...readingRoutes(plan, requests),
    ...historicalRoutes(),
    ...pushedRoutes(plan),
    ...catalogueRoutes(),
    ...familiarRoutes(plan, requests),
    ...scoringRoutes(plan, requests),
    ...modelRoutes(plan),
    ...feastRoutes(plan),
    ...adminRoutes(),
    ...quarantineRoutes(),
    ...healthRoutes(),
  ];
  for (const route of routes) {
    const isKeyed = route.security !== undefined;
    registry.registerPath(createRoute(isKeyed ? { ...route, responses: { 429: LIMITED, ...route.responses } } : route));
  }
  return app.getOpenAPI31Document({
    openapi: "3.1.0",
    info: {
      title: "Freshet",
      version,
      description: `Streaming features and scores. Plan ${plan.hash}. Errors are RFC 9457 problem documents.`,
    },
    servers: [{ url: "." }],
    "x-problem-codes": Object.fromEntries(Object.entries(PROBLEMS).map(([code, { status }]) => [code, status])),
  } as any);
}
