/** The routes of the quarantine in the OpenAPI document. */
import { z } from "@hono/zod-openapi";
import { body, FAILURES, json, keyed, problem, type Route } from "../openapi/route-words.ts";
import * as schemas from "./quarantine-schemas.ts";

const unknown = problem("The tenant has none of this id.");

export function quarantineRoutes(): Route[] {
  const common = { tags: ["Administration"], ...keyed("admin") };
  const changes = (kind: "replay" | "drop", summary: string, description: string): Route => ({
    ...{ method: "post", path: `/v1/quarantine/${kind}`, ...common, summary, description },
    request: body(schemas.changeRequest),
    responses: {
      202: json(schemas.jobAnswer, "It begins within a minute; its address is in `location`."),
      ...FAILURES,
    },
  });
  return [
    {
      ...{ method: "get", path: "/v1/quarantine", ...common },
      summary: "What of the tenant's events was refused, by reason and first bad field",
      request: { query: schemas.groupsQuery },
      responses: { 200: json(schemas.groupsAnswer, "Groups, the largest first."), ...FAILURES },
    },
    {
      ...{ method: "get", path: "/v1/quarantine/records", ...common },
      summary: "Refused records, without their payloads",
      request: { query: schemas.recordsQuery },
      responses: { 200: json(schemas.recordsAnswer, "A page."), ...FAILURES },
    },
    {
      ...{ method: "get", path: "/v1/quarantine/{id}", ...common },
      summary: "One refused record with its payload",
      request: { params: z.object({ id: z.string() }) },
      responses: { 200: json(schemas.recordAnswer, "The record."), ...FAILURES, 404: unknown },
    },
    changes(
      "replay",
      "Deliver refused records again",
      "Each is read with today's contracts and counted with the arrival that it had. Safe to repeat.",
    ),
    changes(
      "drop",
      "Give refused records up",
      "They wait no more; their bytes stay for as long as the bucket keeps them.",
    ),
    {
      ...{ method: "get", path: "/v1/quarantine/jobs/{job}", ...common },
      summary: "How far a replay or a drop is",
      request: { params: z.object({ job: z.string() }) },
      responses: { 200: json(schemas.jobAnswer, "The job."), ...FAILURES, 404: unknown },
    },
  ];
}
