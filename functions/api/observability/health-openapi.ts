/** What needs no key in the OpenAPI document. */
import { z } from "@hono/zod-openapi";
import { json, problem, type Route } from "../openapi/route-words.ts";
import * as schemas from "../openapi/schemas.ts";

const open = (path: string, summary: string, responses: Route["responses"]): Route => ({
  ...{ method: "get", path, tags: ["Operations"], summary, responses },
});

export function healthRoutes(): Route[] {
  return [
    open("/health", "Is the process alive?", { 200: json(schemas.healthAnswer, "It is.") }),
    open("/ready", "Can it serve whole answers?", {
      200: json(schemas.readyAnswer, "It can."),
      503: problem("It cannot; `detail` and `repair` say why and what to do."),
    }),
    open("/metrics", "Prometheus metrics", {
      200: { description: "Text exposition format.", content: { "text/plain": { schema: z.string() } } },
    }),
  ];
}
