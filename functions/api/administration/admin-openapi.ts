/** The routes of a tenant's administrators in the OpenAPI document. */
import { z } from "@hono/zod-openapi";
import { body, FAILURES, json, keyed, problem, type Route } from "../openapi/route-words.ts";
import * as schemas from "./admin-schemas.ts";

const id = z.object({ id: z.string() });

export function adminRoutes(): Route[] {
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
        ...FAILURES,
        409: problem("The tenant has as many keys as it may."),
      },
    },
    {
      method: "get",
      path: "/v1/keys",
      tags: ["Administration"],
      summary: "The tenant's keys, never their secrets",
      ...keyed("admin"),
      responses: { 200: json(schemas.keysAnswer, "All of them."), ...FAILURES },
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
        ...FAILURES,
        409: problem("The key has expired, or its rotation or the one before is under way."),
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
        ...FAILURES,
        409: problem("It is the last key that can manage the tenant's keys."),
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
        ...FAILURES,
        404: problem("There is no such entity type."),
      },
    },
    {
      method: "get",
      path: "/v1/erasures",
      tags: ["Administration"],
      summary: "The tenant's erasures, newest first",
      ...keyed("admin"),
      request: { query: schemas.erasuresQuery },
      responses: { 200: json(schemas.erasuresAnswer, "The newest of them."), ...FAILURES },
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
        ...FAILURES,
        404: problem("No such erasure."),
      },
    },
    {
      method: "get",
      path: "/v1/audit",
      tags: ["Administration"],
      summary: "Who changed what in the tenant, and which administrator looked at what",
      ...keyed("admin"),
      request: { query: schemas.auditQuery },
      responses: { 200: json(schemas.auditAnswer, "A page, newest first."), ...FAILURES },
    },
  ];
}
