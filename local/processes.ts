/**
 * Processes that outlive the command that started them. Each leads a group of its own, so that Ctrl-C in the terminal does
 * not reach it and so that its children (the emulator's workers) end with it. A record under `run/` names process and
 * start time: a pid that the kernel has given to somebody else since is never signalled.
 */
import { spawn } from "node:child_process";
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { FreshetError } from "../core/errors.ts";
import { homeFolder } from "./home.ts";
import { groupMembers, startToken } from "./process-table.ts";

export interface ProcessRecord {
  readonly name: string;
  readonly pid: number;
  /** When the kernel started it, in the kernel's own words; with the pid it identifies the process. */
  readonly startToken: string;
  readonly startedAtMs: number;
}

export interface ProcessSpec {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  /** The whole environment: nothing is inherited. */
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
}

const POLL_MS = 25;
/** Time for the kernel to take down a group after SIGKILL. */
const KILL_WAIT_MS = 5_000;

export function logFile(home: string, name: string): string {
  return join(homeFolder(home, "logs"), `${name}.log`);
}

function recordFile(home: string, name: string): string {
  return join(homeFolder(home, "run"), `${name}.json`);
}

export function readRecord(home: string, name: string): ProcessRecord | null {
  const file = recordFile(home, name);
  return existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as ProcessRecord) : null;
}

export function recordedNames(home: string): string[] {
  return readdirSync(homeFolder(home, "run"))
    .filter((file) => file.endsWith(".json"))
    .map((file) => file.slice(0, -".json".length))
    .sort();
}

/** Whether the recorded process itself still runs (not another one with its pid). */
export function isRunning(record: ProcessRecord | null): boolean {
  return record !== null && startToken(record.pid) === record.startToken;
}

/**
 * Starts a process in its own group with its output appended to `logs/<name>.log`, and records it.
 * @throws FreshetError `process_failed` when it cannot be started at all
 */
export async function startProcess(home: string, spec: ProcessSpec): Promise<ProcessRecord> {
  const log = openSync(logFile(home, spec.name), "a");
  const child = spawn(spec.command, spec.args, {
    cwd: spec.cwd,
    env: spec.env,
    detached: true,
    stdio: ["ignore", log, log],
  });
  closeSync(log);
  await new Promise<void>((settle, fail) => {
    child.once("spawn", settle);
    child.once("error", (cause) =>
      fail(
        new FreshetError("process_failed", `${spec.name} could not be started: ${cause.message}`, {
          repair: "run `make install`; if it stays, remove .freshet and run it again",
          cause,
        }),
      ),
    );
  });
  child.unref();
  const record = recordProcess(home, spec.name, child.pid as number);
  return record;
}

/** Remembers a process that leads its own group, so that whoever comes after a crash of ours can end it. */
export function recordProcess(home: string, name: string, pid: number): ProcessRecord {
  // A process that has already ended has no token; the empty one matches nothing and readiness then reports the log.
  const record = { name, pid, startToken: startToken(pid) ?? "", startedAtMs: Date.now() };
  const file = recordFile(home, name);
  writeFileSync(`${file}.new`, `${JSON.stringify(record)}\n`);
  renameSync(`${file}.new`, file);
  return record;
}

export function forgetProcess(home: string, name: string): void {
  rmSync(recordFile(home, name), { force: true });
}

/**
 * Waits until the probe answers true. A probe that throws counts as "not yet".
 * @throws FreshetError `process_failed` when the process ends first, `not_ready` after the timeout; both show the log's end
 */
export async function waitUntilReady(
  home: string,
  record: ProcessRecord,
  probe: () => Promise<boolean>,
  options: { timeoutMs: number; signal?: AbortSignal },
): Promise<void> {
  const deadline = Date.now() + options.timeoutMs;
  for (;;) {
    options.signal?.throwIfAborted();
    if (await probe().catch(() => false)) return;
    if (!isRunning(record)) {
      throw new FreshetError("process_failed", `${record.name} ended while starting\n${logEnd(home, record.name)}`, {
        repair: `read ${logFile(home, record.name)}`,
      });
    }
    if (Date.now() > deadline) {
      throw new FreshetError(
        "not_ready",
        `${record.name} did not answer within ${options.timeoutMs / 1000} s\n${logEnd(home, record.name)}`,
        { repair: `read ${logFile(home, record.name)}; a slow machine may need another try` },
      );
    }
    await sleep(POLL_MS);
  }
}

/** The last lines of a process's log, indented for a message. */
export function logEnd(home: string, name: string, lines = 8): string {
  const file = logFile(home, name);
  if (!existsSync(file) || statSync(file).size === 0) return "  (its log is empty)";
  return readFileSync(file, "utf8")
    .trimEnd()
    .split("\n")
    .slice(-lines)
    .map((line) => `  | ${line}`)
    .join("\n");
}

/** `clean`: ended by SIGTERM. `killed`: had to be killed. `gone`: was not running. */
export type StopResult = "clean" | "killed" | "gone";

/**
 * Ends a recorded process and its whole group: SIGTERM, SIGKILL after the grace. The record is removed once nobody is left.
 * @throws FreshetError `process_left` naming the pids that survived SIGKILL
 */
export async function stopProcess(home: string, name: string, graceMs: number): Promise<StopResult> {
  const record = readRecord(home, name);
  if (record === null) return "gone";
  const result = await endGroup(record, graceMs);
  forgetProcess(home, name);
  return result;
}

async function endGroup(record: ProcessRecord, graceMs: number): Promise<StopResult> {
  const leaderRuns = isRunning(record);
  // The leader may be gone with workers left behind. While a group has members, the kernel gives its number to nobody.
  if (!leaderRuns && startToken(record.pid) !== null) return "gone";
  if (groupMembers(record.pid).length === 0) return "gone";
  if (leaderRuns) {
    process.kill(record.pid, "SIGTERM");
    if (await emptied(() => !isRunning(record), graceMs)) {
      signalGroup(record.pid, "SIGTERM");
      if (await emptied(() => groupMembers(record.pid).length === 0, 1_000)) return "clean";
      signalGroup(record.pid, "SIGKILL");
      await requireEmpty(record);
      return "clean";
    }
  }
  signalGroup(record.pid, "SIGKILL");
  await requireEmpty(record);
  return leaderRuns ? "killed" : "gone";
}

async function requireEmpty(record: ProcessRecord): Promise<void> {
  if (await emptied(() => groupMembers(record.pid).length === 0, KILL_WAIT_MS)) return;
  const left = groupMembers(record.pid).join(", ");
  throw new FreshetError("process_left", `${record.name}: processes ${left} did not end`, {
    repair: `end them by hand: kill -9 ${left}`,
  });
}

async function emptied(condition: () => boolean, timeoutMs: number): Promise<boolean> {
  const deadline = Date.now() + timeoutMs;
  while (!condition()) {
    if (Date.now() > deadline) return false;
    await sleep(POLL_MS);
  }
  return true;
}

function signalGroup(group: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-group, signal);
  } catch {
    // The last member ended by itself between the look and the signal.
  }
}
