/** `GET /v1/audit`: what was done in the key's tenant, newest first. */
import { type AuditLog, auditJson } from "../../../adapters/audit-log.ts";
import { InfrastructureError } from "../../../core/errors.ts";
import { Problem, shorten } from "../problems.ts";
import { limitOf } from "../query.ts";
import type { Call, Handle } from "../router.ts";

const DEFAULT_LIMIT = 100;
const CURSOR = /^\d{13}(-[0-9a-f]{12})?$/;

export function createAuditHandler(log: AuditLog): Handle {
  return async ({ c, principal, requestId }: Call) => {
    const limit = limitOf(c.req.query("limit"), DEFAULT_LIMIT);
    const before = beforeOf(c.req.query("before"));
    const { records, next } = await log.page(principal.tenant, { before, limit }).catch((cause) => {
      if (!(cause instanceof InfrastructureError)) throw cause;
      throw new Problem("audit_unavailable", "the audit log does not answer", {
        repair: "send the request again",
        headers: { "retry-after": "1" },
        cause,
      });
    });
    const body = {
      records: records.map(auditJson),
      next,
      request_id: requestId,
    };
    return { status: 200, body: JSON.stringify(body), headers: { "cache-control": "no-store" } };
  };
}

/** A record's id, or epoch milliseconds. */
function beforeOf(given: string | undefined): string | null {
  if (given === undefined) return null;
  if (CURSOR.test(given)) return given;
  throw new Problem("wrong_type", `before is an id of a record or epoch milliseconds, given "${shorten(given)}"`, {
    field: "before",
    repair: "send `next` of the page before, or leave it out for the newest",
  });
}
