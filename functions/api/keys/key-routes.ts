/** `/v1/keys`: a tenant's administrators make, list, rotate and revoke its keys. */
import { typeName } from "../../../core/errors.ts";
import { checkFields, type JsonObject, readObject } from "../body.ts";
import { MAX_QUERY_BYTES } from "../limits.ts";
import { Problem } from "../problems.ts";
import type { Answer, Call, Handle } from "../router.ts";
import {
  DEFAULT_OVERLAP_MS,
  isLive,
  MAX_OVERLAP_MS,
  makeKey,
  revokeKey,
  rotateKey,
  scopesText,
} from "./key-changes.ts";
import { type Authenticator, KEY_CACHE_MS, type KeyDescription, type KeyStore } from "./keys.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const MAX_DAYS = 36_500;
/** A secret is in the answer. */
const SECRET = { "cache-control": "no-store" };

export function createKeyHandlers(deps: {
  readonly keys: KeyStore;
  readonly authenticate: Pick<Authenticator, "forget">;
  readonly clock: () => number;
}): { create: Handle; list: Handle; rotate: Handle; revoke: Handle } {
  const { keys, authenticate, clock } = deps;
  return {
    create: ({ c, principal, requestId }: Call) =>
      reachable(async () => {
        const body = await readObject(c, MAX_QUERY_BYTES);
        checkFields(body, ["name", "scopes", "expires_in_days"]);
        const nowMs = clock();
        const days = numberOf(body, "expires_in_days", 0.001, MAX_DAYS);
        const { key, record } = await makeKey(keys, {
          by: principal,
          tenant: principal.tenant,
          scopes: scopesOf(body),
          name: nameOf(body),
          expiresAtMs: days === null ? null : nowMs + Math.round(days * DAY_MS),
          nowMs,
        });
        const shown = { key, ...keyJson(record, nowMs), request_id: requestId };
        return {
          status: 201,
          body: JSON.stringify(shown),
          headers: SECRET,
          target: `key ${record.id} with ${scopesText(record)}`,
        };
      }),

    list: ({ principal, requestId }: Call) =>
      reachable(async () => {
        const nowMs = clock();
        const own = (await keys.listOf(principal.tenant)).map((one) => keyJson(one, nowMs));
        return { status: 200, body: JSON.stringify({ keys: own, request_id: requestId }), headers: SECRET };
      }),

    rotate: ({ c, principal, requestId }: Call) =>
      reachable(async () => {
        const id = c.req.param("id") as string;
        const body = await readObject(c, MAX_QUERY_BYTES).catch(nothingAsked);
        checkFields(body, ["overlap_hours"]);
        const hours = numberOf(body, "overlap_hours", 0, MAX_OVERLAP_MS / HOUR_MS);
        const overlapMs = hours === null ? DEFAULT_OVERLAP_MS : Math.round(hours * HOUR_MS);
        const nowMs = clock();
        const { key, record, old } = await rotateKey(keys, id, { by: principal, nowMs, overlapMs });
        authenticate.forget(id);
        const shown = { key, ...keyJson(record, nowMs), replaces: keyJson(old, nowMs), request_id: requestId };
        return { status: 201, body: JSON.stringify(shown), headers: SECRET, target: `key ${id} to key ${record.id}` };
      }),

    revoke: ({ c, principal, requestId }: Call) =>
      reachable(async () => {
        const id = c.req.param("id") as string;
        await revokeKey(keys, id, { by: principal, nowMs: clock() });
        authenticate.forget(id);
        const body = { id, revoked: true, everywhere_within_ms: KEY_CACHE_MS, request_id: requestId };
        return { status: 200, body: JSON.stringify(body) };
      }),
  };
}

/** A body that may be left out. */
function nothingAsked(error: unknown): JsonObject {
  if (error instanceof Problem && error.code === "body_empty") return {};
  throw error;
}

const keyJson = (key: KeyDescription, nowMs: number) => ({
  id: key.id,
  name: key.name,
  scopes: [...key.scopes].sort(),
  created_ms: key.createdAtMs,
  expires_ms: key.expiresAtMs,
  live: isLive(key, nowMs),
  rotated_from: key.rotatedFrom,
  rotated_to: key.rotatedTo,
});

function scopesOf({ scopes }: JsonObject): string[] {
  if (Array.isArray(scopes) && scopes.length > 0 && scopes.every((one) => typeof one === "string")) return scopes;
  throw new Problem(
    scopes === undefined ? "field_missing" : "wrong_type",
    scopes === undefined
      ? "scopes is required"
      : `scopes is an array of one or more names, given ${Array.isArray(scopes) && scopes.length === 0 ? "none" : typeName(scopes)}`,
    { field: "scopes", repair: 'send "scopes": ["read", "score"]' },
  );
}

function nameOf({ name = "" }: JsonObject): string {
  if (typeof name === "string") return name;
  throw new Problem("wrong_type", `name is a string, given ${typeName(name)}`, {
    field: "name",
    repair: "say what the key is for, as checkout-service",
  });
}

/** @returns null when it is left out */
function numberOf(body: JsonObject, field: string, low: number, high: number): number | null {
  const value = body[field];
  if (value === undefined || value === null) return null;
  if (typeof value === "number" && value >= low && value <= high) return value;
  const given = typeof value === "number" ? value : typeName(value);
  throw new Problem("wrong_type", `${field} is a number from ${low} to ${high}, given ${given}`, {
    field,
    repair: "leave it out for the default",
  });
}

/** The table's own errors are ours, and say nothing to a caller. */
async function reachable(work: () => Promise<Answer>): Promise<Answer> {
  try {
    return await work();
  } catch (cause) {
    if (!(cause instanceof Error) || !("$metadata" in cause)) throw cause;
    throw new Problem("keys_unavailable", "the table of API keys does not answer", {
      repair: "look with GET /v1/keys whether the change was made, then try again",
      headers: { "retry-after": "2" },
      cause,
    });
  }
}
