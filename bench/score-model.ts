/** Row "score, 4 entities + ONNX" of DESIGN §13, beside a Python server that answers the same from ready values. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { BenchmarkOptions, Row } from "./benchmark.ts";
import { servingPlan } from "./definitions.ts";
import { httpPost, type LoadOrder, type LoadResult } from "./load.ts";
import { makeModel } from "./make-model.ts";
import { CASES } from "./online.ts";
import { startPythonServer } from "./python-server.ts";
import { ENTITIES, moveSeal, type Server, type Stage, type Timed, timed } from "./reading.ts";
import { seededRandom } from "./workload.ts";

const [service] = servingPlan.services;
async function startPython(stage: Stage, model: string, folder: string, say: (text: string) => void) {
  const entities = servingPlan.entities.map(({ name, joinKey }) => ({
    name,
    join_key: joinKey,
    features: service.features.filter((feature) => feature.startsWith(`${name}_`)),
  }));
  const { features } = JSON.parse(readFileSync(join(model, "manifest.json"), "utf8"));
  const categories: string[] = features.find((one: any) => one.name === "request:country").categories;
  const spec = join(folder, "server.json");
  const key = "bench";
  const codes = Object.fromEntries(categories.map((name, code) => [name, code]));
  writeFileSync(spec, JSON.stringify({ key, entities, country_codes: codes }));
  const random = seededRandom(11);
  const [node] = await stage.store.connection.primaries();
  for (let n = 0; n < ENTITIES; n++) {
    const pipeline = node.pipeline();
    for (const { name, features: names } of entities) {
      pipeline.hset(
        `py:${name}:${name}_${n}`,
        Object.fromEntries(names.map((each) => [each, (random() * 300).toFixed(2)])),
      );
    }
    await pipeline.exec();
  }
  const server = await startPythonServer("score_server.py", stage, [join(model, "model.onnx"), spec], say);
  return { ...server, key };
}

/** Rounds of model and Python server in turn, so that both meet the same machine. */
export async function measureModel(stage: Stage, options: BenchmarkOptions): Promise<Row[]> {
  const { quick, signal, say } = options;
  const folder = mkdtempSync(join(tmpdir(), "freshet-bench-model-"));
  let python: Awaited<ReturnType<typeof startPython>> | null = null;
  try {
    const model = makeModel(servingPlan, service, folder);
    const served = await stage.serve({ listen: "freshet", model });
    python = await startPython(stage, model, folder, say);
    const { body, path } = CASES.score;
    const bodies = Array.from({ length: 500 }, (_, n) => body(n));
    const requestsTo = ({ key }: Pick<Server, "key">) =>
      bodies.map((each) => httpPost(path, each, { "x-api-key": key }));
    const rows: Row[] = [];
    for (const connections of [1, 8]) {
      const orders: [Timed[], Server, Omit<LoadOrder, "durationMs">][] = [served, { ...python }].map((server) => [
        [],
        server,
        { port: server.port, protocol: "http", requests: requestsTo(server), connections },
      ]);
      const durationMs = quick ? 700 : 2_000;
      for (let round = 0; round <= (quick ? 2 : 7); round++) {
        signal.throwIfAborted();
        await moveSeal(stage);
        for (const [kept, server, order] of orders) {
          const result = await timed(stage, server, order, round === 0 ? 2 * durationMs : durationMs);
          if (round > 0) kept.push(result);
        }
      }
      const [[own], [baseline]] = orders;
      say(
        `score with ONNX, ${connections} connections: p50 ${own[0].p50Ms.toFixed(3)} ms, Python ${baseline[0].p50Ms.toFixed(3)} ms`,
      );
      rows.push(...rowsOf(own, baseline, connections));
    }
    return [...rows, ...(await measurePromotion(stage, served, requestsTo(served), options))];
  } finally {
    python?.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Four callers, for a while with one champion, then for as long with a promotion in the middle; nothing may fail. */
async function measurePromotion(
  stage: Stage,
  server: Server,
  requests: LoadOrder["requests"],
  { quick, signal, say }: BenchmarkOptions,
): Promise<Row[]> {
  const order = { port: server.port, protocol: "http", requests, connections: 4 } as const;
  const durationMs = quick ? 1_000 : 2_000;
  const kept = { quiet: [] as LoadResult[], promoted: [] as LoadResult[], untilMs: [] as number[] };
  for (let round = 0; round <= (quick ? 2 : 7); round++) {
    signal.throwIfAborted();
    await moveSeal(stage);
    const quiet = await stage.load(order, durationMs);
    const loading = stage.load(order, durationMs);
    await sleep(durationMs / 2);
    const untilMs = await server.promote!();
    const promoted = await loading;
    if (quiet.failed + promoted.failed > 0) throw new Error(`${promoted.failed} scores failed during a promotion`);
    if (round === 0) continue;
    kept.quiet.push(quiet);
    kept.promoted.push(promoted);
    kept.untilMs.push(untilMs);
  }
  say(`promotion: serves after ${kept.untilMs.map((ms) => ms.toFixed(0)).join(", ")} ms`);
  const row = (what: string, value: (one: LoadResult) => number): Row => ({
    what: `score with ONNX while a new champion comes, 4 connections: ${what}`,
    unit: "ms",
    rounds: kept.promoted.map(value),
    baselines: [{ name: "with the champion that stands", rounds: kept.quiet.map(value) }],
    ...(what === "slowest"
      ? {
          note: "One promotion in the middle of 2 s: the artefact is opened, checked by its golden rows and warmed in the process that scores. No score failed.",
        }
      : {}),
  });
  return [
    row("p50", ({ p50Ms }) => p50Ms),
    row("p99", ({ p99Ms }) => p99Ms),
    row("slowest", ({ slowestMs }) => slowestMs),
    {
      what: "promotion: from the alias's change until the new champion scores",
      unit: "ms",
      rounds: kept.untilMs,
      target: { atMost: 5_000 },
      baselines: [],
      note: "Besides the time until the next look at the aliases, 1.5 s at most.",
    },
  ];
}

function rowsOf(own: readonly Timed[], baseline: readonly Timed[], connections: number): Row[] {
  const name = `score with ONNX (200 trees), 4 entities, ${connections} connection${connections > 1 ? "s" : ""}`;
  const row = (what: string, unit: Row["unit"], value: (one: Timed) => number, atMost?: number): Row => ({
    what: `${name}: ${what}`,
    unit,
    rounds: own.map(value),
    ...(atMost === undefined ? {} : { target: { atMost } }),
    baselines: [{ name: "FastAPI + redis + onnxruntime", rounds: baseline.map(value) }],
  });
  if (connections > 1) {
    return [row("throughput", "requests/s", ({ perSecond }) => perSecond), row("p99", "ms", ({ p99Ms }) => p99Ms)];
  }
  return [
    row("p50", "ms", ({ p50Ms }) => p50Ms, 0.6),
    row("p95", "ms", ({ p95Ms }) => p95Ms),
    row("p99", "ms", ({ p99Ms }) => p99Ms, 1.5),
    row("CPU of the server", "µs", ({ serverUs }) => serverUs),
    { ...row("allocated by the server", "bytes", ({ allocatedBytes }) => allocatedBytes), baselines: [] },
  ];
}
