/** Checks batch feature views, and gives their features the ids that stored bytes carry. */
import type { BatchFeatureViewDefinition } from "../batch-view.ts";
import { formatDuration, parseDuration } from "../duration.ts";
import { refuse } from "../errors.ts";
import type { BatchFeature, BatchView, Entity, Stream } from "../plan.ts";
import { deprecatedOf } from "./feature.ts";

const NAME = /^[a-z][a-z0-9_]{0,62}$/;
const DTYPES: Readonly<Record<string, BatchFeature["dtype"]>> = {
  string: "string",
  double: "double",
  long: "int64",
  boolean: "boolean",
};
/** A value stays known as too old for a day, then there is none: what a reader sees never depends on when a key expired. */
const KNOWN_MARGIN_MS = 86_400_000;
/** How often due runs are looked for. */
const LEAST_EVERY_MS = 300_000;
/** Ids are 16 bits, of which a packed field uses few. */
const MAX_FEATURES = 1_000;
const OWN_COLUMNS = new Set(["event_time_ms", "visible_ms", "event_identity"]);

/** Words that would make a run depend on more than its bounds and the streams, or that only one engine knows. */
const REFUSED: readonly (readonly [RegExp, string, string])[] = [
  [/;/, "has a semicolon", "write one SELECT"],
  [/--|\/\*/, "has a comment", "put it into the view's description"],
  [
    /\b(now|current_timestamp|current_date|current_time|localtimestamp|today|get_current_timestamp)\b/i,
    "asks for the clock, so that running it again would answer otherwise",
    "use {to_ms}",
  ],
  [/\b(random|rand|uuid|gen_random_uuid)\s*\(/i, "draws random values", "order by a column, such as event_identity"],
  [/\b(read_\w+|parquet_scan|glob|sniff_csv)\s*\(/i, "reads files", "read streams alone"],
  [/\b(asof|qualify|pivot|unpivot)\b/i, "uses a word that DuckDB knows and Athena does not", "use a window function"],
  [/::/, "casts with ::, which Athena does not know", "write CAST(x AS double)"],
];

/**
 * @param ids of each view's features, by place: `name:dtype`; those of new features are added to it
 * @throws DefinitionError with rule, given value and repair
 */
export function compileBatchView(
  view: BatchFeatureViewDefinition,
  entities: readonly Entity[],
  streams: readonly Stream[],
  ids: string[],
): BatchView {
  const where = `batch view ${view.name}`;
  const entity = entities.find(({ name }) => name === view.entity.name);
  if (!entity) {
    return refuse(
      "entity_unknown",
      `${where} uses entity ${view.entity.name}, which the definitions do not list`,
      "add it to entities in features/index.ts",
    );
  }
  const features = Object.entries(view.features).map(([key, type]) => {
    if (!NAME.test(key)) {
      refuse("name_invalid", `a name is 1 to 63 of a-z, 0-9 and _, given "${key}"`, "rename the feature");
    }
    if (OWN_COLUMNS.has(key) || key === entity.joinKey) {
      refuse("name_taken", `${where} has a feature named ${key}, which is a column of its own`, "rename the feature");
    }
    const dtype = DTYPES[type];
    if (dtype === undefined) {
      refuse(
        "type_unknown",
        `feature ${view.name}:${key} has type ${JSON.stringify(type)}`,
        `use one of ${Object.keys(DTYPES).join(", ")}`,
      );
    }
    return { key, dtype };
  });
  if (features.length === 0) refuse("view_empty", `${where} has no feature`, 'write features: { rate: "double" }');
  const unknown = Object.keys(view.about).find((key) => !features.some((feature) => feature.key === key));
  if (unknown !== undefined) {
    refuse("feature_unknown", `${where} tells about ${unknown}, which is none of its features`, "name one of them");
  }
  const everyMs = parseDuration(view.every, "every", where);
  if (everyMs % LEAST_EVERY_MS !== 0) {
    refuse(
      "every_invalid",
      `${where} runs every ${view.every}, which is no multiple of 5m`,
      "use 5m, 1h or 1d",
      "every",
    );
  }
  const ttlMs = parseDuration(view.ttl, "ttl", where);
  if (ttlMs < everyMs) {
    refuse(
      "ttl_too_short",
      `ttl ${view.ttl} of ${where} is shorter than the time between its runs, ${formatDuration(everyMs)}`,
      `use a ttl of at least ${formatDuration(2 * everyMs)}, so that a late run leaves no gap`,
      "ttl",
    );
  }
  const read = checkSql(
    where,
    view.sql,
    entity,
    streams,
    features.map(({ key }) => key),
  );
  for (const { key, dtype } of features) if (!ids.includes(`${key}:${dtype}`)) ids.push(`${key}:${dtype}`);
  if (ids.length > MAX_FEATURES) {
    refuse("too_many_features", `${where} has had ${ids.length} features, the limit is ${MAX_FEATURES}`, "split it");
  }
  return {
    name: view.name,
    entity: entity.name,
    sql: view.sql.trim(),
    streams: read,
    everyMs,
    lookbackMs: view.lookback === null ? null : parseDuration(view.lookback, "lookback", where),
    ttlMs,
    reachMs: ttlMs + KNOWN_MARGIN_MS,
    owner: view.owner,
    description: view.description,
    tags: view.tags,
    features: features.map(({ key, dtype }) => ({
      name: `${view.name}:${key}`,
      view: view.name,
      id: ids.indexOf(`${key}:${dtype}`),
      dtype,
      description: view.about[key]?.description ?? "",
      ...(view.about[key]?.unit === undefined ? {} : { unit: view.about[key].unit }),
      ...deprecatedOf(`feature ${view.name}:${key}`, view.about[key]?.deprecated ?? null),
    })),
  };
}

/** What can be said without running it. @returns names of the streams that it reads */
function checkSql(
  where: string,
  sql: unknown,
  { joinKey }: Entity,
  streams: readonly Stream[],
  columns: readonly string[],
): string[] {
  if (typeof sql !== "string" || !/^\s*(select|with)\b/i.test(sql)) {
    return refuse("sql_invalid", `sql of ${where} begins with SELECT or WITH`, "write one SELECT", "sql");
  }
  const bare = sql.replaceAll(/'(?:[^']|'')*'/g, "''");
  for (const [pattern, what, repair] of REFUSED) {
    if (pattern.test(bare)) refuse("sql_invalid", `sql of ${where} ${what}`, repair, "sql");
  }
  for (const [parameter] of bare.matchAll(/\{[^}]*\}?/g)) {
    if (parameter === "{from_ms}" || parameter === "{to_ms}") continue;
    refuse("sql_invalid", `sql of ${where} has the parameter ${parameter}`, "use {from_ms} or {to_ms}", "sql");
  }
  const has = (name: string) => new RegExp(`\\b${name}\\b`).test(bare);
  for (const column of [joinKey, "event_time_ms", ...columns]) {
    if (has(column)) continue;
    const yields = [joinKey, "event_time_ms", ...columns].join(", ");
    refuse("sql_invalid", `sql of ${where} yields no column ${column}`, `let it yield ${yields}`, "sql");
  }
  const read = streams
    .map(({ name }) => name)
    .filter((name) => new RegExp(`\\b(from|join|,)\\s+"?${name}\\b`, "i").test(bare));
  if (read.length > 0) return read;
  const names = streams.map(({ name }) => name).join(", ");
  return refuse("sql_invalid", `sql of ${where} reads no stream`, `read FROM one of ${names}`, "sql");
}
