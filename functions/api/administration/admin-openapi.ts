/** The routes of a tenant's administrators in the OpenAPI document. */
import { type createRoute, z } from "@hono/zod-openapi";
import { problem } from "../openapi/schemas.ts";
import * as schemas from "./admin-schemas.ts";

const body = (schema: unknown, required = true): any => ({
  body: { required, content: { "application/json": { schema } } },
});

type Route = Parameters<typeof createRoute>[0];

const json = (schema: unknown, description: string): any => ({
  description,
  content: { "application/json": { schema } },
});

const refused = (description: string): any => ({
  description,
  content: { "application/problem+json": { schema: problem } },
});
const id = z.object({ id: z.string() });

/** @param failures what any call with a key can answer besides its own result */
export function adminRoutes(keyed: (scope: string) => object, failures: Route["responses"]): Route[] {
  return [
    {
      method: "post",
      path: "/v1/keys",
      tags: ["Administration"],
      summary: "Make a key of the tenant",
      ...keyed("admin"),
      request: body(schemas.keyRequest),
      responses: {
        201: json(schemas.keyAnswer, "The key, shown this once."),
        ...failures,
        409: refused("The tenant has as many keys as it may."),
      },
    },
    {
      method: "get",
      path: "/v1/keys",
      tags: ["Administration"],
      summary: "The tenant's keys, never their secrets",
      ...keyed("admin"),
      responses: { 200: json(schemas.keysAnswer, "All of them."), ...failures },
    },
    {
      method: "post",
      path: "/v1/keys/{id}/rotate",
      tags: ["Administration"],
      summary: "Make a key that takes over from another",
      description: "Same name and scopes, and as long a life. The old key stays good for the overlap.",
      ...keyed("admin"),
      request: { params: id, ...body(schemas.rotateRequest, false) },
      responses: {
        201: json(schemas.rotatedAnswer, "The new key, shown this once, and when the old one ends."),
        ...failures,
        409: refused("The key has expired, or its rotation or the one before is under way."),
      },
    },
    {
      method: "delete",
      path: "/v1/keys/{id}",
      tags: ["Administration"],
      summary: "End a key at once",
      ...keyed("admin"),
      request: { params: id },
      responses: {
        200: json(schemas.revokedAnswer, "It is gone; hosts that know it refuse it within the time given."),
        ...failures,
        409: refused("It is the last key that can manage the tenant's keys."),
      },
    },
    {
      method: "post",
      path: "/v1/erasures",
      tags: ["Administration"],
      summary: "Have entities erased from everything that holds them",
      description:
        "Answered alike whether or not anything is known of them. See docs/erasure.md for what becomes of what.",
      ...keyed("admin"),
      request: body(schemas.erasureRequest),
      responses: {
        202: json(schemas.erasureAnswer, "It has been taken, and begins within seconds."),
        ...failures,
        404: refused("There is no such entity type."),
      },
    },
    {
      method: "get",
      path: "/v1/erasures",
      tags: ["Administration"],
      summary: "The tenant's erasures, newest first",
      ...keyed("admin"),
      request: { query: schemas.erasuresQuery },
      responses: { 200: json(schemas.erasuresAnswer, "The newest of them."), ...failures },
    },
    {
      method: "get",
      path: "/v1/erasures/{id}",
      tags: ["Administration"],
      summary: "How far an erasure is, and what was found where",
      ...keyed("admin"),
      request: { params: id },
      responses: {
        200: json(schemas.erasureAnswer, "The record of it."),
        ...failures,
        404: refused("No such erasure."),
      },
    },
    {
      method: "get",
      path: "/v1/audit",
      tags: ["Administration"],
      summary: "Who changed what in the tenant, and which administrator looked at what",
      ...keyed("admin"),
      request: { query: schemas.auditQuery },
      responses: { 200: json(schemas.auditAnswer, "A page, newest first."), ...failures },
    },
  ];
}
