/** Rows "online features" of DESIGN §13 that exist so far: windowed features over HTTP. (Pushed features come later.) */
import type { Benchmark, Row } from "./benchmark.ts";
import { CARD_FEATURES } from "./definitions.ts";
import { httpPost, type LoadOrder } from "./load.ts";
import { ENTITIES, moveSeal, openStage, type Stage, type Timed, timed } from "./reading.ts";

interface Case {
  readonly name: string;
  /** The body for the n-th request. */
  body(n: number): object;
  readonly path: string;
  readonly connections: readonly number[];
  readonly targets: { readonly p50Ms?: number; readonly p99Ms?: number; readonly cpuUs?: number };
}

const id = (kind: string, n: number): string => `${kind}_${(n * 7919) % ENTITIES}`;
const fourKeys = (n: number): Record<string, string> => ({
  card_id: id("card", n),
  merchant_id: id("merchant", n + 1),
  device_id: id("device", n + 2),
  user_id: id("user", n + 3),
});

export const CASES: Readonly<Record<"one" | "service" | "batch" | "score", Case>> = {
  one: {
    name: "1 entity × 12 windowed",
    path: "/v1/features/online",
    body: (n) => ({ entities: { card_id: id("card", n) }, features: CARD_FEATURES }),
    connections: [1, 8, 32],
    targets: { p50Ms: 0.35, p99Ms: 1.04, cpuUs: 200 },
  },
  service: {
    name: "4 entity types through a service (27 windowed)",
    path: "/v1/features/online",
    body: (n) => ({ entities: fourKeys(n), service: "fraud" }),
    connections: [1],
    targets: { p50Ms: 0.4, p99Ms: 1 },
  },
  batch: {
    name: "100 entities × 12 windowed in one request",
    path: "/v1/features/batch",
    body: (n) => ({
      entities: Array.from({ length: 100 }, (_, i) => ({ card_id: id("card", n * 100 + i) })),
      features: CARD_FEATURES,
    }),
    connections: [1],
    targets: { p50Ms: 2.5 },
  },
  score: {
    name: "score by rules, 4 entities",
    path: "/v1/score/fraud",
    body: (n) => ({ ...fourKeys(n), amount: 12.5 + (n % 500), country: "SE" }),
    connections: [1, 8, 32],
    targets: { p50Ms: 0.6, p99Ms: 1.5 },
  },
};

export const benchmark: Benchmark = {
  title: "Online features over HTTP, as `freshet serve`, keep-alive",
  async run(options) {
    const stage = await openStage(options);
    try {
      const rows: Row[] = [];
      for (const name of ["one", "service", "batch"] as const) {
        rows.push(...(await measureCase(stage, CASES[name], options)));
      }
      return rows;
    } finally {
      await stage.close();
    }
  },
};

/** Rounds of product, bare server and raw GET in turn, so that all of them meet the same machine. */
export async function measureCase(
  stage: Stage,
  { name, body, path, connections, targets }: Case,
  { quick, signal, say }: { quick: boolean; signal: AbortSignal; say: (text: string) => void },
): Promise<Row[]> {
  const rounds = quick ? 2 : 7;
  const durationMs = quick ? 700 : 2_000;
  const bodies = Array.from({ length: 500 }, (_, n) => body(n));
  const key = { "x-api-key": stage.freshet.key };
  const product = bodies.map((each) => httpPost(path, each, key));
  const bare = bodies.map((each) => httpPost("/", each));
  const rows: Row[] = [];
  for (const count of connections) {
    const orders: [Timed[], Stage["freshet"] | null, Omit<LoadOrder, "durationMs">][] = [
      [[], stage.freshet, { port: stage.freshet.port, protocol: "http", requests: product, connections: count }],
      [[], stage.bare, { port: stage.bare.port, protocol: "http", requests: bare, connections: count }],
      [[], null, { port: stage.valkey.port, protocol: "resp", requests: await rawGets(stage), connections: count }],
    ];
    for (let round = 0; round <= rounds; round++) {
      signal.throwIfAborted();
      await moveSeal(stage);
      for (const [kept, server, order] of orders) {
        const result = await timed(stage, server, order, round === 0 ? 2 * durationMs : durationMs);
        if (round > 0) kept.push(result);
      }
    }
    const [[freshet], [baseline], [get]] = orders;
    say(`${name}, ${count} connections: p50 ${freshet[0].p50Ms.toFixed(3)} ms, ${freshet[0].serverUs.toFixed(0)} µs`);
    rows.push(
      ...rowsOf(`${name}, ${count} connection${count > 1 ? "s" : ""}`, { freshet, baseline, get }, count, targets),
    );
  }
  return rows;
}

/** A value of 1 KB, about what the answers weigh. */
async function rawGets(stage: Stage): Promise<Buffer[]> {
  const [node] = await stage.store.connection.primaries();
  await node.set("bench:get", "x".repeat(1_000));
  return [Buffer.from("*2\r\n$3\r\nGET\r\n$9\r\nbench:get\r\n")];
}

function rowsOf(
  name: string,
  timings: { freshet: Timed[]; baseline: Timed[]; get: Timed[] },
  connections: number,
  targets: Case["targets"],
): Row[] {
  const pick = (of: keyof typeof timings, value: (one: Timed) => number): number[] => timings[of].map(value);
  const row = (
    what: string,
    unit: Row["unit"],
    value: (one: Timed) => number,
    more: { atMost?: number; note?: string; get?: boolean } = {},
  ): Row => ({
    what: `${name}: ${what}`,
    unit,
    rounds: pick("freshet", value),
    ...(more.atMost === undefined ? {} : { target: { atMost: more.atMost } }),
    ...(more.note === undefined ? {} : { note: more.note }),
    baselines: [
      { name: "bare HTTP + HMGET", rounds: pick("baseline", value) },
      ...(more.get === false ? [] : [{ name: "raw GET", rounds: pick("get", value) }]),
    ],
  });
  if (connections > 1) {
    return [row("throughput", "requests/s", ({ perSecond }) => perSecond), row("p99", "ms", ({ p99Ms }) => p99Ms)];
  }
  return [
    row("p50", "ms", ({ p50Ms }) => p50Ms, { atMost: targets.p50Ms }),
    row("p95", "ms", ({ p95Ms }) => p95Ms),
    row("p99", "ms", ({ p99Ms }) => p99Ms, { atMost: targets.p99Ms }),
    row("CPU of the server", "µs", ({ serverUs }) => serverUs, { atMost: targets.cpuUs, get: false }),
    row("CPU of Valkey", "µs", ({ storeUs }) => storeUs),
    row("allocated by the server", "bytes", ({ allocatedBytes }) => allocatedBytes, { get: false }),
  ];
}
