/** Which version of a model plays which part, and how one becomes another. */
export const ALIASES = ["champion", "challenger", "shadow"] as const;
export type Alias = (typeof ALIASES)[number];

export interface Aliases {
  readonly champion: number | null;
  readonly challenger: number | null;
  readonly shadow: number | null;
  /** Share of traffic that the challenger gets, 0 to 1; null for the service's own setting. */
  readonly share: number | null;
  /** Counts changes; a change is conditional on the one that it was decided on. */
  readonly revision: number;
}

export const NO_ALIASES: Aliases = { champion: null, challenger: null, shadow: null, share: null, revision: 0 };

/** One change, as the history keeps it. */
export interface AliasChange {
  readonly revision: number;
  readonly atMs: number;
  readonly alias: Alias;
  readonly from: number | null;
  readonly to: number | null;
  readonly kind: "promote" | "rollback";
  /** Who: a key's id, a user's name, a state machine's execution. */
  readonly by: string;
  /** The gate refused, and was overruled. */
  readonly forced: boolean;
  /** Why the gate refused, where it was overruled; else what its comparison could not tell, if anything. */
  readonly reason: string | null;
}

/** A version has one part at most: whatever else it was, it is no longer. */
export function withAlias(
  aliases: Aliases,
  alias: Alias,
  version: number | null,
  share: number | null = null,
): Aliases {
  const cleared = { ...aliases };
  for (const other of ALIASES) if (version !== null && cleared[other] === version) cleared[other] = null;
  const next = { ...cleared, [alias]: version, revision: aliases.revision + 1 };
  return { ...next, share: next.challenger === null ? null : alias === "challenger" ? share : next.share };
}

/**
 * Whom the champion replaced when it was promoted: rolling back again goes further back, not forth.
 * @param history any order
 */
export function championBefore(champion: number, history: readonly AliasChange[]): number | null {
  const promoted = history
    .filter(({ alias, kind, to }) => alias === "champion" && kind === "promote" && to === champion)
    .sort((a, b) => b.revision - a.revision)[0];
  return promoted?.from ?? null;
}
