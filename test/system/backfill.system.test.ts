/** History on the deployed app: days are imported and built while payments of the same cards go on; what is served is then held against the oracle. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import { disturb, type Outgoing } from "../../local/generator/disturb.ts";
import { type SimulatedEvent, simulate } from "../../local/generator/simulate.ts";
import { httpSink } from "../../local/generator/sinks.ts";
import { createTenant, deployed } from "../support/deployed.ts";
import { settle } from "./app.ts";
import { expectFeatures, GroundTruth } from "./oracle.ts";

const CLI = join(import.meta.dirname, "..", "..", "cli", "freshet.ts");
const DAY_MS = 86_400_000;
const now = Date.now();
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "freshet-history-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function freshet(...args: string[]) {
  const env = { ...process.env, FRESHET_HOME: deployed().home };
  const child = spawn(process.execPath, [CLI, ...args], { env, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  let errors = "";
  child.stdout.on("data", (text) => {
    output += text;
  });
  child.stderr.on("data", (text) => {
    errors += text;
  });
  const ended = once(child, "exit").then(([code, signal]) => ({ code, signal, output, errors }));
  return { child, ended };
}

const simulated = (tenant: string, seed: number, fromMs: number, toMs: number, transactionsPerSecond: number) => [
  ...simulate({
    tenant,
    seed,
    fromMs,
    toMs,
    transactionsPerSecond,
    streams: ["transactions"],
    customers: 40,
    merchants: 12,
  }),
];
const outgoing = (events: readonly SimulatedEvent[]): Outgoing[] => [...disturb(events, 1, {})];

it("imported days and what is streamed meanwhile are served as one, though the command is killed on the way", async () => {
  const { tenant, key } = await createTenant();
  const week = simulated(tenant, 5, now - 6 * DAY_MS, now - DAY_MS / 24, 0.004);
  expect(week.length).toBeGreaterThan(1_000);
  const file = join(folder, "week.ndjson");
  writeFileSync(file, week.map(({ fields }) => JSON.stringify(fields)).join("\n"));
  const imported = await freshet("import", file, "--stream", "transactions", "--tenant", tenant, "--json").ended;
  expect(imported).toMatchObject({ code: 0 });
  expect(JSON.parse(imported.output)).toMatchObject({ rows: week.length, imported: week.length, bad: 0, late: 0 });

  const live = simulated(tenant, 6, now - 300_000, now, 1);
  const sink = httpSink(deployed().api.url, key);
  const half = Math.floor(live.length / 2);
  expect(await sink.send(outgoing(live.slice(0, half)))).toBe(half);

  // Of this tenant alone: of others' entities there are thousands by now.
  const backfill = ["backfill", "--stream", "transactions", "--tenant", tenant];
  const first = freshet(...backfill, "--rate", "5/s");
  await sleep(3_000);
  first.child.kill("SIGKILL");
  expect(await first.ended).toMatchObject({ signal: "SIGKILL" });
  expect(await sink.send(outgoing(live.slice(half)))).toBe(live.length - half);
  const second = await freshet(...backfill, "--json").ended;
  expect(second).toMatchObject({ code: 0 });
  expect(JSON.parse(second.output)).toMatchObject({ state: "done", stream: "transactions" });

  await settle(["transactions"]);
  const truth = new GroundTruth([...week, ...live]);
  // The oracle does not know of NOT_FOUND, which an entity is beyond its view's reach: a day for devices, the shortest.
  for (const [name, { groups }] of truth.entities) {
    const newest = [...groups.values()].map((events) => Math.max(...events.map(({ timeMs }) => timeMs)));
    if (newest.some((timeMs) => timeMs < now - 0.9 * DAY_MS)) truth.entities.delete(name);
  }
  expect(await expectFeatures(truth, key)).toBeGreaterThan(50);
});

it("a backfill that names nothing there is, or too much, is refused with what there is", async () => {
  const cases = [
    [["--view", "card_activty"], "the plan has no view card_activty"],
    [["--stream", "payments"], "the plan has no stream payments"],
    [[], "what is to be filled is not said"],
    [["--view", "card_activity", "--stream", "transactions"], "cannot be used with option"],
    [["--view", "card_activity", "--rate", "fast"], "Give entities a second, as 2000 or 2000/s."],
  ] as const;
  const results = await Promise.all(cases.map(([args]) => freshet("backfill", ...args).ended));
  results.forEach(({ code, errors }, i) => {
    expect(errors).toContain(cases[i][1]);
    expect(code).toBe(2);
  });
});
