/** Row "point-in-time" of DESIGN §13: features of 1 M labels at their instants, over 10 M events and three entities. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { hash64 } from "../adapters/hash.ts";
import { DuckSession } from "../adapters/offline/duckdb.ts";
import { joinPointInTime } from "../adapters/offline/point-in-time.ts";
import { compile, EMPTY_LOCK } from "../core/compile/compile.ts";
import * as d from "../core/definition.ts";
import type { Contract, Plan } from "../core/plan.ts";
import type { Benchmark } from "./benchmark.ts";

const START_MS = Date.UTC(2026, 9, 1);
const DAYS = 30;
const DAY_MS = 86_400_000;
const ENTITIES = { card: 100_000, merchant: 1_000, device: 60_000 } as const;

const text = { type: "string", nullable: false } as const;
const contract: Contract = {
  name: "payments.v1",
  fields: {
    tenant: text,
    id: text,
    at: { type: "long", nullable: false },
    card: text,
    merchant: text,
    device: text,
    amount: { type: "double", nullable: false },
    status: text,
  },
};

/** Twelve windowed features for each of three entities. */
function twelveEach(): Plan {
  const schema: string = contract.name;
  const source = d.stream("payments", { schema, eventId: "id", eventTime: "at", partitionKey: "card" });
  const entities = Object.keys(ENTITIES).map((name) => d.entity(name, { joinKey: name }));
  const amount = { scale: 2 };
  const views = entities.map((entity) =>
    d.featureView(`${entity.name}_activity`, {
      entity,
      source,
      ttl: "40d",
      owner: "bench",
      features: {
        n: d.count().over("5m", "1h", "24h", "7d"),
        total: d.sum("amount", amount).over("1h", "24h"),
        average: d.mean("amount", amount).over("24h", "7d"),
        spread: d.stddev("amount", amount).over("7d"),
        high: d.max("amount").over("24h"),
        low: d.min("amount").over("24h"),
        declined: d.count({ where: d.eq("status", "declined") }).over("1h"),
      },
    }),
  );
  return compile({ entities, streams: [source], views, services: [] }, { [schema]: contract }, EMPTY_LOCK, hash64).plan;
}

/** Visible 0.2 to 1.7 s after their time; merchants are unequal, the busiest has thirty times the usual. */
const createEvents = (events: number) => `
CREATE TABLE events AS SELECT 'c' || (hash(i * 7) % ${ENTITIES.card}) AS card, 'd' || (hash(i * 3) % ${ENTITIES.device}) AS device,
  'm' || CAST(power((hash(i * 13) % 1000000) / 1e6, 2) * ${ENTITIES.merchant} AS INTEGER) AS merchant,
  ${START_MS} + CAST(floor(i * ${(DAYS * DAY_MS) / events}) AS BIGINT) AS event_time_ms, event_time_ms + 200 + hash(i * 5) % 1500 AS visible_ms,
  (hash(i * 11) % 20000) / 100.0::DOUBLE AS amount, CASE WHEN hash(i * 17) % 10 = 0 THEN 'declined' ELSE 'approved' END AS status
FROM range(${events}) AS t(i)`;

const createSpine = (labels: number) => `
CREATE TABLE spine AS SELECT row_number() OVER () - 1 AS "row id", event_time_ms AS "as of", card AS "key card", merchant AS "key merchant", device AS "key device"
FROM events USING SAMPLE reservoir(${labels} ROWS) REPEATABLE (7)`;

/** What a join of each label with its entity's events costs: the windows' conditions inside of the aggregates. */
const bruteForce = (entity: string) => `
SELECT s."row id", count(*) FILTER (e.event_time_ms >= s."as of" - 300000), count(*) FILTER (e.event_time_ms >= s."as of" - 3600000),
  count(*) FILTER (e.event_time_ms >= s."as of" - 86400000), count(*), sum(e.amount) FILTER (e.event_time_ms >= s."as of" - 3600000),
  sum(e.amount) FILTER (e.event_time_ms >= s."as of" - 86400000), avg(e.amount) FILTER (e.event_time_ms >= s."as of" - 86400000), avg(e.amount),
  stddev_pop(e.amount), max(e.amount) FILTER (e.event_time_ms >= s."as of" - 86400000), min(e.amount) FILTER (e.event_time_ms >= s."as of" - 86400000),
  count(*) FILTER (e.status = 'declined' AND e.event_time_ms >= s."as of" - 3600000)
FROM (SELECT * FROM spine WHERE "row id" % 100 = 0) AS s JOIN events AS e ON e.${entity} = s."key ${entity}"
  AND e.event_time_ms >= s."as of" - 604800000 AND e.event_time_ms <= s."as of" AND e.visible_ms <= s."as of"
GROUP BY 1`;

export const benchmark: Benchmark = {
  title: "Point-in-time: labels × events, 3 entities × 12 windowed features",
  async run({ quick, signal, say }) {
    const [events, labels] = quick ? [200_000, 20_000] : [10_000_000, 1_000_000];
    const folder = mkdtempSync(join(tmpdir(), "freshet-bench-"));
    const session = await DuckSession.open({ folder });
    try {
      await session.run(createEvents(events));
      await session.run(createSpine(labels));
      say(`${events} events and ${labels} labels are there`);
      const [range] = await session.rows('SELECT min("as of") AS a, max("as of") AS b FROM spine');
      const plan = twelveEach();
      signal.throwIfAborted();
      const startedAt = performance.now();
      const columns = await joinPointInTime(session, {
        plan,
        features: plan.views.flatMap((view) => view.features.map(({ name }) => name)),
        spine: { relation: "spine", rows: labels, fromMs: Number(range["a"]), toMs: Number(range["b"]) },
        events: ({ entity }) => `SELECT ${entity} AS id, '0' AS identity, event_time_ms, visible_ms,
          struct_pack(amount := amount, status := status) AS fields FROM events`,
      });
      const joinMs = performance.now() - startedAt;
      const peak = process.resourceUsage().maxRSS * 1024;
      say(`${columns.length} features in ${(joinMs / 1000).toFixed(1)} s`);
      signal.throwIfAborted();
      const bruteAt = performance.now();
      for (const entity of Object.keys(ENTITIES)) await session.rows(`SELECT count(*) FROM (${bruteForce(entity)})`);
      const bruteMs = (performance.now() - bruteAt) * 100;
      return [
        {
          what: `${labels} labels × ${events} events`,
          unit: "ms",
          rounds: [joinMs],
          ...(quick ? {} : { target: { atMost: 60_000 } }),
          baselines: [{ name: "brute force on 1 % of the labels, times 100", rounds: [bruteMs] }],
          note: "events as entity-events.ts gives them; reading and deduplicating the archive is apart",
        },
        {
          what: "peak memory of the process",
          unit: "bytes",
          rounds: [peak],
          ...(quick ? {} : { target: { atMost: 6 * 2 ** 30 } }),
        },
      ];
    } finally {
      session.close();
      rmSync(folder, { recursive: true, force: true });
    }
  },
};
