/** A ranking of 500 candidates over HTTP, beside five batches of scores and a Python server that answers from ready values. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Benchmark, BenchmarkOptions, Row } from "./benchmark.ts";
import { servingPlan } from "./definitions.ts";
import { httpPost, type LoadOrder } from "./load.ts";
import { makeModel } from "./make-model.ts";
import { startPythonServer } from "./python-server.ts";
import { ENTITIES, moveSeal, openStage, type Server, type Stage, type Timed, timed } from "./reading.ts";
import { seededRandom } from "./workload.ts";

const service = servingPlan.services.find(({ name }) => name === "pick")!;
const CANDIDATES = 500;
/** What `POST /v1/score/{service}/batch` takes. */
const BATCH = 100;

/** Of the n-th request: all merchants, another one first each time. */
const merchants = (n: number): string[] =>
  Array.from({ length: CANDIDATES }, (_, i) => `merchant_${(n * 7919 + i * 31) % ENTITIES}`);
const card = (n: number): string => `card_${(n * 7919) % ENTITIES}`;
const ranking = (n: number) => ({ card_id: card(n), candidates: merchants(n), k: 10 });
const batch = (n: number) => {
  const own = merchants(n).slice((n % 5) * BATCH, ((n % 5) + 1) * BATCH);
  return { rows: own.map((merchant_id) => ({ card_id: card(n), merchant_id })) };
};

export const benchmark: Benchmark = {
  title: "A ranking of 500 candidates over HTTP, as `freshet serve`, keep-alive",
  async run(options) {
    const stage = await openStage(options);
    try {
      return await measure(stage, options);
    } finally {
      await stage.close();
    }
  },
};

async function startPython(stage: Stage, model: string, folder: string, say: (text: string) => void) {
  const [ofCard, ofMerchant] = ["card", "merchant"].map((entity) =>
    service.features.filter((name) => name.startsWith(`${entity}_`)),
  );
  const key = "bench";
  const spec = join(folder, "server.json");
  writeFileSync(spec, JSON.stringify({ key, card: ofCard, merchant: ofMerchant }));
  const random = seededRandom(11);
  const [node] = await stage.store.connection.primaries();
  const values = (names: readonly string[]) =>
    Object.fromEntries(names.map((each) => [each, (random() * 300).toFixed(2)]));
  for (let n = 0; n < ENTITIES; n++) {
    const pipeline = node.pipeline();
    pipeline.hset(`py:card:card_${n}`, values(ofCard));
    pipeline.hset(`py:merchant:merchant_${n}`, values(ofMerchant));
    await pipeline.exec();
  }
  return {
    ...(await startPythonServer("rank_server.py", stage, [join(model, "model.onnx"), spec], say)),
    key,
  };
}

/** Rounds of all three in turn, so that they meet the same machine. */
async function measure(stage: Stage, { quick, signal, say }: BenchmarkOptions): Promise<Row[]> {
  const folder = mkdtempSync(join(tmpdir(), "freshet-bench-rank-"));
  let python: Awaited<ReturnType<typeof startPython>> | null = null;
  try {
    const model = makeModel(servingPlan, service, folder);
    const served = await stage.serve({ listen: "freshet", model, service: service.name });
    python = await startPython(stage, model, folder, say);
    const order = (server: Server, path: string, body: (n: number) => object): Omit<LoadOrder, "durationMs"> => ({
      port: server.port,
      protocol: "http",
      requests: Array.from({ length: 100 }, (_, n) => httpPost(path, body(n), { "x-api-key": server.key })),
      connections: 1,
    });
    const orders: [Timed[], Server, Omit<LoadOrder, "durationMs">][] = [
      [[], served, order(served, "/v1/rank/pick", ranking)],
      [[], served, order(served, "/v1/score/pick/batch", batch)],
      [[], { ...python }, order({ ...python }, "/v1/rank/pick", ranking)],
    ];
    const durationMs = quick ? 1_000 : 3_000;
    for (let round = 0; round <= (quick ? 2 : 7); round++) {
      signal.throwIfAborted();
      await moveSeal(stage);
      for (const [kept, server, each] of orders) {
        const result = await timed(stage, server, each, durationMs);
        if (round > 0) kept.push(result);
      }
    }
    const [[own], [batches], [baseline]] = orders;
    say(
      `p50 ${own[0].p50Ms.toFixed(2)} ms, five batches ${(5 * batches[0].p50Ms).toFixed(2)} ms, Python ${baseline[0].p50Ms.toFixed(2)} ms`,
    );
    return rowsOf(own, batches, baseline);
  } finally {
    python?.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

function rowsOf(own: readonly Timed[], batches: readonly Timed[], python: readonly Timed[]): Row[] {
  const row = (what: string, unit: Row["unit"], value: (one: Timed) => number, batchesAdd = true): Row => ({
    what: `rank 500 candidates with ONNX (200 trees), 1 connection: ${what}`,
    unit,
    rounds: own.map(value),
    baselines: [
      ...(batchesAdd
        ? [{ name: "5 batches of 100 scores", rounds: batches.map((one) => (CANDIDATES / BATCH) * value(one)) }]
        : []),
      { name: "FastAPI + redis + onnxruntime", rounds: python.map(value) },
    ],
  });
  return [
    row("p50", "ms", ({ p50Ms }) => p50Ms),
    // Tails of five calls do not add up.
    row("p99", "ms", ({ p99Ms }) => p99Ms, false),
    row("CPU of the server", "µs", ({ serverUs }) => serverUs),
    row("CPU of Valkey", "µs", ({ storeUs }) => storeUs),
  ];
}
