/** What one tenant notices of another that asks for far more than it may, where one process serves both. */
import type { Benchmark, Row } from "./benchmark.ts";
import { Child } from "./child.ts";
import { httpPost, type LoadOrder, type LoadResult } from "./load.ts";
import { CASES } from "./online.ts";
import { moveSeal, openStage } from "./reading.ts";

/** What the other tenant may ask for in a second. */
const BOUND = 500;
const CONNECTIONS = 2;
const OTHERS = 32;
/** A program that tries again at once, over and over. */
const PAUSE_MS = 5;

const NEIGHBOURS = ["nobody", "refused", "admitted"] as const;
type Neighbour = (typeof NEIGHBOURS)[number];

export const benchmark: Benchmark = {
  title: "Scores of one tenant while another asks for more than it may, `freshet serve`, keep-alive",
  async run(options) {
    const { quick, signal, say } = options;
    const stage = await openStage(options);
    const flood = new Child("load-process.ts");
    try {
      const server = await stage.serve({ listen: "freshet", boundedTo: BOUND });
      const { path, body } = CASES.score;
      const bodies = Array.from({ length: 500 }, (_, n) => body(n));
      const order = (key: string, connections: number): Omit<LoadOrder, "durationMs"> => ({
        ...{ port: server.port, protocol: "http", connections, pauseMs: PAUSE_MS, tolerant: true },
        requests: bodies.map((each) => httpPost(path, each, { "x-api-key": key })),
      });
      const own = order(server.key, CONNECTIONS);
      const others = {
        refused: order(server.neighbours!.bounded, OTHERS),
        admitted: order(server.neighbours!.free, OTHERS),
      };
      const measured: Record<Neighbour, LoadResult[]> = { nobody: [], refused: [], admitted: [] };
      const flooded: Record<Exclude<Neighbour, "nobody">, LoadResult[]> = { refused: [], admitted: [] };
      const durationMs = quick ? 700 : 3_000;
      for (let round = 0; round <= (quick ? 2 : 7); round++) {
        signal.throwIfAborted();
        await moveSeal(stage);
        for (const neighbour of NEIGHBOURS) {
          const other =
            neighbour === "nobody"
              ? null
              : flood.ask<LoadResult>({ ...others[neighbour], durationMs: durationMs + 300 });
          const result = await stage.load(own, durationMs);
          const load = await other;
          if (round === 0) continue;
          if (result.failed > 0) throw new Error(`${result.failed} calls of a tenant within its limits failed`);
          measured[neighbour].push(result);
          if (neighbour !== "nobody") flooded[neighbour].push(load!);
        }
      }
      const median = (of: Neighbour) =>
        measured[of].map(({ p99Ms }) => p99Ms).sort((a, b) => a - b)[measured[of].length >> 1];
      say(NEIGHBOURS.map((of) => `${of}: p99 ${median(of).toFixed(2)} ms`).join(", "));
      return rowsOf(measured, flooded, durationMs + 300);
    } finally {
      await flood.stop();
      await stage.close();
    }
  },
};

function rowsOf(
  measured: Readonly<Record<Neighbour, readonly LoadResult[]>>,
  flooded: Readonly<Record<"refused" | "admitted", readonly LoadResult[]>>,
  durationMs: number,
): Row[] {
  const row = (what: string, value: (one: LoadResult) => number): Row => ({
    what: `another tenant beyond its ${BOUND} a second: ${what}`,
    unit: "ms",
    rounds: measured.refused.map(value),
    baselines: [
      { name: "nobody beside it", rounds: measured.nobody.map(value) },
      { name: "the same load without a limit", rounds: measured.admitted.map(value) },
    ],
  });
  const perSecond = (value: (one: LoadResult) => number) => (one: LoadResult) => (value(one) / durationMs) * 1_000;
  return [
    row("p50", ({ p50Ms }) => p50Ms),
    row("p99", ({ p99Ms }) => p99Ms),
    row("slowest", ({ slowestMs }) => slowestMs),
    {
      what: "the other tenant: calls that were refused",
      unit: "requests/s",
      rounds: flooded.refused.map(perSecond(({ failed }) => failed)),
      baselines: [
        { name: "answered without a limit", rounds: flooded.admitted.map(perSecond(({ requests }) => requests)) },
      ],
    },
    {
      what: "the other tenant: calls that were answered",
      unit: "requests/s",
      rounds: flooded.refused.map(perSecond(({ requests }) => requests)),
    },
  ];
}
