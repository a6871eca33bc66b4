/** Shapes of what administrators of a tenant ask for. */
import { z } from "@hono/zod-openapi";

const requestId = z.string().describe("Also in the header x-request-id; name it when you ask for help.");

export const auditQuery = z.object({
  limit: z
    .string()
    .regex(/^([1-9][0-9]?|[1-4][0-9]{2}|500)$/)
    .optional()
    .openapi({ description: "1 to 500; 100 when left out.", example: "100" }),
  before: z
    .string()
    .regex(/^[0-9]{13}(-[0-9a-f]{12})?$/)
    .optional()
    .openapi({ description: "`next` of the page before, or epoch milliseconds." }),
});

export const auditAnswer = z
  .strictObject({
    records: z
      .array(
        z.strictObject({
          id: z.string(),
          at_ms: z.number().int(),
          who: z.string().describe("`key <id>`, or the name of an operator."),
          action: z.string(),
          target: z.string().describe("Path of the request, or what was made or changed."),
          outcome: z.string().describe("`begun` until it is known: `done`, or the code of the error."),
          request_id: z.string().nullable().describe("Null for an operator's command."),
        }),
      )
      .describe("Newest first."),
    next: z.string().nullable().describe("Goes into `before` for the next page; null for none."),
    request_id: requestId,
  })
  .openapi("Audit");
