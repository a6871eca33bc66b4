/** Whose key of API Gateway a tenant's requests count by: see lib/constructs/usage-plans.ts, which makes them. */
import { hash64 } from "../../../adapters/hash.ts";

export interface UsageKeys {
  /** Of tenants that have one to themselves. */
  readonly own: Readonly<Record<string, string>>;
  /** Of the others, by a hash of their names. */
  readonly shared: readonly string[];
}

/** @param tenant null for a caller whose tenant is not known */
export function usageKeyOf({ own, shared }: UsageKeys, tenant: string | null): string {
  const name = tenant ?? "";
  if (Object.hasOwn(own, name)) return own[name];
  return shared[Number.parseInt(hash64(name).slice(0, 8), 16) % shared.length];
}
