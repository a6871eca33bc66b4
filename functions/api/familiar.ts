/**
 * Addresses that callers of other feature stores know: each is answered by the handler of ours. What our own asks for and theirs do
 * not is taken as absent: a score without a field is a score that says what it misses.
 */
import type { Service } from "../../core/plan.ts";
import type { JsonObject } from "./body.ts";
import { CATALOGUE_PARAMETERS } from "./catalogue/catalogue.ts";
import type { Handle, Register } from "./router.ts";

interface Handlers {
  readonly score: Handle;
  readonly online: Handle;
  readonly batch: Handle;
  readonly entity: Handle;
  readonly list: Handle;
  readonly one: Handle;
  /** Null for a host without registered features. */
  readonly register: Handle | null;
}

export function registerFamiliar(register: Register, handlers: Handlers): void {
  const itself = { charges: "itself" } as const;
  register("POST", "/score/:service", "score", handlers.score, itself);
  register("POST", "/api/v1/features/online", "read", handlers.online, itself);
  register("POST", "/api/v1/features/batch", "read", handlers.batch, itself);
  if (handlers.register !== null) {
    register("POST", "/api/v1/features/register", "admin", handlers.register, { audit: "features.register" });
  }
  register("GET", "/api/v1/features", "read", handlers.list, { parameters: CATALOGUE_PARAMETERS });
  register("GET", "/api/v1/features/:name", "read", handlers.one);
  register("GET", "/api/v1/features/:entity/:id", "read", handlers.entity, itself);
}

/** A request's fields under the service's own names; a field that is there by its own name stays as it is. */
export function withOwnNames(aliases: Readonly<Record<string, string>>, body: JsonObject): JsonObject {
  let own = body;
  for (const alias in aliases) {
    const name = aliases[alias];
    if (Object.hasOwn(body, alias) && !Object.hasOwn(body, name)) own = { ...own, [name]: body[alias] };
  }
  return own;
}

/** What a field is called in the body as it was sent. */
export function sentName(aliases: Readonly<Record<string, string>>, body: JsonObject, name: string): string {
  if (Object.hasOwn(body, name)) return name;
  return Object.keys(aliases).find((alias) => aliases[alias] === name && Object.hasOwn(body, alias)) ?? name;
}

/** What the service asks for and the body lacks is null. */
export function completed(service: Service, joinKeys: readonly string[], body: JsonObject): JsonObject {
  const absent = [...joinKeys, ...Object.keys(service.request)].map((name) => [name, null]);
  return { ...Object.fromEntries(absent), ...body };
}
