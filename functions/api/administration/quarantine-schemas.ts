/** Shapes of `/v1/quarantine`. */
import { z } from "@hono/zod-openapi";
import { MAX_SELECTOR } from "../limits.ts";

const requestId = z.string().describe("Also in the header x-request-id; name it when you ask for help.");
const status = z.enum(["open", "still_refused", "replayed", "dropped"]);
/** But for days that do not exist. */
const TIME =
  /^([0-9]{1,14}|[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])(T([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.,][0-9]{1,9})?)?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9]))?)$/;
const selectors = {
  stream: z.string().optional(),
  reason: z.string().max(MAX_SELECTOR).optional().describe("Code of the refusal, as `schema_unknown`."),
  field: z.string().max(MAX_SELECTOR).optional().describe("First bad field."),
  since: z.string().regex(TIME).optional().openapi({
    description: "Arrivals from then on: ISO 8601 with its zone, a day, or epoch milliseconds.",
    example: "2026-11-21T10:00:00Z",
  }),
};

export const groupsQuery = z.object({
  ...selectors,
  status: z
    .enum([...status.options, "all"])
    .optional()
    .openapi({ description: "Those that wait, `open` and `still_refused`, when left out." }),
});
export const recordsQuery = groupsQuery.extend({
  limit: z
    .string()
    .regex(/^([1-9][0-9]?|[1-4][0-9]{2}|500)$/)
    .optional()
    .openapi({ description: "1 to 500; 100 when left out.", example: "100" }),
  after: z
    .string()
    .regex(/^[0-9]{1,6}\.([0-9a-f]{32})?$/)
    .optional()
    .openapi({ description: "`next` of the page before." }),
});

export const groupsAnswer = z
  .strictObject({
    groups: z.array(
      z.strictObject({
        stream: z.string(),
        reason: z.string(),
        field: z.string().nullable(),
        status,
        count: z.number().int(),
        message: z.string().describe("Of the sample."),
        first_arrival_ms: z.number().int(),
        last_arrival_ms: z.number().int(),
        sample_id: z.string().describe("The newest one's."),
      }),
    ),
    complete: z
      .boolean()
      .describe("False when there are more records than could be looked at: counts are at least so."),
    request_id: requestId,
  })
  .openapi("QuarantineGroups");

const record = {
  id: z.string(),
  stream: z.string(),
  status,
  reason: z.string(),
  field: z.string().nullable(),
  message: z.string().describe("Rule and given value; never the payload."),
  fingerprint: z.string().nullable().describe("Of the schema that it was written with, when it names one."),
  shard: z.string(),
  sequence: z.string(),
  sub_sequence: z.number().int().describe("Index in a KPL-aggregated record."),
  arrival_ms: z.number().int(),
  size: z.number().int(),
  changed_ms: z.number().int().nullable().describe("When it was replayed or dropped last."),
};
export const recordsAnswer = z
  .strictObject({
    records: z.array(z.strictObject(record)).describe("In the order of stream and id."),
    next: z.string().nullable().describe("Goes into `after` for the next page, which may be empty; null for none."),
    request_id: requestId,
  })
  .openapi("QuarantinedRecords");
export const recordAnswer = z
  .strictObject({
    ...record,
    payload: z.string().nullable().describe("The record as it was delivered, base64; null when its object is gone."),
    event: z.record(z.string(), z.unknown()).nullable().describe("By today's contract; null when it cannot be read."),
    request_id: requestId,
  })
  .openapi("QuarantinedRecord");

export const changeRequest = z
  .strictObject({
    ...selectors,
    ids: z
      .array(z.string().regex(/^[0-9a-f]{32}$/))
      .min(1)
      .max(500)
      .optional(),
    all: z.literal(true).optional().describe("All records that wait."),
  })
  .openapi("QuarantineChange", { minProperties: 1, example: { stream: "transactions", reason: "schema_unknown" } });
export const jobAnswer = z
  .strictObject({
    job_id: z.string(),
    kind: z.enum(["replay", "drop"]),
    state: z.enum(["queued", "running", "done"]),
    created_ms: z.number().int(),
    updated_ms: z.number().int(),
    replayed: z.number().int(),
    still_refused: z.number().int(),
    dropped: z.number().int(),
    unreadable: z.number().int().describe("Their bytes are gone or altered; they stay as they are."),
    applied: z.number().int().describe("Of those replayed: events that had not been counted."),
    duplicates: z.number().int().describe("Events that had been counted under the same id and time."),
    late: z.number().int().describe("Events whose tiles are sealed: they wait for repair."),
    request_id: requestId,
  })
  .openapi("QuarantineJob");
