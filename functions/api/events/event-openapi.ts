/** Events in the OpenAPI document. */
import { z } from "@hono/zod-openapi";
import type { Plan } from "../../../core/plan.ts";
import { FAILURES, json, keyed, LIMITED, type Route } from "../openapi/route-words.ts";
import * as schemas from "../openapi/schemas.ts";
import { LABELS } from "./events.ts";

const AVRO = z.string().openapi({ format: "binary" });

export function eventRoutes(plan: Plan, requests: schemas.RequestSchemas): Route[] {
  const sendable = plan.streams.flatMap((stream) => [
    { stream, path: `/v1/events/${stream.name}`, summary: `Send events to ${stream.name}` },
    ...(stream.name === LABELS
      ? [{ stream, path: "/v1/labels", summary: "Send outcomes: the same as /v1/events/labels" }]
      : []),
  ]);
  return sendable.map(
    ({ stream, path, summary }): Route => ({
      ...{ method: "post", path, tags: ["Events"], summary },
      description:
        `One event, an array, or {"events": [...]}, up to 500. Idempotent by \`${stream.eventId}\`: an event that is sent ` +
        "again counts once. Avro bodies hold one record in single-object encoding or a schema registry's framing, or many in a KPL aggregate.",
      ...keyed("write"),
      request: {
        body: {
          required: true,
          content: {
            "application/json": { schema: requests.events[stream.name] },
            "application/vnd.freshet.avro": { schema: AVRO },
          },
        },
      },
      responses: {
        202: json(schemas.eventsAnswer, "Every event was queued."),
        207: json(schemas.eventsAnswer, "Some events were not queued; `results` says which and why."),
        ...FAILURES,
        429: { ...LIMITED, description: "The tenant or the stream is at its limit; nothing was queued." },
      },
    }),
  );
}
