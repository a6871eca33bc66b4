/**
 * What a caller sees of scores while what they are made from stands still: Valkey, and Valkey with the emulator in which DynamoDB is. A
 * deployment of its own, the server that `freshet up` runs, and processes that are stopped without a word (SIGSTOP), as a machine that has
 * lost its network: connections stay open and nothing answers.
 */
import { mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { InvokeCommand, LambdaClient } from "@aws-sdk/client-lambda";
import { clientConfig } from "../local/deploy.ts";
import { endWithThisProcess } from "../local/end-with-process.ts";
import { down, up } from "../local/laptop.ts";
import { LOOPBACK } from "../local/ports.ts";
import { readRecord } from "../local/processes.ts";
import { type LaptopState, readState } from "../local/state.ts";
import { Steps } from "../local/steps.ts";
import type { Baseline, Benchmark, BenchmarkOptions, Row } from "./benchmark.ts";
import { type ScoreCall, ScoreLanes, type ScoreTarget } from "./score-lanes.ts";
import { percentile } from "./statistics.ts";
import { seededRandom, transaction } from "./workload.ts";

/** What a score may take (`FRESHET_READ_BUDGET_MS`). */
const BUDGET_MS = 250;
const RECOVERY_MS = 5_000;
const ENTITIES = 200;
const EVENTS = 2_000;
const EVENTS_A_CALL = 500;
/** Load before an outage. */
const BEFORE_MS = 5_000;
/** Answers are whole again when none was degraded for as long. */
const WHOLE_MS = 3_000;
const LIMIT_MS = 60_000;

interface Outage {
  readonly name: string;
  readonly stopped: readonly ("valkey" | "emulator")[];
  readonly callers: number;
  readonly forMs: number;
  readonly rounds: number;
}

const outages = (quick: boolean): readonly Outage[] => [
  {
    ...{ name: "Valkey stopped", stopped: ["valkey"], callers: 16 },
    ...(quick ? { forMs: 5_000, rounds: 1 } : { forMs: 60_000, rounds: 2 }),
  },
  {
    ...{ name: "Valkey stopped, 64 callers", stopped: ["valkey"], callers: 64 },
    ...(quick ? { forMs: 3_000, rounds: 1 } : { forMs: 5_000, rounds: 5 }),
  },
  {
    ...{ name: "Valkey and DynamoDB stopped", stopped: ["valkey", "emulator"], callers: 16 },
    ...(quick ? { forMs: 3_000, rounds: 1 } : { forMs: 20_000, rounds: 3 }),
  },
];

export const benchmark: Benchmark = {
  title: "Scores while stores stand still, through the server of a deployment of its own",
  async run(options) {
    const home = realpathSync(mkdtempSync(join(tmpdir(), "freshet-bench-")));
    const guard = endWithThisProcess(home);
    const steps = new Steps();
    try {
      options.say("bringing up a deployment of its own");
      await up(home, { broker: "kinesis", steps, signal: options.signal });
      const target = await prepare(readState(home), options);
      const rows: Row[] = [];
      for (const outage of outages(options.quick)) rows.push(...(await measure(home, target, outage, options)));
      return rows;
    } finally {
      guard.kill("SIGKILL");
      await down(home, steps);
      rmSync(home, { recursive: true, force: true });
    }
  },
};

const keysOf = (n: number): Record<string, string> =>
  Object.fromEntries(["card", "merchant", "device", "user"].map((kind) => [`${kind}_id`, `${kind}_${n % ENTITIES}`]));

/** Entities with a history, and a snapshot of each. */
async function prepare(state: LaptopState, { signal, say }: BenchmarkOptions): Promise<ScoreTarget> {
  const { ports, deployment, apiKey } = state;
  const port = ports.serve as number;
  const key = apiKey as string;
  const random = seededRandom(5);
  const nowMs = Date.now();
  for (let at = 0; at < EVENTS; at += EVENTS_A_CALL) {
    const events = Array.from({ length: EVENTS_A_CALL }, (_, i) => {
      const fields = transaction(random, `outage-${at + i}`, nowMs - (at + i) * 100);
      // The key says whose it is.
      return { ...fields, tenant: undefined, ...keysOf(at + i) };
    });
    const answer = await fetch(`http://${LOOPBACK}:${port}/v1/events/transactions`, {
      method: "POST",
      headers: { "x-api-key": key, "content-type": "application/json" },
      body: JSON.stringify({ events }),
      signal,
    });
    if (answer.status !== 202) throw new Error(`events were answered with ${answer.status}: ${await answer.text()}`);
  }
  const target: ScoreTarget = { port, key, body: (n) => ({ ...keysOf(n), amount: 12.5, country: "SE" }) };
  await servable(target, signal);
  const name = deployment!.controlFunction.replace(/control$/, "snapshot");
  const failure = await takeSnapshots(ports.emulator as number, name, signal);
  say(`${ENTITIES} entities of 4 types, ${failure === null ? "with snapshots" : `without snapshots: ${failure}`}`);
  return target;
}

/** A round of snapshots; again where the machine was too busy for one. @returns why there is none: rules answer then */
async function takeSnapshots(emulatorPort: number, functionName: string, signal: AbortSignal): Promise<string | null> {
  const lambda = new LambdaClient(clientConfig(emulatorPort));
  const untilMs = performance.now() + LIMIT_MS;
  try {
    for (;;) {
      const round = new InvokeCommand({ FunctionName: functionName, Payload: "{}" });
      const { FunctionError, Payload } = await lambda.send(round, { abortSignal: signal });
      if (FunctionError === undefined) return null;
      if (performance.now() > untilMs) return Payload?.transformToString() ?? FunctionError;
      await sleep(1_000, undefined, { signal });
    }
  } finally {
    lambda.destroy();
  }
}

/** Waits until the last event shows. */
async function servable(target: ScoreTarget, signal: AbortSignal): Promise<void> {
  const untilMs = performance.now() + LIMIT_MS;
  for (let n = 0; n < ENTITIES; ) {
    signal.throwIfAborted();
    const answer = await fetch(`http://${LOOPBACK}:${target.port}/v1/score/fraud`, {
      method: "POST",
      headers: { "x-api-key": target.key, "content-type": "application/json" },
      body: JSON.stringify(target.body(n)),
      signal,
    });
    const { features_used = [] } = (await answer.json()) as { features_used?: readonly string[] };
    if (features_used.includes("card_activity:tx_count_7d")) n++;
    else if (performance.now() > untilMs) throw new Error("events that were sent do not show");
    else await sleep(100);
  }
}

interface Round {
  readonly before: readonly ScoreCall[];
  readonly during: readonly ScoreCall[];
  /** From the return on to the last answer that was not whole. */
  readonly recoveredMs: number;
  readonly after: readonly ScoreCall[];
}

async function measure(
  home: string,
  target: ScoreTarget,
  outage: Outage,
  { signal, say }: BenchmarkOptions,
): Promise<Row[]> {
  const rounds: Round[] = [];
  for (let i = 1; i <= outage.rounds; i++) {
    const round = await once(home, target, outage, signal);
    rounds.push(round);
    const { during, recoveredMs } = round;
    say(
      `${outage.name} ${i}/${outage.rounds}: ${during.length} calls, ${told(during)}, longest ${longest(during).toFixed(0)} ms (${longestServed(during).toFixed(0)} by the server's clock), ` +
        `p99 ${timeAt(during, 99).toFixed(1)} ms, whole after ${recoveredMs.toFixed(0)} ms`,
    );
  }
  return rowsOf(outage, rounds);
}

async function once(home: string, target: ScoreTarget, outage: Outage, signal: AbortSignal): Promise<Round> {
  const pids = outage.stopped.map((part) => readRecord(home, part)!.pid);
  const lanes = new ScoreLanes(target, outage.callers);
  let [stoppedMs, returnedMs] = [0, 0];
  try {
    await sleep(BEFORE_MS, undefined, { signal });
    stoppedMs = performance.now();
    for (const pid of pids) process.kill(pid, "SIGSTOP");
    try {
      await sleep(outage.forMs, undefined, { signal });
    } finally {
      for (const pid of pids) process.kill(pid, "SIGCONT");
      returnedMs = performance.now();
    }
    await whole(lanes, signal);
  } finally {
    await lanes.end();
  }
  const { calls } = lanes;
  const after = calls.filter(({ endedMs }) => endedMs >= returnedMs);
  const last = after.findLast((call) => !isWhole(call));
  return {
    before: calls.filter(({ endedMs }) => endedMs < stoppedMs),
    during: calls.filter(({ endedMs }) => endedMs >= stoppedMs && endedMs < returnedMs),
    recoveredMs: last === undefined ? 0 : last.endedMs - returnedMs,
    after,
  };
}

const isWhole = ({ status, reason }: ScoreCall): boolean => status === 200 && reason === null;

/** Waits until answers have been whole for a while; who waits in vain finds that in what was measured. */
async function whole({ calls }: ScoreLanes, signal: AbortSignal): Promise<void> {
  const untilMs = performance.now() + LIMIT_MS;
  let since = performance.now();
  for (let seen = calls.length; performance.now() < untilMs && performance.now() - since < WHOLE_MS; ) {
    await sleep(50, undefined, { signal });
    if (!calls.slice(seen).every(isWhole)) since = performance.now();
    seen = calls.length;
  }
}

const longest = (calls: readonly ScoreCall[]): number => calls.reduce((most, { tookMs }) => Math.max(most, tookMs), 0);
const longestServed = (calls: readonly ScoreCall[]): number =>
  calls.reduce((most, { servedMs }) => Math.max(most, servedMs ?? 0), 0);
const timeAt = (calls: readonly ScoreCall[], p: number): number =>
  percentile(
    calls.map(({ tookMs }) => tookMs).sort((a, b) => a - b),
    p,
  );

/** How many answers were what. */
function told(calls: readonly ScoreCall[]): string {
  const counts = new Map<string, number>();
  for (const { status, reason } of calls) {
    const what = `${status ?? "no answer"} ${reason ?? "whole"}`;
    counts.set(what, (counts.get(what) ?? 0) + 1);
  }
  return [...counts].map(([what, count]) => `${count} × ${what}`).join(", ");
}

function rowsOf({ name, callers, forMs }: Outage, rounds: readonly Round[]): Row[] {
  const during = rounds.flatMap((round) => round.during);
  const all = rounds.flatMap((round) => [...round.during, ...round.after]);
  const ms = (of: (calls: readonly ScoreCall[]) => number): Pick<Row, "unit" | "rounds" | "baselines"> => {
    const before: Baseline = { name: "before", rounds: rounds.map((round) => of(round.before)) };
    return { unit: "ms", rounds: rounds.map((round) => of(round.during)), baselines: [before] };
  };
  return [
    {
      what: `${name}: calls`,
      unit: "calls",
      rounds: rounds.map((round) => round.during.length),
      note: `${callers} callers, ${forMs / 1_000} s: ${told(during)}`,
    },
    {
      what: `${name}: calls without an answer of 200, until all was whole again`,
      unit: "calls",
      rounds: [all.filter(({ status }) => status !== 200).length],
      target: { atMost: 0 },
    },
    {
      what: `${name}: longest`,
      unit: "ms",
      // Of all rounds: a budget that is kept most of the time is not kept.
      rounds: [Math.max(...rounds.map((round) => longest(round.during)))],
      target: { atMost: BUDGET_MS },
      baselines: [{ name: "before", rounds: [Math.max(...rounds.map((round) => longest(round.before)))] }],
    },
    {
      what: `${name}: longest, by the server's clock`,
      unit: "ms",
      rounds: [Math.max(...rounds.map((round) => longestServed(round.during)))],
      target: { atMost: BUDGET_MS },
      baselines: [{ name: "before", rounds: [Math.max(...rounds.map((round) => longestServed(round.before)))] }],
    },
    { what: `${name}: p50`, ...ms((calls) => timeAt(calls, 50)) },
    { what: `${name}: p99`, ...ms((calls) => timeAt(calls, 99)) },
    {
      what: `${name}: until answers are whole again`,
      unit: "ms",
      rounds: [Math.max(...rounds.map(({ recoveredMs }) => recoveredMs))],
      target: { atMost: RECOVERY_MS },
    },
  ];
}
