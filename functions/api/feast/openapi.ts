/** The routes of Feast's contract in the OpenAPI document. */
import { z } from "@hono/zod-openapi";
import type { Plan } from "../../../core/plan.ts";
import { body, json, keyed, type Route } from "../openapi/route-words.ts";
import * as schemas from "./schemas.ts";

const refused = (description: string) => json(schemas.feastError, description);
const FAILURES = {
  401: refused("The API key is missing, unknown or expired. It may be sent as a bearer token."),
  403: refused("The API key lacks the scope."),
  404: refused("The view, feature or service does not exist, or request data is missing."),
  413: refused("The body is too large."),
  415: refused("The body is compressed with something else than gzip or deflate."),
  422: refused("The request breaks a rule; `code`, `field` and `repair` say which and what to do."),
  429: refused("The tenant is at its limit; `Retry-After` says how many seconds to wait."),
  500: refused("Something failed on our side."),
  503: refused("A dependency does not answer; try again."),
};

export function feastRoutes(plan: Plan): Route[] {
  const requests = schemas.feastRequests(plan);
  return [
    {
      method: "post",
      path: "/get-online-features",
      tags: ["Feast"],
      summary: "Read features by Feast's contract",
      description: "What Feast's own clients send and expect. On-demand features of a service are named after it.",
      ...keyed("read"),
      request: body(requests.online),
      responses: {
        200: json(schemas.feastOnlineAnswer, "Columns."),
        ...FAILURES,
      },
    },
    {
      method: "post",
      path: "/write-to-online-store",
      tags: ["Feast"],
      summary: "Write columns of values by Feast's contract",
      description: "Pushes to registered features. A row that is refused fails the call; the others are stored.",
      ...keyed("write"),
      request: body(schemas.feastWrite),
      responses: {
        200: json(z.null(), "All is stored."),
        ...FAILURES,
      },
    },
    {
      method: "post",
      path: "/push",
      tags: ["Feast"],
      summary: "Push columns of values by Feast's contract",
      description: "The same as /write-to-online-store, by the name of a push source: the view's own.",
      ...keyed("write"),
      request: body(schemas.feastPush),
      responses: { 200: { description: "All is stored; the body is empty." }, ...FAILURES },
    },
    ...(["/materialize", "/materialize-incremental"] as const).map(
      (path): Route => ({
        method: "post",
        path,
        tags: ["Feast"],
        summary:
          path === "/materialize"
            ? "Run batch feature views over a range, by Feast's contract"
            : "Run batch feature views from where they are, by Feast's contract",
        description:
          "For the caller's tenant. Waits up to 20 seconds for the end, unless `async` is true; then the runs go on by themselves.",
        ...keyed("admin"),
        request: {
          query: schemas.feastMaterializeQuery,
          ...body(path === "/materialize" ? schemas.feastMaterialize : schemas.feastIncremental),
        },
        responses: {
          200: json(z.null(), "All runs are done."),
          202: json(schemas.feastAccepted, "The runs go on."),
          ...FAILURES,
          409: json(schemas.feastRunning, "A view is being materialized; only with `async`."),
          500: refused("A run failed, and the message says why; or something failed on our side."),
        },
      }),
    ),
  ];
}
