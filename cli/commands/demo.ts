import { setTimeout as sleep } from "node:timers/promises";
import { styleText } from "node:util";
import type { Command } from "commander";
import { parseDuration } from "../../core/duration.ts";
import { FreshetError } from "../../core/errors.ts";
import { limitsOf } from "../../core/scoring/scoring.ts";
import { fraud } from "../../features/fraud.ts";
import {
  type DemoEvents,
  type SamplePayment,
  type Shopper,
  streamDemoEvents,
  waveStart,
} from "../../local/demo-events.ts";
import { type FlowReader, openFlow, type StreamFlow, settledEvents } from "../../local/flow.ts";
import { freshetHome } from "../../local/home.ts";
import { serveUrl } from "../../local/parts.ts";
import { describe, describeStore } from "../../local/status.ts";
import type { Steps } from "../../local/steps.ts";
import { addRuntimeOptions, type RuntimeOptions, wantedRuntime, withRuntime } from "../bring-up.ts";
import { openDeployment } from "../deployment.ts";
import { bringHistory, historyOf, learn } from "../learning.ts";
import { type Running, requireRunning } from "../running.ts";
import { sealOf } from "../seal.ts";
import { formatStatus } from "../status-table.ts";
import { formatTable } from "../table.ts";
import { showProgress } from "./generate.ts";
import { formatScore } from "./score.ts";

type ScoreAnswer = Parameters<typeof formatScore>[1];

const POLL_MS = 200;
/** Serving looks for another champion every other second, and warms it up. */
const PROMOTION_TIMEOUT_MS = 30_000;
const APPLY_TIMEOUT_MS = 120_000;
/** Applied but one poll ago: what was in flight then has come. */
const QUIET_POLLS = 3;
/** Payments that are looked through for a card whose windows differ. */
const CARDS_READ = 12;
/** What a ranking takes. */
const CANDIDATES = 500;
const RANKED = 5;
/** Missing for a card that has not paid yet. */
const ANY_PAYMENT = "card_activity:tx_count_7d";

export function register(program: Command): void {
  const command = program
    .command("demo")
    .description("The whole thing on this machine: start, deploy, stream, import weeks, train, promote, score.")
    .addHelpText(
      "after",
      "\nIt stays up afterwards; Ctrl-C while it works ends everything, unless it was up before.\n\nExamples:\n  freshet demo",
    );
  addRuntimeOptions(command).action(async (options: RuntimeOptions) => {
    const home = freshetHome();
    await withRuntime(home, wantedRuntime(options), async (_, { steps, signal }) => {
      const running = requireRunning(home);
      const flow = openFlow(running.ports, running.deployment);
      try {
        await play(running, flow, steps, signal);
      } finally {
        flow.close();
      }
      heading("It is up");
      process.stdout.write(`${formatStatus(describe(home), await describeStore(home))}\n\n`);
      process.stdout.write(
        `  make inspect   watch events flow        make stream    more events\n` +
          `  make score     score another payment    make down      end it\n`,
      );
    });
  });
}

async function play(running: Running, flow: FlowReader, steps: Steps, signal: AbortSignal): Promise<void> {
  const deployment = await openDeployment({});
  const sealMs = await sealOf(deployment, "transactions");
  const before = settledEvents(await flow.read());
  steps.say("\n  streaming payments, clicks and labels through the broker");
  const history = await historyOf(deployment, sealMs);
  const waveFromMs = waveStart(sealMs, history.toMs);
  const { ports } = running;
  const events = await streamDemoEvents(ports.emulator, running.deployment, sealMs, waveFromMs, showProgress(), signal);
  const flows = await steps.step("wait for lag 0", (note) => applied(flow, before, events, note, signal));
  heading("What became of them");
  process.stdout.write(`${formatFlows(flows)}\n`);
  heading("The weeks before: into the archive, and from there into the online store");
  if (history.isThere) process.stdout.write("  they are in the archive from an earlier demo\n");
  else await bringHistory(freshetHome(), deployment, history, signal);
  heading("Learning from them");
  const model = await learn(history, signal);
  await steps.step("wait for the model to serve", () => served(running, model, events, signal));
  await showScores(running, events);
  if (events.shopper !== null) await showRanking(running, events.shopper);
}

/** Waits until nothing waits at the broker and every event has its fate. */
async function applied(
  flow: FlowReader,
  before: number,
  events: DemoEvents,
  note: (text: string) => void,
  signal: AbortSignal,
): Promise<StreamFlow[]> {
  const deadline = Date.now() + APPLY_TIMEOUT_MS;
  let quiet = 0;
  let last = -1;
  for (;;) {
    const flows = await flow.read();
    const settled = settledEvents(flows) - before;
    const waiting = flows.reduce((sum, { waiting }) => sum + waiting, 0);
    quiet = waiting === 0 && settled === last ? quiet + 1 : 0;
    last = settled;
    // A broken record may take its neighbours in the same packet with it, so the count alone is no end.
    if (waiting === 0 && (settled >= events.sent || quiet >= QUIET_POLLS)) {
      note(`${settled.toLocaleString("en")} events settled`);
      return flows;
    }
    if (Date.now() > deadline) {
      throw new FreshetError("demo_stuck", `${waiting} records still wait after ${APPLY_TIMEOUT_MS / 1000} s`, {
        repair: "run `make health` and `npm run freshet -- logs aggregate`",
      });
    }
    await sleep(POLL_MS, undefined, { signal });
  }
}

function formatFlows(flows: readonly StreamFlow[]): string {
  return formatTable([
    ["stream", "in", "applied", "duplicates", "late", "quarantined", "lag"],
    ...flows.map((s) => [s.stream, s.in, s.applied, s.duplicates, s.late, s.quarantined, `${s.lagMs} ms`]),
  ]);
}

/** Waits until a score comes from this model. */
async function served(running: Running, model: string, { honest }: DemoEvents, signal: AbortSignal): Promise<void> {
  const deadline = Date.now() + PROMOTION_TIMEOUT_MS;
  for (;;) {
    const { answer } = await score(running, honest[0]);
    if (answer.model_version === model) return;
    if (Date.now() > deadline) {
      throw new FreshetError("demo_stuck", `scores still come from ${answer.model_version}, not from ${model}`, {
        repair: `ask ${serveUrl(running.ports.serve)}/ready why`,
      });
    }
    await sleep(POLL_MS, undefined, { signal });
  }
}

interface Scored {
  readonly payment: SamplePayment;
  readonly request: Record<string, string | number | null>;
  readonly answer: ScoreAnswer;
  readonly roundTripMs: number;
}

/** Scores payments that come next, of both sorts; shows a suspicious fraud and the honest payment in the middle. */
async function showScores(running: Running, { frauds, honest }: DemoEvents): Promise<void> {
  const [worst, usual] = [await scoreAll(running, frauds), await scoreAll(running, honest)];
  await showScored(running, await mostTelling(running, worst));
  const known = usual.filter(({ answer }) => !answer.features_missing.includes(ANY_PAYMENT));
  await showScored(running, known[known.length >> 1] ?? usual[usual.length >> 1]);
  const { review } = limitsOf(fraud);
  const counted = (all: readonly Scored[]): (string | number)[] => [
    all.length,
    all.filter(({ answer }) => answer.decision !== "approve").length,
    all.filter(({ payment }) => payment.probability >= review).length,
  ];
  heading("Of the payments that come next");
  process.stdout.write(
    `${formatTable([
      ["", "in all", "the model stops or reviews", "who knew each one's chance would"],
      ["fraud", ...counted(worst)],
      ["honest", ...counted(usual)],
    ])}\n`,
  );
}

/** By rules: the demo's clicks are too few to learn from. */
async function showRanking(running: Running, { userId, candidates }: Shopper): Promise<void> {
  const body = {
    user_id: userId,
    category: null,
    candidates: candidates.slice(0, CANDIDATES),
    k: RANKED,
    explain: true,
  };
  const startedAt = performance.now();
  const answer = await call(running, "POST", "/v1/rank/recommendation", body);
  const took = performance.now() - startedAt;
  heading(`What to show ${userId}, who has just clicked: the best of ${answer["candidates"]} items`);
  const categories = new Map(candidates.map(({ item_id, category }) => [item_id, category]));
  const rows = answer["items"].map(({ id, score, explanation }: any) => [
    id,
    categories.get(id),
    score.toFixed(4),
    explanation.reasons.map(({ text }: any) => text).join("; "),
  ]);
  process.stdout.write(
    `${formatTable([["item", "category", "score", "why"], ...rows])}\n  by ${answer["model_version"]}, in ${took.toFixed(2)} ms; a model for it: freshet train --service recommendation\n`,
  );
}

/** Highest score first. */
async function scoreAll(running: Running, payments: readonly SamplePayment[]): Promise<Scored[]> {
  const scored: Scored[] = [];
  for (const payment of payments) scored.push(await score(running, payment));
  return scored.sort((a, b) => b.answer.score - a.answer.score);
}

/** The worst of those whose card did something in the last five minutes and something else before; else the worst. */
async function mostTelling(running: Running, worst: readonly Scored[]): Promise<Scored | undefined> {
  for (const scored of worst.slice(0, CARDS_READ)) {
    const features = await cardFeatures(running, scored);
    const [recent, all] = ["5m", "1h"].map((window) => features[`card_activity:tx_count_${window}`]?.value ?? 0);
    if (0 < recent && recent < all) return scored;
  }
  return worst[0];
}

type Features = Readonly<Record<string, { readonly value: any; readonly status: string }>>;

async function cardFeatures(running: Running, { request }: Scored): Promise<Features> {
  const card = encodeURIComponent(String(request["card_id"]));
  return (await call(running, "GET", `/v1/features/card/${card}`))["features"];
}

async function showScored(running: Running, scored: Scored | undefined): Promise<void> {
  if (scored === undefined) return;
  const { payment, request, answer, roundTripMs } = scored;
  const features = await cardFeatures(running, scored);
  const whose = payment.pattern === null ? "an honest customer" : `a ${payment.pattern.replaceAll("_", " ")} fraud`;
  heading(`The next payment of ${whose}: what is known of the card, and the score before the payment is sent`);
  const known = Object.values(features).some(({ status }) => status === "PRESENT");
  process.stdout.write(
    `${known ? formatWindows(features) : "  nothing: it has not paid before"}\n\n${formatScore(request, answer, roundTripMs)}\n`,
  );
}

/** Features by row, windows by column: 5m, 1h, 24h and so on, ascending; what has no window is in the last column. */
export function formatWindows(features: Features): string {
  const rows = new Map<string, Map<string, string>>();
  for (const [name, { value, status }] of Object.entries(features)) {
    const [, base, window = ""] = /^(.*?)(?:_(\d+[smhd]|lifetime))?$/.exec(name) ?? [name, name];
    if (status !== "PRESENT") continue;
    const text = typeof value === "number" ? String(Math.round(value * 100) / 100) : String(value);
    rows.set(base, (rows.get(base) ?? new Map()).set(window, text));
  }
  const length = (window: string): number =>
    /^\d/.test(window) ? parseDuration(window) : window === "" ? Number.POSITIVE_INFINITY : Number.MAX_SAFE_INTEGER;
  const windows = [...new Set([...rows.values()].flatMap((row) => [...row.keys()]))].sort(
    (a, b) => length(a) - length(b),
  );
  return formatTable([
    ["feature", ...windows],
    ...[...rows].map(([base, row]) => [base, ...windows.map((window) => row.get(window) ?? "")]),
  ]);
}

async function score(running: Running, payment: SamplePayment): Promise<Scored> {
  const { card_id, merchant_id, device_id, user_id, amount, country } = payment.fields as Scored["request"];
  const request = { card_id, merchant_id, device_id, user_id, amount, country };
  const startedAt = performance.now();
  const answer = await call(running, "POST", "/v1/score/fraud", { ...request, explain: true });
  return { payment, request, answer: answer as ScoreAnswer, roundTripMs: performance.now() - startedAt };
}

async function call(running: Running, method: string, path: string, body?: object): Promise<Record<string, any>> {
  const answer = await fetch(`${serveUrl(running.ports.serve)}${path}`, {
    method,
    headers: { "x-api-key": running.apiKey, "content-type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const json = (await answer.json()) as Record<string, any>;
  if (answer.ok) return json;
  throw new FreshetError(json["code"] ?? "api_failed", json["detail"] ?? `the API answered ${answer.status}`, {
    repair: json["repair"],
  });
}

function heading(text: string): void {
  process.stdout.write(`\n${styleText("bold", text)}\n`);
}
