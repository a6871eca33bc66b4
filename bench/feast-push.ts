/** Row "push" of DESIGN §13, beside Feast's server. */
import type { BenchmarkOptions, Row } from "./benchmark.ts";
import { ENTITIES, feastPlan, PUSHED_VIEW, pushedFeatures, valueAt } from "./feast-data.ts";
import { orderOf, type Servers, type Way } from "./feast-ways.ts";
import { type Loading, type Timed, timed } from "./reading.ts";
import { median } from "./statistics.ts";

const PUSH_ROWS = 100;
/** More than either takes in within a round on a machine of two cores. */
const PUSHES = { freshet: 600, feast: 60, feast2: 60 };

/** 100 rows of 50 features a request. Freshet archives them before it answers; Feast writes its online store alone. */
export async function measurePush(
  stage: Loading,
  servers: Servers,
  { quick, signal, say }: BenchmarkOptions,
): Promise<Row[]> {
  // Each push is newer than all before it, as in life: what is older is left out by Feast, and compared value by value by Freshet.
  let timeMs = Date.now() - 3_600_000;
  const nextTime = () => {
    timeMs += 100;
    return timeMs;
  };
  const rowsOfPush = (n: number) => Array.from({ length: PUSH_ROWS }, (_, i) => (n * PUSH_ROWS + i) % ENTITIES);
  const frame = (n: number) => {
    const rows = rowsOfPush(n);
    const columns = feastPlan.batchViews[0].features.map(({ name }, f) => [
      keyOf(name),
      rows.map((row) => valueAt(row, f)),
    ]);
    const time = new Date(nextTime()).toISOString();
    return {
      card_id: rows.map((row) => `card_${row}`),
      ...Object.fromEntries(columns),
      event_timestamp: rows.map(() => time),
    };
  };
  const own = pushedFeatures.map(({ view, key }) => `${view}:${key}`);
  const ways: readonly Way[] = [
    {
      name: "/v1/features/push",
      server: "freshet",
      path: "/v1/features/push",
      body: (n) => ({
        features: own,
        event_time_ms: nextTime(),
        rows: rowsOfPush(n).map((row) => ({ id: `card_${row}`, values: own.map((_, f) => valueAt(row, f)) })),
      }),
    },
    { name: "/push", server: "freshet", path: "/push", body: (n) => ({ push_source_name: PUSHED_VIEW, df: frame(n) }) },
    {
      name: "Feast, /push",
      server: "feast",
      path: "/push",
      body: (n) => ({ push_source_name: "card_profile_push", df: frame(n) }),
    },
    {
      name: "Feast, /push, 2 workers",
      server: "feast2",
      path: "/push",
      body: (n) => ({ push_source_name: "card_profile_push", df: frame(n) }),
    },
  ];
  const kept = ways.map((way) => ({ way, rounds: [] as Timed[] }));
  for (let round = 0; round <= (quick ? 1 : 3); round++) {
    for (const { way, rounds } of kept) {
      signal.throwIfAborted();
      const order = orderOf(way, servers, 8, PUSHES[way.server]);
      const result = await timed(stage, servers[way.server], order, quick ? 400 : round === 0 ? 500 : 1_500);
      if (round > 0) rounds.push(result);
    }
  }
  const rate = ({ perSecond }: Timed) => perSecond * PUSH_ROWS;
  say(`push: ${kept.map(({ way, rounds }) => `${way.name} ${median(rounds.map(rate)).toFixed(0)}`).join(", ")} rows/s`);
  return kept.slice(0, 2).flatMap(({ way, rounds }) => {
    const row = (what: string, unit: Row["unit"], value: (one: Timed) => number): Row => ({
      what: `push, 50 doubles a row, 100 rows a request, 8 connections, ${way.name}: ${what}`,
      unit,
      rounds: rounds.map(value),
      baselines: kept.slice(2).map((other) => ({ name: other.way.name, rounds: other.rounds.map(value) })),
    });
    return [
      { ...row("throughput", "rows/s", rate), target: { atLeast: 30_000 }, note: NOTE },
      row("CPU of the server, a request", "µs", ({ serverUs }) => serverUs),
      row("CPU of Valkey, a request", "µs", ({ storeUs }) => storeUs),
    ];
  });
}

const NOTE =
  "Freshet formats and compresses each row for its archive before it answers, without S3's own time; Feast writes its online store alone.";

const keyOf = (name: string): string => name.slice(name.indexOf(":") + 1);
