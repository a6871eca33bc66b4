/** The routes of the quarantine in the OpenAPI document. */
import { type createRoute, z } from "@hono/zod-openapi";
import { problem } from "../openapi/schemas.ts";
import * as schemas from "./quarantine-schemas.ts";

type Route = Parameters<typeof createRoute>[0];

const json = (schema: unknown, description: string): any => ({
  description,
  content: { "application/json": { schema } },
});
const unknown: any = {
  description: "The tenant has none of this id.",
  content: { "application/problem+json": { schema: problem } },
};
const change: any = { body: { required: true, content: { "application/json": { schema: schemas.changeRequest } } } };

/** @param failures what any call with a key can answer besides its own result */
export function quarantineRoutes(keyed: (scope: string) => object, failures: Route["responses"]): Route[] {
  const common = { tags: ["Administration"], ...keyed("admin") };
  const changes = (kind: "replay" | "drop", summary: string, description: string): Route => ({
    ...{ method: "post", path: `/v1/quarantine/${kind}`, ...common, summary, description },
    request: change,
    responses: {
      202: json(schemas.jobAnswer, "It begins within a minute; its address is in `location`."),
      ...failures,
    },
  });
  return [
    {
      ...{ method: "get", path: "/v1/quarantine", ...common },
      summary: "What of the tenant's events was refused, by reason and first bad field",
      request: { query: schemas.groupsQuery },
      responses: { 200: json(schemas.groupsAnswer, "Groups, the largest first."), ...failures },
    },
    {
      ...{ method: "get", path: "/v1/quarantine/records", ...common },
      summary: "Refused records, without their payloads",
      request: { query: schemas.recordsQuery },
      responses: { 200: json(schemas.recordsAnswer, "A page."), ...failures },
    },
    {
      ...{ method: "get", path: "/v1/quarantine/{id}", ...common },
      summary: "One refused record with its payload",
      request: { params: z.object({ id: z.string() }) },
      responses: { 200: json(schemas.recordAnswer, "The record."), ...failures, 404: unknown },
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
      responses: { 200: json(schemas.jobAnswer, "The job."), ...failures, 404: unknown },
    },
  ];
}
