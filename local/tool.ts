import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { FreshetError } from "../core/errors.ts";
import { forgetProcess, logEnd, logFile, recordProcess } from "./processes.ts";

const CAUSE_LINES = 10;

/**
 * Runs a program to its end, with its output in `logs/<name>.log`. It leads a group of its own, ended whole on abort, so
 * that Ctrl-C leaves none of its children behind.
 * @throws FreshetError `tool_failed` with the log's end
 */
export async function runTool(
  home: string,
  tool: { name: string; command: string; args: readonly string[]; env: Record<string, string>; cwd: string },
  signal?: AbortSignal,
): Promise<void> {
  signal?.throwIfAborted();
  const log = openSync(logFile(home, tool.name), "w");
  const child = spawn(tool.command, tool.args, {
    cwd: tool.cwd,
    env: tool.env,
    detached: true,
    stdio: ["ignore", log, log],
  });
  closeSync(log);
  if (child.pid !== undefined) recordProcess(home, tool.name, child.pid);
  const end = (): void => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
    } catch {
      // It ended by itself.
    }
  };
  signal?.addEventListener("abort", end, { once: true });
  try {
    const code = await new Promise<number | null>((settle, fail) => {
      child.once("error", fail);
      child.once("close", settle);
    });
    signal?.throwIfAborted();
    if (code === 0) return;
    throw new FreshetError("tool_failed", `${tool.name} failed with exit code ${code}\n${causeIn(home, tool.name)}`, {
      repair: `repair what it says; all of its words are in ${logFile(home, tool.name)}`,
    });
  } finally {
    signal?.removeEventListener("abort", end);
    forgetProcess(home, tool.name);
  }
}

/** The first lines that speak of an error, which stack traces and summaries push out of the end; else the end. */
function causeIn(home: string, name: string): string {
  const lines = readFileSync(logFile(home, name), "utf8").split("\n");
  const first = lines.findIndex((line) => /error|failed|invalid|denied/i.test(line));
  if (first < 0) return logEnd(home, name);
  return lines
    .slice(first, first + CAUSE_LINES)
    .map((line) => `  | ${line}`.trimEnd())
    .join("\n");
}
