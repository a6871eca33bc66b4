/** Point-in-time joins in the OpenAPI document. */
import { z } from "@hono/zod-openapi";
import { body, FAILURES, json, keyed, problem, type Route } from "../openapi/route-words.ts";
import { historicalRequest, jobAnswer } from "./historical-schemas.ts";

export function historicalRoutes(): Route[] {
  return [
    {
      method: "post",
      path: "/v1/features/historical",
      tags: ["Features"],
      summary: "Start a point-in-time join",
      description:
        "Features as they were at each labelled event of the service, or at rows of your own, as Parquet with a manifest. " +
        "The answer names a job; its files can be fetched when it is done.",
      ...keyed("read"),
      request: body(historicalRequest),
      responses: { 202: json(jobAnswer, "The job was taken."), ...FAILURES },
    },
    {
      method: "get",
      path: "/v1/features/historical/{job}",
      tags: ["Features"],
      summary: "How far a point-in-time join is, and where its files are",
      ...keyed("read"),
      request: { params: z.object({ job: z.string() }) },
      responses: { 200: json(jobAnswer, "State, progress, and addresses that need no key for an hour."), ...FAILURES },
    },
    {
      method: "delete",
      path: "/v1/features/historical/{job}",
      tags: ["Features"],
      summary: "Cancel a point-in-time join",
      description:
        "Ends a job that waits or runs, and what it has begun; nothing of it is kept. To cancel it again changes nothing.",
      ...keyed("read"),
      request: { params: z.object({ job: z.string() }) },
      responses: {
        200: json(jobAnswer, "It is cancelled."),
        ...FAILURES,
        409: problem("The job is done, or has failed."),
      },
    },
  ];
}
