/** Freshet beside Feast's own Python server: the same values in the same Valkey, the same requests, rounds in turn. */
import { isDeepStrictEqual } from "node:util";
import { packValues } from "../adapters/valkey/packed.ts";
import { pushRows } from "../adapters/valkey/push.ts";
import { LOOPBACK } from "../local/ports.ts";
import { openStore, type TestStore } from "../test/support/store.ts";
import { startValkey } from "../test/support/valkey.ts";
import type { Baseline, Benchmark, BenchmarkOptions, Row } from "./benchmark.ts";
import { Child } from "./child.ts";
import { ENTITIES, feastPlan, valueAt } from "./feast-data.ts";
import { measurePush } from "./feast-push.ts";
import { openFeast } from "./feast-server.ts";
import { CASES, type Case, orderOf, type Servers, type Way } from "./feast-ways.ts";
import type { LoadResult } from "./load.ts";
import { settledMemory } from "./meters.ts";
import { type Loading, metersOf, type Timed, timed } from "./reading.ts";
import type { Serving } from "./serve-process.ts";
import { median } from "./statistics.ts";

export const benchmark: Benchmark = {
  title: "Beside Feast 0.67.0's Python server, keep-alive, one Valkey with the same values",
  async run(options) {
    const { signal, say } = options;
    signal.throwIfAborted();
    const startedAt = performance.now();
    const told = (text: string) => say(`${((performance.now() - startedAt) / 1000).toFixed(0)} s: ${text}`);
    const valkey = await startValkey();
    const children: Child[] = [];
    let feast: Awaited<ReturnType<typeof openFeast>> | null = null;
    let store: TestStore | null = null;
    try {
      feast = await openFeast(valkey.port, told);
      store = await openStore(feastPlan, valkey, Math.floor(Date.now() / 60_000) * 60_000);
      const bytes = await fill(store);
      told("Feast and Freshet are filled");
      const [one, two] = await Promise.all([feast.serve(1), feast.serve(2)]);
      const child = new Child("serve-process.ts");
      const loader = new Child("load-process.ts");
      children.push(child, loader);
      const order = { listen: "freshet", valkeyPort: valkey.port, definitions: "feast" };
      const serving = await child.ask<Serving>(order);
      const freshet = { ...serving, ...metersOf(child) };
      const stage: Loading = {
        store,
        load: (given, durationMs) => loader.ask<LoadResult>({ ...given, durationMs }),
      };
      const servers: Servers = { freshet, feast: one, feast2: two };
      told("all servers answer");
      const rows: Row[] = [];
      for (const each of CASES) {
        await checkAlike(each, servers);
        for (const connections of [1, 8, 32]) {
          rows.push(...(await measureCase(stage, each, servers, connections, { ...options, say: told })));
        }
      }
      rows.push(...(await measurePush(stage, servers, { ...options, say: told })));
      rows.push(memoryRow(bytes, feast.bytes));
      return rows;
    } finally {
      await Promise.all(children.map((each) => each.stop()));
      feast?.close();
      await store?.connection.close();
      await valkey.stop();
    }
  },
};

/** @returns bytes of an entity, by view */
async function fill(store: TestStore): Promise<Record<string, number>> {
  const [node] = await store.connection.primaries();
  const bytes: Record<string, number> = {};
  const eventTimeMs = Date.now();
  for (const view of feastPlan.batchViews) {
    const before = await settledMemory(node);
    const rows = Array.from({ length: ENTITIES }, (_, n) => {
      const values = view.features.map(({ id: place, dtype }, f) => ({ id: place, dtype, value: valueAt(n, f) }));
      const { entity, name, reachMs } = view;
      const packed = packValues(values, eventTimeMs);
      return { tenant: "default", entity, id: `${entity}_${n}`, view: name, eventTimeMs, packed, reachMs };
    });
    await pushRows(store.applier, rows);
    bytes[view.name] = ((await settledMemory(node)) - before) / ENTITIES;
  }
  return bytes;
}

/** What is measured is the same answer: both servers' values of one request, by name. */
async function checkAlike({ name, ours, theirs }: Case, servers: Servers): Promise<void> {
  const [way] = ours.filter(({ path }) => path === "/get-online-features");
  const [own, other] = await Promise.all([columns(servers, way), columns(servers, theirs[0])]);
  if (!isDeepStrictEqual(own, other)) throw new Error(`Freshet and Feast answer ${name} differently`);
}

async function columns(servers: Servers, { server, path, body }: Way): Promise<Record<string, unknown>> {
  const { port, key } = servers[server];
  const headers = { "content-type": "application/json", ...(key === undefined ? {} : { "x-api-key": key }) };
  const url = `http://${LOOPBACK}:${port}${path}`;
  const response = await fetch(url, { method: "POST", headers, body: JSON.stringify(body(1)) });
  const { results, metadata } = (await response.json()) as any;
  const sorted = metadata.feature_names.map((name: string, i: number) => [name, results[i].values]).sort();
  return Object.fromEntries(sorted);
}

async function measureCase(
  stage: Loading,
  { name, ours, theirs, theirsWithTwo, targets }: Case,
  servers: Servers,
  connections: number,
  { quick, signal, say }: BenchmarkOptions,
): Promise<Row[]> {
  const rounds = quick ? 1 : connections === 1 ? 5 : 3;
  const durationMs = quick ? 400 : 1_500;
  const ways = connections === 1 ? [...ours, ...theirs] : [...ours, ...theirs.slice(0, 1), theirsWithTwo];
  const orders = ways.map((way) => ({ way, kept: [] as Timed[], order: orderOf(way, servers, connections) }));
  for (let round = 0; round <= rounds; round++) {
    signal.throwIfAborted();
    for (const { way, kept, order } of orders) {
      // What is compared are warm servers: with one connection it takes the longest until all that is hot is compiled.
      const warmMs = connections === 1 ? 2 * durationMs : durationMs / 3;
      const result = await timed(stage, servers[way.server], order, round === 0 ? warmMs : durationMs);
      if (round > 0) kept.push(result);
    }
  }
  const heading = `${name}, ${connections} connection${connections > 1 ? "s" : ""}`;
  const show = connections === 1 ? ({ p50Ms }: Timed) => p50Ms : ({ perSecond }: Timed) => perSecond;
  const unit = connections === 1 ? "ms" : "requests/s";
  say(
    `${heading}: ${orders.map(({ way, kept }) => `${way.name} ${median(kept.map(show)).toPrecision(3)}`).join(", ")} ${unit}`,
  );
  const own = orders.slice(0, ours.length);
  const others = orders.slice(ours.length);
  return own.flatMap(({ way, kept }) => rowsOf(`${heading}, ${way.name}`, kept, others, connections, targets));
}

function rowsOf(
  name: string,
  kept: readonly Timed[],
  others: readonly { readonly way: Way; readonly kept: readonly Timed[] }[],
  connections: number,
  targets: Case["targets"],
): Row[] {
  const refused = [{ way: { name: "Freshet" }, kept }, ...others].flatMap(({ way, kept: timings }) => {
    const failed = timings.reduce((sum, one) => sum + one.failed, 0);
    return failed === 0 ? [] : [`${way.name}: ${failed}`];
  });
  const row = (what: string, unit: Row["unit"], value: (one: Timed) => number, atMost?: number): Row => ({
    what: `${name}: ${what}`,
    unit,
    ...(refused.length === 0 ? {} : { note: `Answers other than 200, left out: ${refused.join(", ")}.` }),
    rounds: kept.map(value),
    ...(atMost === undefined ? {} : { target: { atMost } }),
    baselines: others.map(({ way, kept: timings }): Baseline => ({ name: way.name, rounds: timings.map(value) })),
  });
  if (connections > 1) {
    return [
      row("throughput", "requests/s", ({ perSecond }) => perSecond),
      row("p99", "ms", ({ p99Ms }) => p99Ms),
      row("CPU of the server", "µs", ({ serverUs }) => serverUs),
    ];
  }
  // Ten times less than Feast's list form takes, where nothing stricter is asked for.
  const list = others.find(({ way }) => way.name === "Feast, list");
  const tenth = median(list!.kept.map(({ serverUs }) => serverUs)) / 10;
  return [
    row("p50", "ms", ({ p50Ms }) => p50Ms, targets.p50Ms),
    row("p95", "ms", ({ p95Ms }) => p95Ms),
    row("p99", "ms", ({ p99Ms }) => p99Ms, targets.p99Ms),
    row(
      "CPU of the server",
      "µs",
      ({ serverUs }) => serverUs,
      Math.min(tenth, targets.cpuUs ?? Number.POSITIVE_INFINITY),
    ),
    row("CPU of Valkey", "µs", ({ storeUs }) => storeUs),
  ];
}

function memoryRow(own: Readonly<Record<string, number>>, theirs: Readonly<Record<string, number>>): Row {
  return {
    what: "bytes of an entity with 50 pushed doubles",
    unit: "bytes",
    rounds: [own["card_profile"]],
    target: { atMost: 600 },
    baselines: [{ name: "Feast", rounds: [theirs["card_profile"]] }],
    note: `The difference of used_memory over ${ENTITIES} entities, keys and their share of the key table included, without what connections hold.`,
  };
}
