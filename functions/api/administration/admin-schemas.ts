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

const scopes = z.array(z.enum(["read", "write", "score", "admin"]));
const shownKey = {
  id: z.string(),
  name: z.string(),
  scopes,
  created_ms: z.number().int(),
  expires_ms: z.number().int().nullable().describe("Null for never."),
  live: z.boolean(),
  rotated_from: z.string().nullable().describe("Id of the key that this one takes over from."),
  rotated_to: z.string().nullable().describe("Id of the key that takes over from this one."),
};
const secret = z.string().describe("The key, `fk_<id>_<secret>`: shown this once, and stored nowhere.");

export const keyRequest = z
  .strictObject({
    scopes: scopes.min(1).describe("Scopes that the key of the call has itself."),
    name: z.string().max(100).optional().describe("What it is for."),
    expires_in_days: z.number().min(0.001).max(36_500).nullable().optional().describe("Never when left out."),
  })
  .openapi("KeyRequest", { example: { scopes: ["read"], name: "checkout-service", expires_in_days: 90 } });
export const rotateRequest = z
  .strictObject({
    overlap_hours: z
      .number()
      .min(0)
      .max(720)
      .nullable()
      .optional()
      .describe("How long the old key stays good; 24 when left out."),
  })
  .openapi("RotateRequest");

export const keyAnswer = z.strictObject({ key: secret, ...shownKey, request_id: requestId }).openapi("NewKey");
export const keysAnswer = z
  .strictObject({ keys: z.array(z.strictObject(shownKey)).describe("The oldest first."), request_id: requestId })
  .openapi("Keys");
export const rotatedAnswer = z
  .strictObject({
    key: secret,
    ...shownKey,
    replaces: z.strictObject(shownKey).describe("The old key, with the time at which it ends."),
    request_id: requestId,
  })
  .openapi("RotatedKey");
export const revokedAnswer = z
  .strictObject({
    id: z.string(),
    revoked: z.literal(true),
    everywhere_within_ms: z.number().int().describe("Other hosts have looked it up at most this long ago."),
    request_id: requestId,
  })
  .openapi("RevokedKey");

export const erasureRequest = z
  .strictObject({
    subjects: z
      .array(z.strictObject({ entity: z.string(), id: z.string().min(1).max(256) }))
      .min(1)
      .max(100)
      .describe("Entities by their ids. A person is often several."),
    block: z.boolean().optional().describe("Refuses what happens later too, for ever."),
  })
  .openapi("ErasureRequest", { example: { subjects: [{ entity: "card", id: "c1" }] } });
const shownErasure = {
  id: z.string(),
  state: z.enum(["running", "confirming", "guarding", "done"]),
  requested_by: z.string(),
  requested_ms: z.number().int(),
  before_ms: z.number().int().describe("Nothing that happened before counts any more."),
  block: z.boolean(),
  salt: z.string(),
  hashes: z
    .array(z.string())
    .describe("Of each entity: SHA-256 over salt, tenant, entity and id, each with its length before it."),
  online_ms: z.number().int().nullable().describe("When the online store had forgotten them."),
  confirmed_ms: z.number().int().nullable().describe("When a whole look found nothing any more."),
  wait_until_ms: z.number().int().nullable().describe("When it is looked again, or the ids are forgotten."),
  round: z.number().int(),
  step: z.string().nullable().describe("Under way; null between rounds."),
  looks: z.array(
    z.strictObject({
      step: z.string(),
      round: z.number().int(),
      finished_ms: z.number().int(),
      looked: z.number().int().describe("Objects looked through."),
      rewritten: z.number().int().describe("Objects that held something."),
      rows: z.number().int().describe("Rows that were changed or went."),
      unreadable: z.array(z.string()),
    }),
  ),
  affected: z.array(z.string()).describe("Features of others that count one fewer in what is built again."),
  holding: z.array(z.string()).describe("Files that were made for users before, and hold them."),
  error: z.strictObject({ code: z.string(), at_ms: z.number().int() }).nullable(),
};
export const erasureAnswer = z.strictObject({ ...shownErasure, request_id: requestId }).openapi("Erasure");
export const erasuresAnswer = z
  .strictObject({ erasures: z.array(z.strictObject(shownErasure)), request_id: requestId })
  .openapi("Erasures");
export const erasuresQuery = auditQuery.pick({ limit: true });
