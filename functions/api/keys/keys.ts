/**
 * API keys: `fk_<id>_<secret>`. The id finds the item, so a look-up is one GetItem; the secret is 256 random bits, so one
 * salted HMAC-SHA256 protects it as well as a slow hash would, at microseconds a request.
 */
import { createHmac, hash, randomBytes, timingSafeEqual } from "node:crypto";
import { within } from "../../../adapters/online-store/within.ts";
import { FreshetError, InfrastructureError } from "../../../core/errors.ts";
import { checkTenant } from "../../../core/event.ts";
import { holdsKey } from "../../shared/hidden-keys.ts";
import { Problem } from "../problems.ts";
import { createLookupGuard } from "./lookup-guard.ts";

export const SCOPES = ["read", "write", "score", "admin"] as const;
export type Scope = (typeof SCOPES)[number];

/** Who is calling. */
export interface Principal {
  readonly keyId: string;
  readonly tenant: string;
  readonly scopes: ReadonlySet<string>;
}

/** What may be told of a key. */
export interface KeyDescription {
  readonly id: string;
  readonly tenant: string;
  readonly name: string;
  readonly scopes: readonly Scope[];
  readonly createdAtMs: number;
  readonly expiresAtMs: number | null;
  /** Id of the key that this one takes over from. */
  readonly rotatedFrom: string | null;
  /** Id of the key that takes over from this one. */
  readonly rotatedTo: string | null;
}

/** What the table holds of a key; never the secret. */
export interface KeyRecord extends KeyDescription {
  readonly salt: Uint8Array;
  /** HMAC-SHA256 with the salt as key over the secret. */
  readonly hash: Uint8Array;
}

export interface KeyStore {
  put(record: KeyRecord): Promise<void>;
  get(id: string): Promise<KeyRecord | null>;
  /** Of a tenant, by age; a key that was made a moment ago may not be among them. */
  listOf(tenant: string): Promise<KeyDescription[]>;
  /** Of all tenants, by age. */
  list(): Promise<KeyDescription[]>;
  /** Puts `next` and ends `old` at `oldExpiresAtMs`, both or neither. @returns false when `old` is gone or was rotated meanwhile */
  rotate(old: KeyRecord, oldExpiresAtMs: number, next: KeyRecord): Promise<boolean>;
  remove(id: string): Promise<boolean>;
  /**
   * Removes a key if another one stands at that very moment: unrotated, and good beyond an instant.
   * @returns which of the two kept it from happening, null when it is done
   */
  removeBeside(id: string, other: string, untilMs: number): Promise<"gone" | "other_gone" | null>;
}

const KEY_FORMAT = /^fk_([a-z0-9]{12})_([A-Za-z0-9-]{43})$/;

const digest = (salt: Uint8Array, secret: string): Buffer => createHmac("sha256", salt).update(secret).digest();

export interface NewKey {
  readonly tenant: string;
  readonly scopes: readonly string[];
  readonly name?: string;
  readonly expiresAtMs?: number | null;
  readonly rotatedFrom?: string;
  readonly nowMs: number;
}
/** `key` is the only copy of the secret. */
export interface MadeKey {
  readonly key: string;
  readonly record: KeyRecord;
}

/** @throws FreshetError `tenant_invalid`, `scope_unknown`, `key_name_invalid` */
export async function createKey(store: Pick<KeyStore, "put">, options: NewKey): Promise<MadeKey> {
  const made = newKey(options);
  await store.put(made.record);
  return made;
}

/** A key that is nowhere yet. @throws as `createKey` */
export function newKey(options: NewKey): MadeKey {
  checkTenant(options.tenant);
  checkName(options.name ?? "");
  checkScopeNames(options.scopes);
  const id = randomId();
  // base64url without `_`, which separates the key's parts.
  const secret = randomBytes(32).toString("base64url").replaceAll("_", "-");
  const salt = randomBytes(16);
  const record: KeyRecord = {
    id,
    tenant: options.tenant,
    name: options.name ?? "",
    scopes: [...new Set(options.scopes)] as Scope[],
    salt,
    hash: digest(salt, secret),
    createdAtMs: options.nowMs,
    expiresAtMs: options.expiresAtMs ?? null,
    rotatedFrom: options.rotatedFrom ?? null,
    rotatedTo: null,
  };
  return { key: `fk_${id}_${secret}`, record };
}

/** @throws FreshetError `scope_unknown` */
export function checkScopeNames(scopes: readonly string[]): void {
  const unknown = scopes.find((scope) => !(SCOPES as readonly string[]).includes(scope));
  if (unknown === undefined && scopes.length > 0) return;
  throw new FreshetError("scope_unknown", `a key has one or more of ${SCOPES.join(", ")}, given "${unknown ?? ""}"`, {
    field: "scopes",
    repair: `use ${SCOPES.join(", ")}`,
  });
}

const MAX_NAME = 100;

/** Names are shown in lists and logs. */
function checkName(name: string): void {
  if (name.length <= MAX_NAME && !/\p{C}/u.test(name) && !holdsKey(name)) return;
  throw new FreshetError("key_name_invalid", `a key's name is at most ${MAX_NAME} printable characters and no key`, {
    field: "name",
    repair: "say what it is for, as checkout-service",
  });
}

/** 12 characters of base 36 from 9 random bytes: a name, not a secret. */
function randomId(): string {
  return BigInt(`0x${randomBytes(9).toString("hex")}`)
    .toString(36)
    .padStart(12, "0")
    .slice(-12);
}

export interface Authenticator {
  /** @param addressOf where the request came from; asked for only when the table has to be read */
  (presented: string | undefined, addressOf?: () => string): Principal | Promise<Principal>;
  /** Looks the key up anew at its next use, because it was changed here. */
  forget(id: string): void;
}

/** A changed or revoked key is noticed after this long, on every host but the one that changed it. */
export const KEY_CACHE_MS = 30_000;
/** From this age on a key that is in use is read again, behind its requests' backs: so that none of them waits for that. */
const REFRESH_MS = 20_000;
/** A key that was just made must work soon, and guessing must not cost a read each time. */
const NEGATIVE_CACHE_MS = 2_000;
/** A known key stays good for this long while the table cannot be read: an outage of the table is not one of the API. */
const STALE_MS = 300_000;
/** A table that has just failed for a known key is not waited for again by each of its requests. */
const PAUSE_MS = 2_000;
/** A table that hangs is one that fails: no request with a known key waits longer for it. */
export const KEY_PATIENCE_MS = 50;
/** Nor any other: longer than the two tries of the table's client take, whatever else that waits for. */
const LOOKUP_MS = 1_500;
const CACHE_ENTRIES = 10_000;

interface Cached {
  readonly record: KeyRecord | null;
  readonly principal: Principal | null;
  /** When that was asked for: the answer may have lain here while the host was frozen. */
  readonly readAtMs: number;
  /** SHA-256 of the secret that the HMAC let pass: what this process compares with from then on, at a tenth of the cost. */
  passed: Buffer | null;
  /** Until then the table is not asked again, because it has just failed. */
  pausedUntilMs: number;
}

/**
 * @param clock epoch milliseconds
 * @returns throws (or rejects with) Problem `api_key_missing`, `api_key_invalid`, `api_key_expired`, `keys_unavailable`, `rate_limited`
 */
export function createAuthenticator(store: Pick<KeyStore, "get">, clock: () => number): Authenticator {
  const cache = new Map<string, Cached>();
  const reading = new Map<string, Promise<Cached>>();
  const guard = createLookupGuard(clock);
  /** Keys that were changed here so far: what was read before a change is not kept after it. */
  let changes = 0;

  function verify(cached: Cached, secret: string): Principal {
    const { record, principal } = cached;
    if (record === null || principal === null) throw invalidKey();
    const presented = hash("sha256", secret, "buffer");
    if (cached.passed === null || !timingSafeEqual(presented, cached.passed)) {
      if (!timingSafeEqual(digest(record.salt, secret), record.hash)) throw invalidKey();
      cached.passed = presented;
    }
    if (record.expiresAtMs !== null && record.expiresAtMs <= clock()) {
      throw new Problem("api_key_expired", `the API key ${record.id} expired`, {
        field: "x-api-key",
        repair: "make a new one: freshet keys create",
        headers: CHALLENGE,
      });
    }
    return principal;
  }

  async function read(id: string): Promise<Cached> {
    const stale = cache.get(id);
    const changesBefore = changes;
    const askedAtMs = clock();
    try {
      const record = await within(LOOKUP_MS, store.get(id));
      const principal = record && { keyId: id, tenant: record.tenant, scopes: new Set<string>(record.scopes) };
      const fresh: Cached = { record, principal, readAtMs: askedAtMs, passed: null, pausedUntilMs: 0 };
      if (changes !== changesBefore) return fresh;
      if (cache.size >= CACHE_ENTRIES) cache.delete(cache.keys().next().value as string);
      cache.delete(id);
      cache.set(id, fresh);
      return fresh;
    } catch (cause) {
      if (stale?.record && clock() - stale.readAtMs < STALE_MS) {
        stale.pausedUntilMs = clock() + PAUSE_MS;
        return stale;
      }
      throw new Problem("keys_unavailable", "the table of API keys could not be read", {
        repair: "try again in a few seconds",
        headers: { "retry-after": "2" },
        cause,
      });
    }
  }

  function readOnce(id: string): Promise<Cached> {
    let pending = reading.get(id);
    if (pending === undefined) {
      pending = read(id).finally(() => reading.delete(id));
      reading.set(id, pending);
    }
    return pending;
  }

  /** What the table says later counts from then on. */
  async function readInTime(id: string, known: Cached): Promise<Cached> {
    const pending = readOnce(id);
    if (clock() - known.readAtMs >= STALE_MS) return pending;
    try {
      return await within(KEY_PATIENCE_MS, pending);
    } catch (error) {
      if (!(error instanceof InfrastructureError)) throw error;
      known.pausedUntilMs = clock() + PAUSE_MS;
      return known;
    }
  }

  /** A key that this host has met is read again freely; whether there is one by another id costs its caller. */
  async function readUnmet(id: string, address: string): Promise<Cached> {
    // A host that has just started meets many calls with one key at once: they share a read, and are not counted as guesses.
    const pending = reading.get(id);
    if (pending !== undefined) return pending;
    guard.enter(address);
    let isNone = false;
    try {
      const found = await readOnce(id);
      isNone = found.record === null;
      return found;
    } finally {
      if (!isNone) guard.forgive(address);
    }
  }

  function authenticate(
    presented: string | undefined,
    addressOf: () => string = () => "",
  ): Principal | Promise<Principal> {
    if (presented === undefined || presented === "") {
      throw new Problem("api_key_missing", "the request has no API key", {
        field: "x-api-key",
        repair: "send your key in the header x-api-key; freshet status --json shows the development key",
        headers: CHALLENGE,
      });
    }
    const match = KEY_FORMAT.exec(presented);
    if (match === null) throw invalidKey();
    const cached = cache.get(match[1]);
    const limit = cached?.record ? KEY_CACHE_MS : NEGATIVE_CACHE_MS;
    if (cached !== undefined) {
      const ageMs = clock() - cached.readAtMs;
      const isKept = ageMs < limit || (ageMs < STALE_MS && clock() < cached.pausedUntilMs);
      if (isKept) {
        const isDue = cached.record !== null && ageMs >= REFRESH_MS && clock() >= cached.pausedUntilMs;
        if (isDue) readOnce(match[1]).catch(() => {});
        return verify(cached, match[2]);
      }
    }
    const read = cached?.record ? readInTime(match[1], cached) : readUnmet(match[1], addressOf());
    return read.then((found) => verify(found, match[2]));
  }
  function forget(id: string): void {
    changes++;
    cache.delete(id);
    reading.delete(id);
  }
  return Object.assign(authenticate, { forget });
}

const CHALLENGE = { "www-authenticate": 'ApiKey realm="freshet", header="x-api-key"' };
const invalidKey = () =>
  new Problem("api_key_invalid", "the API key is not known", {
    field: "x-api-key",
    repair: "check that the whole key was copied (fk_, id, secret); a deleted key cannot be used again",
    headers: CHALLENGE,
  });
