/** Features that a tenant registers over HTTP and pushes values of: what a registration holds, and how it is named. */
import { FreshetError } from "./errors.ts";
import { parseIsoOrDay } from "./iso-time.ts";
import type { Dtype } from "./plan.ts";

/** That a feature is on its way out: from when on it should not be used, and what to use instead. */
export interface Deprecation {
  /** ISO 8601 date, `2027-01-31`. */
  readonly date: string;
  /** Full name of what replaces it; null for nothing. */
  readonly use: string | null;
}

const DAY = /^\d{4}-\d{2}-\d{2}$/;
const MAX_USE = 140;
export const isDeprecation = ({ date, use }: { readonly date?: unknown; readonly use?: unknown }): boolean =>
  typeof date === "string" &&
  DAY.test(date) &&
  !Number.isNaN(parseIsoOrDay(date)) &&
  (use === null || (typeof use === "string" && use.length <= MAX_USE));

/** What a registration says. Entity and dtype are the contract of a version; the rest may be replaced. */
export interface Registration {
  readonly view: string;
  /** The feature's name within its view. */
  readonly key: string;
  /** From 1 on. Another version is another value. */
  readonly version: number;
  readonly entity: string;
  readonly dtype: Dtype;
  readonly ttlMs: number;
  readonly description: string;
  /** Of the value, as `EUR` or `seconds`; empty for none. */
  readonly unit: string;
  readonly owner: string;
  readonly tags: readonly string[];
  readonly deprecated: Deprecation | null;
}
export interface PushedFeature extends Registration {
  /** u16, given once for a tenant and view and never again: stored values carry it. */
  readonly id: number;
  readonly registeredMs: number;
}

/** The view of a feature that is named without one. */
export const DEFAULT_VIEW = "pushed";
/** A value stays known as too old for a day, then there is none; as for batch views. */
const KNOWN_MARGIN_MS = 86_400_000;
export const reachOf = ({ ttlMs }: Pick<Registration, "ttlMs">): number => ttlMs + KNOWN_MARGIN_MS;

/**
 * What stands for the view in store keys and paths. Names that definitions give begin with a letter, so no view that is declared
 * later ever reads what was pushed under its name.
 */
export const storedView = (view: string): string => `_${view}`;

export const fullName = ({ view, key }: Pick<Registration, "view" | "key">): string => `${view}:${key}`;
export const versionedName = (feature: Pick<Registration, "view" | "key" | "version">): string =>
  `${fullName(feature)}@${feature.version}`;

const NAME = /^(?:([a-z][a-z0-9_]{0,62}):)?([a-z][a-z0-9_]{0,62})$/;

/** Parts of a name to register. @throws FreshetError `feature_name_invalid` */
export function parseFeatureName(name: string): { view: string; key: string } {
  const match = NAME.exec(name);
  if (match) return { view: match[1] ?? DEFAULT_VIEW, key: match[2] };
  throw new FreshetError(
    "feature_name_invalid",
    `a feature's name is view:feature, each 1 to 63 of a-z, 0-9 and _ and a letter first, given "${name.slice(0, 140)}"`,
    { field: "name", repair: "write it as profile:age; the version is a field of its own" },
  );
}

/** What other systems call the same types. */
const DTYPES: Readonly<Record<string, Dtype>> = {
  double: "double",
  float: "double",
  float64: "double",
  int64: "int64",
  int: "int64",
  long: "int64",
  string: "string",
  str: "string",
  boolean: "boolean",
  bool: "boolean",
};
export const dtypeOf = (word: string): Dtype | null =>
  Object.hasOwn(DTYPES, word.toLowerCase()) ? DTYPES[word.toLowerCase()] : null;

/** Names of what two registrations of one version say differently. */
export function differences(a: Registration, b: Registration): (keyof Registration)[] {
  const fields = ["entity", "dtype", "ttlMs", "description", "unit", "owner", "tags", "deprecated"] as const;
  return fields.filter((field) => JSON.stringify(a[field]) !== JSON.stringify(b[field]));
}

/** Of a batch view's feature its name without the view's: the column of the query. */
export const keyOf = ({ name, view }: { readonly name: string; readonly view: string }): string =>
  name.slice(view.length + 1);
