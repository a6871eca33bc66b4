/** The routes of Feast's contract in the OpenAPI document. */
import type { createRoute } from "@hono/zod-openapi";
import type { Plan } from "../../../core/plan.ts";
import { feastError, feastOnlineAnswer, feastRequests } from "./schemas.ts";

type Route = Parameters<typeof createRoute>[0];

const refused = (description: string) => ({ description, content: { "application/json": { schema: feastError } } });
const FAILURES = {
  401: refused("The API key is missing, unknown or expired. It may be sent as a bearer token."),
  403: refused("The API key lacks the scope."),
  404: refused("The view, feature or service does not exist, or request data is missing."),
  413: refused("The body is too large."),
  422: refused("The request breaks a rule; `code`, `field` and `repair` say which and what to do."),
  429: refused("The tenant is at its limit; `Retry-After` says how many seconds to wait."),
  503: refused("A dependency does not answer; try again."),
};

export function feastRoutes(plan: Plan, keyed: (scope: string) => object): Route[] {
  const requests = feastRequests(plan);
  return [
    {
      method: "post",
      path: "/get-online-features",
      tags: ["Feast"],
      summary: "Read features by Feast's contract",
      description: "What Feast's own clients send and expect. On-demand features of a service are named after it.",
      ...keyed("read"),
      request: { body: { required: true, content: { "application/json": { schema: requests.online } } } },
      responses: {
        200: { description: "Columns.", content: { "application/json": { schema: feastOnlineAnswer } } },
        ...FAILURES,
      },
    },
  ];
}
