/**
 * Suites of programs that are not ours: `node test/outside/run.ts schemathesis|python`. They need some 300 MB of Python packages,
 * which no other target installs, hence not in `make test`. Runs against the laptop that is up, or one of its own.
 */
import { spawn, spawnSync } from "node:child_process";
import { closeSync, existsSync, mkdtempSync, openSync, readSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { freshetHome, ROOT } from "../../local/home.ts";
import { interruptible } from "../../local/interrupt.ts";
import { down, up } from "../../local/laptop.ts";
import { describe, isUp } from "../../local/status.ts";
import { Steps } from "../../local/steps.ts";
import type { DeployedStatus } from "../support/deployed.ts";
import { pythonEnvironment } from "../support/python-environment.ts";

const CLIENT = join(ROOT, "clients", "python");
const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    /** Ten times as many cases of the fuzzing phase. */
    long: { type: "boolean", default: false },
    /** One phase alone: examples, coverage or fuzzing. */
    phase: { type: "string" },
    seed: { type: "string", default: "20260131" },
  },
});

function run(
  command: string,
  args: readonly string[],
  options: { cwd?: string; env?: Record<string, string> } = {},
): void {
  const env = { ...process.env, ...options.env };
  const { status } = spawnSync(command, args, { cwd: options.cwd ?? ROOT, env, stdio: "inherit" });
  if (status !== 0) process.exitCode = 1;
}

/** Those of schemathesis, each by itself: what one finds is told before the next begins. */
const PHASES = ["examples", "coverage", "fuzzing"];
/** Cases of the fuzzing phase for each operation; the others have as many as the document asks for. */
const CASES = 20;
const LOOK_MS = 5_000;

async function schemathesis(python: string, url: string, key: string): Promise<void> {
  for (const phase of options.phase === undefined ? PHASES : [options.phase]) {
    // It writes what it found beside where it runs.
    const cwd = mkdtempSync(join(tmpdir(), "freshet-schemathesis-"));
    const events = join(cwd, "events.ndjson");
    const args = [
      ...["-m", "schemathesis.cli", "--config-file", join(import.meta.dirname, "schemathesis.toml")],
      ...["run", `${url}/openapi.json`, "--url", url, "--header", `x-api-key: ${key}`],
      ...["--phases", phase, "--max-examples", String(options.long ? 10 * CASES : CASES), "--seed", options.seed],
      ...["--continue-on-failure", "--no-color", "--report", "ndjson", "--report-ndjson-path", events],
    ];
    process.stdout.write(`\nphase ${phase}\n`);
    const started = performance.now();
    const child = spawn(python, args, { cwd, stdio: "inherit" });
    const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
    const counted = countOperations(events);
    for (let told = 0; (await Promise.race([ended, sleep(LOOK_MS, "on")])) === "on"; ) {
      const done = counted();
      if (done === told) continue;
      told = done;
      process.stdout.write(`  ${phase}: ${done} operations, ${Math.round((performance.now() - started) / 1_000)} s\n`);
    }
    if ((await ended) !== 0) process.exitCode = 1;
    rmSync(cwd, { recursive: true });
  }
}

/** How many operations are done, by the events that it writes; reads what has come since it was asked before. */
function countOperations(file: string): () => number {
  const done = /^\{"ScenarioFinished"/gm;
  let [at, count, rest] = [0, 0, ""];
  return () => {
    if (!existsSync(file)) return count;
    const handle = openSync(file, "r");
    const bytes = Buffer.alloc(1 << 20);
    for (let read = readSync(handle, bytes, 0, bytes.length, at); read > 0; ) {
      at += read;
      const lines = (rest + bytes.toString("latin1", 0, read)).split("\n");
      rest = lines.pop()!.slice(0, 100);
      count += lines.join("\n").match(done)?.length ?? 0;
      read = readSync(handle, bytes, 0, bytes.length, at);
    }
    closeSync(handle);
    return count;
  };
}

const SUITES: Readonly<Record<string, (python: string, url: string, key: string) => void | Promise<void>>> = {
  schemathesis,
  python(python, url, key) {
    run(python, ["-m", "mypy"], { cwd: CLIENT });
    const path = ["src", process.env["PYTHONPATH"]].filter(Boolean).join(delimiter);
    const env = { PYTHONPATH: path, PYTHONDONTWRITEBYTECODE: "1", FRESHET_URL: url, FRESHET_KEY: key };
    run(python, ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"], { cwd: CLIENT, env });
  },
};

const suite = SUITES[positionals[0] ?? ""];
if (suite === undefined) {
  process.stderr.write(
    `usage: node test/outside/run.ts ${Object.keys(SUITES).join("|")} [--long] [--phase ${PHASES.join("|")}]\n`,
  );
  process.exit(2);
}
const python = pythonEnvironment({
  name: "outside",
  what: "schemathesis, pytest, mypy and pandas (300 MB)",
  requirements: join(import.meta.dirname, "requirements.txt"),
  say: (text) => process.stdout.write(`  ${text}\n`),
});
const running = isUp(freshetHome());
const home = running ? freshetHome() : realpathSync(mkdtempSync(join(tmpdir(), "freshet-outside-")));
const steps = new Steps();
try {
  await interruptible(async (signal) => {
    if (!running) await up(home, { steps, signal });
    const { serve, api } = describe(home) as unknown as DeployedStatus;
    await suite(python, serve.url, api.key);
  });
} finally {
  if (!running) {
    await down(home, steps);
    rmSync(home, { recursive: true, force: true });
  }
}
