import { setTimeout as sleep } from "node:timers/promises";
import { styleText } from "node:util";
import type { Command } from "commander";
import { FreshetError } from "../../core/errors.ts";
import { type DemoEvents, type SamplePayment, streamDemoEvents } from "../../local/demo-events.ts";
import { type FlowReader, openFlow, type StreamFlow, settledEvents } from "../../local/flow.ts";
import { freshetHome } from "../../local/home.ts";
import { serveUrl } from "../../local/parts.ts";
import { describe, describeStore } from "../../local/status.ts";
import type { Steps } from "../../local/steps.ts";
import { addPortOptions, type PortOptions, wantedPorts, withRuntime } from "../bring-up.ts";
import { type Running, requireRunning } from "../running.ts";
import { formatStatus } from "../status-table.ts";
import { formatTable } from "../table.ts";
import { showProgress } from "./generate.ts";
import { formatScore } from "./score.ts";

type ScoreAnswer = Parameters<typeof formatScore>[1];

const POLL_MS = 200;
const APPLY_TIMEOUT_MS = 120_000;
/** Applied but one poll ago: what was in flight then has come. */
const QUIET_POLLS = 3;
const FEATURES_SHOWN = 8;

export function register(program: Command): void {
  const command = program
    .command("demo")
    .description("The whole thing on this machine: start, deploy, stream live events, read features, score.")
    .addHelpText("after", "\nIt stays up afterwards; Ctrl-C while it works ends everything.");
  addPortOptions(command).action(async (options: PortOptions) => {
    const home = freshetHome();
    await withRuntime(home, { wanted: wantedPorts(options) }, async (_, { steps, signal }) => {
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
  const before = settledEvents(await flow.read());
  steps.say("\n  streaming payments, clicks and labels through the broker");
  const events = await streamDemoEvents(running.ports.emulator, running.deployment, showProgress(), signal);
  const flows = await steps.step("wait for lag 0", (note) => applied(flow, before, events, note, signal));
  heading("What became of them");
  process.stdout.write(`${formatFlows(flows)}\n`);
  await showScores(running, events);
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

interface Scored {
  readonly payment: SamplePayment;
  readonly request: Record<string, string | number | null>;
  readonly answer: ScoreAnswer;
  readonly roundTripMs: number;
}

/** Scores payments of both sorts; shows the most suspicious fraud and the honest payment in the middle. */
async function showScores(running: Running, { frauds, honest }: DemoEvents): Promise<void> {
  const [worst, usual] = [await scoreAll(running, frauds), await scoreAll(running, honest)];
  await showScored(running, worst[0]);
  await showScored(running, usual[usual.length >> 1]);
  const stopped = (all: readonly Scored[]): string =>
    `${all.filter(({ answer }) => answer.decision !== "approve").length} of ${all.length}`;
  heading("The rules would stop or review");
  process.stdout.write(`  ${stopped(worst)} payments of frauds, ${stopped(usual)} honest ones\n`);
}

/** Highest score first. */
async function scoreAll(running: Running, payments: readonly SamplePayment[]): Promise<Scored[]> {
  const scored: Scored[] = [];
  for (const payment of payments) scored.push(await score(running, payment));
  return scored.sort((a, b) => b.answer.score - a.answer.score);
}

async function showScored(running: Running, scored: Scored | undefined): Promise<void> {
  if (scored === undefined) return;
  const { payment, request, answer, roundTripMs } = scored;
  const card = String(request["card_id"]);
  const read = await call(running, "GET", `/v1/features/card/${encodeURIComponent(card)}`);
  const rows = Object.entries(read["features"] as Record<string, { value: unknown; status: string }>)
    .filter(([, { status }]) => status === "PRESENT")
    .slice(0, FEATURES_SHOWN)
    .map(([name, { value }]) => [
      name,
      typeof value === "number" ? String(Math.round(value * 100) / 100) : String(value),
    ]);
  const whose = payment.pattern === null ? "an honest customer" : `a ${payment.pattern.replaceAll("_", " ")} fraud`;
  heading(`A payment of ${whose}: what is known of the card, and the score`);
  process.stdout.write(`${formatTable(rows)}\n\n${formatScore(request, answer, roundTripMs)}\n`);
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
