/** Registered features and pushes of their values in the OpenAPI document. */
import type { Plan } from "../../../core/plan.ts";
import { body, FAILURES, json, keyed, problem, type Route } from "../openapi/route-words.ts";
import { pushAnswer, pushRequest, registeredAnswer, registerRequest } from "./pushed-schemas.ts";

export function pushedRoutes(plan: Plan): Route[] {
  return [
    {
      method: "post",
      path: "/v1/features/register",
      tags: ["Features"],
      summary: "Register a feature whose values you push",
      description:
        "Idempotent: what is registered with the same is answered as it is. Entity and type are for ever those of a version. " +
        "The host that answers knows it at once, others within seconds.",
      ...keyed("admin"),
      request: body(registerRequest(plan)),
      responses: {
        200: json(registeredAnswer, "It is registered already, or was changed."),
        201: json(registeredAnswer, "It was registered."),
        ...FAILURES,
        409: problem("It is registered otherwise, its view is declared, or there are too many."),
      },
    },
    {
      method: "post",
      path: "/v1/features/push",
      tags: ["Features"],
      summary: "Push values of registered features",
      description:
        "Of each feature the newest value wins, by event time, whatever the order of pushes; to push again changes nothing. " +
        "What is accepted is read from then on, and is in the archive.",
      ...keyed("write"),
      request: body(pushRequest),
      responses: {
        200: json(pushAnswer, "Every row was accepted."),
        207: json(pushAnswer, "Some rows were refused; `results` says which and why."),
        ...FAILURES,
      },
    },
  ];
}
