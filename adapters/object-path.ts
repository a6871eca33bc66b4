/**
 * Hive-style object paths. Below its kind (`raw/`, `quarantine/`) every path starts with the tenant, so that a lifecycle
 * rule, a policy or a deletion can name one tenant by prefix.
 */

/** Path segment of records whose tenant could not be read. No tenant is called so: names start with a letter or digit. */
export const UNATTRIBUTED = "_unattributed";

/** Escapes a value for `name=value`: everything but `A-Z a-z 0-9 . _ -` becomes `%XX` of its UTF-8 bytes. */
export function pathValue(value: string | null): string {
  if (value === null) return UNATTRIBUTED;
  return encodeURIComponent(value).replace(
    /[!'()*~]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

/** `2026-11-21` of an instant, in UTC. */
export const dayOf = (instantMs: number): string => new Date(instantMs).toISOString().slice(0, 10);

/** `dt=2026-11-21/hh=08` of an instant, in UTC. */
export const hourPath = (instantMs: number): string =>
  `dt=${dayOf(instantMs)}/hh=${new Date(instantMs).toISOString().slice(11, 13)}`;
