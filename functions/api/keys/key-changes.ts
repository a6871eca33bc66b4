/**
 * What may be done to keys, by a tenant's administrator over HTTP (`by` is their key) or by the operator (`by` is null).
 * Rules: nobody gives scopes that they lack; at most two generations of one key live at once; the last key that
 * can manage keys is not thrown away by accident. See docs/decisions/0041-keys-rotate-in-pairs.md.
 */
import { FreshetError } from "../../../core/errors.ts";
import { withoutKeys } from "../../shared/hidden-keys.ts";
import {
  checkScopeNames,
  createKey,
  type KeyDescription,
  type KeyRecord,
  type KeyStore,
  type MadeKey,
  newKey,
  type Principal,
} from "./keys.ts";

export const DEFAULT_OVERLAP_MS = 86_400_000;
/** A month: longer is no rotation. */
export const MAX_OVERLAP_MS = 30 * 86_400_000;
/** Of one tenant, over HTTP: bounds what a list costs. */
const MAX_LIVE_KEYS = 100;

export const isLive = ({ expiresAtMs }: KeyDescription, nowMs: number): boolean =>
  expiresAtMs === null || expiresAtMs > nowMs;

/** For records of what was given. */
export const scopesText = ({ scopes }: KeyDescription): string => [...scopes].sort().join(",");

interface Change {
  readonly by: Principal | null;
  readonly nowMs: number;
}

/** @throws FreshetError `scope_not_held`, `too_many_keys`, and those of `createKey` */
export async function makeKey(
  store: KeyStore,
  { by, ...options }: Change & { tenant: string; scopes: readonly string[]; name: string; expiresAtMs: number | null },
): Promise<MadeKey> {
  checkScopeNames(options.scopes);
  checkScopes(by, options.scopes);
  if (by !== null) {
    const live = (await store.listOf(options.tenant)).filter((key) => isLive(key, options.nowMs));
    if (live.length >= MAX_LIVE_KEYS) {
      throw new FreshetError("too_many_keys", `a tenant has at most ${MAX_LIVE_KEYS} live keys`, {
        repair: "revoke those that nobody uses: GET /v1/keys lists them",
      });
    }
  }
  return createKey(store, options);
}

/**
 * Makes a key that takes over: same tenant, name and scopes, and as long a life. The old one ends after the overlap.
 * @throws FreshetError `key_unknown`, `key_not_live`, `key_rotated`, `rotation_pending`, `scope_not_held`
 */
export async function rotateKey(
  store: KeyStore,
  id: string,
  { by, nowMs, overlapMs }: Change & { overlapMs: number },
): Promise<MadeKey & { old: KeyDescription }> {
  const old = await find(store, id, by);
  checkScopes(by, old.scopes);
  if (!isLive(old, nowMs)) {
    throw new FreshetError("key_not_live", `the key ${id} has expired`, { repair: "make a new one" });
  }
  if (old.rotatedTo !== null) throw alreadyRotated(id, old.rotatedTo);
  const before = old.rotatedFrom === null ? null : await store.get(old.rotatedFrom);
  if (before !== null && isLive(before, nowMs)) {
    const until = new Date(before.expiresAtMs ?? 0).toISOString();
    throw new FreshetError(
      "rotation_pending",
      `the key ${before.id}, which ${id} takes over from, lives until ${until}`,
      {
        repair: `two generations of a key live at most: wait, or revoke ${before.id}`,
      },
    );
  }
  const oldExpiresAtMs = Math.min(old.expiresAtMs ?? Number.POSITIVE_INFINITY, nowMs + overlapMs);
  const expiresAtMs = old.expiresAtMs === null ? null : nowMs + (old.expiresAtMs - old.createdAtMs);
  const made = newKey({ ...old, expiresAtMs, rotatedFrom: id, nowMs });
  if (!(await store.rotate(old, oldExpiresAtMs, made.record))) throw alreadyRotated(id, null);
  return { ...made, old: { ...old, expiresAtMs: oldExpiresAtMs, rotatedTo: made.record.id } };
}

/** @throws FreshetError `key_unknown`, `last_admin_key` */
export async function revokeKey(store: KeyStore, id: string, { by, nowMs }: Change): Promise<KeyDescription> {
  const key = await find(store, id, by);
  const isNeeded = by !== null && key.scopes.includes("admin") && isLive(key, nowMs);
  const isGone = isNeeded ? await removeBesideOther(store, key, nowMs) : !(await store.remove(id));
  if (isGone) throw unknown(id);
  return key;
}

/**
 * Removes a key that can manage keys while another one of the tenant stands, which does not end by itself where this one doesn't: two that take each other away at the same moment cannot
 * both succeed. The list may be behind, so what it names is looked at in the step that removes.
 * @returns true when it was gone already
 */
async function removeBesideOther(store: KeyStore, key: KeyDescription, nowMs: number): Promise<boolean> {
  const { id, tenant, expiresAtMs } = key;
  const untilMs = expiresAtMs === null ? Number.MAX_SAFE_INTEGER : nowMs;
  const stays = (other: KeyDescription) =>
    other.id !== id && other.scopes.includes("admin") && other.rotatedTo === null && isLive(other, untilMs);
  for (const other of (await store.listOf(tenant)).filter(stays).reverse()) {
    const kept = await store.removeBeside(id, other.id, untilMs);
    if (kept !== "other_gone") return kept === "gone";
  }
  const sooner = expiresAtMs === null ? ", once those that end have ended" : "";
  throw new FreshetError(
    "last_admin_key",
    `without the key ${id} nobody of the tenant could manage its keys${sooner}`,
    {
      repair: "if it was lost, rotate it with overlap_hours 0; the operator can revoke it",
    },
  );
}

const KEY_ID = /^[a-z0-9]{12}$/;

/** Another tenant's key is not there; nor is what can be no key, which a table would not even look for. */
async function find(store: KeyStore, id: string, by: Principal | null): Promise<KeyRecord> {
  const key = KEY_ID.test(id) ? await store.get(id) : null;
  if (key === null || (by !== null && key.tenant !== by.tenant)) throw unknown(id);
  return key;
}

const unknown = (id: string) =>
  new FreshetError("key_unknown", `no key has the id "${withoutKeys(id).slice(0, 40)}"`, {
    field: "id",
    repair: "GET /v1/keys or freshet keys list shows the ids",
  });

const alreadyRotated = (id: string, to: string | null) =>
  new FreshetError("key_rotated", `the key ${id} was rotated already${to === null ? "" : `, to ${to}`}`, {
    repair: to === null ? "look again which key took over" : `rotate ${to}`,
  });

function checkScopes(by: Principal | null, scopes: readonly string[]): void {
  const lacking = by === null ? undefined : scopes.find((scope) => !by.scopes.has(scope));
  if (lacking === undefined) return;
  throw new FreshetError(
    "scope_not_held",
    `a key gives only scopes that it has; ${by!.keyId} lacks ${lacking.slice(0, 40)}`,
    {
      field: "scopes",
      repair: "use a key with all of the scopes, or ask the operator",
    },
  );
}
