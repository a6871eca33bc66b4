/**
 * Hive-style object paths. Below its kind (`raw/`, `quarantine/`) every path starts with the tenant, so that a lifecycle
 * rule, a policy or a deletion can name one tenant by prefix.
 */

/** Partition of records that no tenant can be made answerable for. No tenant is called so: names start with a letter or digit. */
export const UNATTRIBUTED = "_unattributed";

/**
 * The partition of a tenant as a record gives it. A record is quarantined for a name that breaks the rule, and then the name
 * must neither choose a path nor outgrow one: that would make its write fail for ever.
 */
export const tenantPartition = (tenant: string | null): string =>
  tenant !== null && /^[a-z0-9][a-z0-9_-]{0,63}$/.test(tenant) ? tenant : UNATTRIBUTED;

/** `2026-11-21` of an instant, in UTC. */
export const dayOf = (instantMs: number): string => new Date(instantMs).toISOString().slice(0, 10);

/** `dt=2026-11-21/hh=08` of an instant, in UTC. */
export const hourPath = (instantMs: number): string =>
  `dt=${dayOf(instantMs)}/hh=${new Date(instantMs).toISOString().slice(11, 13)}`;
