import { describe, expect, it } from "vitest";
import { hash64 } from "../../../adapters/hash.ts";
import { compile, EMPTY_LOCK } from "../../../core/compile/compile.ts";
import { followLock } from "../../../core/compile/lock-history.ts";
import { diffPlans } from "../../../core/compile/plan-diff.ts";
import * as d from "../../../core/definition.ts";
import type { FreshetError } from "../../../core/errors.ts";
import type { Contract } from "../../../core/plan.ts";
import { vectorHash } from "../../../core/scoring/vector.ts";

const fields = {
  tenant: { type: "string", nullable: false },
  id: { type: "string", nullable: false },
  at: { type: "long", nullable: false },
  shop: { type: "string", nullable: false },
} as const;
const contracts: Record<string, Contract> = { "pay.v1": { name: "pay.v1", fields } };
const schema: string = "pay.v1";
const pay = d.stream("pay" as string, { schema, eventId: "id", eventTime: "at", partitionKey: "shop" });
const shop = d.entity("shop", { joinKey: "shop_id" });

const SQL = "SELECT shop AS shop_id, {to_ms} AS event_time_ms, count(*) AS n FROM pay GROUP BY shop";
type Options = Parameters<typeof d.batchFeatureView>[1];
const risk = (options: Partial<Options> = {}) =>
  d.batchFeatureView("risk", {
    ...{ entity: shop, sql: SQL, every: "1d", ttl: "3d", owner: "o", features: { n: "long" } },
    ...options,
  });
const using = (view: ReturnType<typeof risk>, services: d.Definitions["services"] = []): d.Definitions => ({
  ...{ entities: [shop], streams: [pay], views: [], batchViews: [view], services },
});
const compiled = (view: ReturnType<typeof risk>, lock = EMPTY_LOCK) => compile(using(view), contracts, lock, hash64);

function refusal(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    const { name, code, message } = error as FreshetError;
    expect(name).toBe("DefinitionError");
    return `${code}: ${message}`;
  }
  return "accepted";
}

const REFUSED: readonly [string, Partial<Options>, string][] = [
  ["no query", { sql: "" }, "sql_invalid: sql of batch view risk begins with SELECT or WITH; write one SELECT"],
  [
    "two statements",
    { sql: `${SQL}; DROP TABLE pay` },
    "sql_invalid: sql of batch view risk has a semicolon; write one SELECT",
  ],
  [
    "the clock",
    { sql: SQL.replace("{to_ms}", "epoch_ms(now())") },
    "sql_invalid: sql of batch view risk asks for the clock, so that running it again would answer otherwise; use {to_ms}",
  ],
  [
    "chance",
    { sql: `${SQL} ORDER BY random()` },
    "sql_invalid: sql of batch view risk draws random values; order by a column, such as event_identity",
  ],
  [
    "files",
    { sql: SQL.replace("FROM pay", "FROM read_csv('x.csv'), pay") },
    "sql_invalid: sql of batch view risk reads files; read streams alone",
  ],
  [
    "a cast that is DuckDB's",
    { sql: SQL.replace("count(*)", "count(*)::bigint") },
    "sql_invalid: sql of batch view risk casts with ::, which Athena does not know; write CAST(x AS double)",
  ],
  [
    "an unknown parameter",
    { sql: SQL.replace("{to_ms}", "{until}") },
    "sql_invalid: sql of batch view risk has the parameter {until}; use {from_ms} or {to_ms}",
  ],
  [
    "a feature that the query lacks",
    { features: { n: "long", rate: "double" } },
    "sql_invalid: sql of batch view risk yields no column rate; let it yield shop_id, event_time_ms, n, rate",
  ],
  [
    "no join key",
    { sql: "SELECT {to_ms} AS event_time_ms, count(*) AS n FROM pay" },
    "sql_invalid: sql of batch view risk yields no column shop_id; let it yield shop_id, event_time_ms, n",
  ],
  [
    "no stream",
    { sql: SQL.replace("FROM pay", "FROM payments") },
    "sql_invalid: sql of batch view risk reads no stream; read FROM one of pay",
  ],
  [
    "an odd schedule",
    { every: "7m" },
    "every_invalid: batch view risk runs every 7m, which is no multiple of 5m; use 5m, 1h or 1d",
  ],
  [
    "a ttl that leaves gaps",
    { ttl: "1h" },
    "ttl_too_short: ttl 1h of batch view risk is shorter than the time between its runs, 24h; use a ttl of at least 2d, so that a late run leaves no gap",
  ],
  [
    "an unknown type",
    { features: { n: "float" as "double" } },
    'type_unknown: feature risk:n has type "float"; use one of string, double, long, boolean',
  ],
  [
    "a feature named as a column",
    { features: { event_time_ms: "long" } },
    "name_taken: batch view risk has a feature named event_time_ms, which is a column of its own; rename the feature",
  ],
  ["no feature", { features: {} }, 'view_empty: batch view risk has no feature; write features: { rate: "double" }'],
  [
    "an entity that is not listed",
    { entity: d.entity("city", { joinKey: "city" }) },
    "entity_unknown: batch view risk uses entity city, which the definitions do not list; add it to entities in features/index.ts",
  ],
  [
    "a list of features",
    { features: ["n"] as never },
    'definition_invalid: features of batch view risk are an object, given a list; write features: { chargeback_rate_30d: "double" }',
  ],
];

describe("a batch view", () => {
  it.each(REFUSED)("is refused for %s", (_, options, message) => {
    expect(refusal(() => compiled(risk(options)))).toBe(message);
  });

  it("may speak of such words in a text", () => {
    const sql = SQL.replace("FROM pay", "FROM pay WHERE id <> 'now(); {x} :: random()'");
    expect(refusal(() => compiled(risk({ sql })))).toBe("accepted");
  });

  it("compiles to its streams, its times in ms and its features", () => {
    const { plan, lock } = compiled(risk({ lookback: "30d" }));
    expect(plan.batchViews).toEqual([
      {
        ...{ name: "risk", entity: "shop", sql: SQL, streams: ["pay"], owner: "o", description: "", tags: [] },
        ...{ everyMs: 86_400_000, lookbackMs: 30 * 86_400_000, ttlMs: 3 * 86_400_000, reachMs: 4 * 86_400_000 },
        features: [{ name: "risk:n", view: "risk", id: 0, dtype: "int64", description: "" }],
      },
    ]);
    expect(lock.pushed).toEqual({ risk: ["n:int64"] });
  });

  it("is not taken for a view of the same name", () => {
    const views = [d.featureView("risk", { entity: shop, source: pay, ttl: "3d", owner: "o", features: {} } as never)];
    const both = { ...using(risk()), views };
    expect(refusal(() => compile(both, contracts, EMPTY_LOCK, hash64))).toBe(
      "name_taken: two of feature view are named risk; rename one of them",
    );
  });

  it("gives a service its features, and a model's vector their meaning", () => {
    const service = (view: ReturnType<typeof risk>) =>
      d.featureService("s", { features: [view.only("n")], request: {}, task: "binary" });
    const made = (view: ReturnType<typeof risk>) =>
      compile(using(view, [service(view)]), contracts, EMPTY_LOCK, hash64).plan;
    const plan = made(risk());
    expect(plan.services[0]).toMatchObject({ features: ["risk:n"], entities: ["shop"] });
    const hash = (view: ReturnType<typeof risk>) => vectorHash(made(view), made(view).services[0], hash64);
    expect(hash(risk({ owner: "p" }))).toBe(hash(risk()));
    expect(hash(risk({ sql: `${SQL}, id` }))).not.toBe(hash(risk()));
  });
});

describe("ids of its values", () => {
  const sql = SQL.replace("AS n", "AS n, 1 AS m");

  it("are never used again: a type that changes is another id, and one that comes back its own", () => {
    const first = compiled(risk({ sql, features: { n: "long", m: "double" } }));
    const second = compiled(risk({ sql, features: { m: "double", n: "double" } }), first.lock);
    expect(second.plan.batchViews[0].features.map(({ name, id }) => [name, id])).toEqual([
      ["risk:m", 1],
      ["risk:n", 2],
    ]);
    const third = compiled(risk({ sql, features: { n: "long" } }), second.lock);
    expect(third.plan.batchViews[0].features[0].id).toBe(0);
    expect(third.lock.pushed).toEqual({ risk: ["n:int64", "m:double", "n:double"] });
  });

  it("stay when the view goes", () => {
    const { lock } = compiled(risk());
    const without = compile({ ...using(risk()), batchViews: [] }, contracts, lock, hash64);
    expect(without.lock.pushed).toEqual({ risk: ["n:int64"] });
  });

  it("may not mean something else in a lock that comes back", () => {
    const known = { ...EMPTY_LOCK, pushed: { risk: ["n:int64", "m:double"] } };
    expect(followLock(known, { ...EMPTY_LOCK, pushed: { risk: ["n:int64"] } }).lock.pushed).toEqual(known.pushed);
    expect(refusal(() => followLock(known, { ...EMPTY_LOCK, pushed: { risk: ["n:int64", "k:double"] } }))).toMatch(
      /^plan_lock_contradicts: value 1 of risk is k:double in this features\/plan.lock.json, but m:double in what is stored/,
    );
  });
});

it("the plan says what a change of a batch view does", () => {
  const before = compiled(risk());
  const after = compiled(risk({ ttl: "4d", features: { n: "double" } }), before.lock);
  expect(diffPlans(null, before.plan)).toEqual([
    {
      kind: "add",
      what: "risk:n",
      effect: "SQL every 24h; NOT_FOUND until the next run, or `freshet materialize`, gives it values",
    },
  ]);
  expect(diffPlans(before.plan, after.plan)).toEqual([
    {
      kind: "change",
      what: "risk:n",
      effect: "was int64, becomes double; NOT_FOUND until the next run, or `freshet materialize`, gives it values",
    },
    { kind: "change", what: "risk", effect: "ttl 3d becomes 4d; applies to the next read" },
  ]);
  expect(
    diffPlans(after.plan, compile({ ...using(risk()), batchViews: [] }, contracts, after.lock, hash64).plan),
  ).toEqual([{ kind: "remove", what: "risk:n", effect: "SQL every 24h is no longer served" }]);
});
