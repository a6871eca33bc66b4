/** The Python servers that scores and rankings are held against. */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { anyFreePort, LOOPBACK } from "../local/ports.ts";
import { pythonEnvironment } from "../test/support/python-environment.ts";
import type { Stage } from "./reading.ts";

/** Ticks of /proc are hundredths of a second on every Linux that Node runs on. */
const TICK_US = 10_000;
const START_MS = 30_000;

/** @param script in bench/python: takes its port, Valkey's port, and `args` */
export async function startPythonServer(
  script: string,
  stage: Stage,
  args: readonly string[],
  say: (text: string) => void,
) {
  const requirements = join(import.meta.dirname, "python", "requirements.txt");
  const python = pythonEnvironment({
    name: "bench-venv",
    what: "the Python server of the baseline",
    requirements,
    say,
  });
  const port = await anyFreePort();
  const file = join(import.meta.dirname, "python", script);
  const child = spawn(python, [file, String(port), String(stage.valkey.port), ...args], {
    stdio: ["ignore", "ignore", "inherit"],
    // As the server that it is compared with; see adapters/model/open.ts.
    env: { ...process.env, ORT_DISABLE_TELEMETRY: "1" },
  });
  await answering(child, `http://${LOOPBACK}:${port}/openapi.json`, START_MS);
  return { port, cpuUs: async () => cpuOf(child.pid!), stop: () => child.kill("SIGKILL") };
}

/** Returns when a server that was started answers. @throws Error when it has ended, or takes longer than `startMs` */
export async function answering(child: ChildProcess, url: string, startMs: number): Promise<void> {
  for (const until = Date.now() + startMs; ; ) {
    const isUp = await fetch(url).then(
      ({ ok }) => ok,
      () => false,
    );
    if (isUp) return;
    if (child.exitCode !== null || Date.now() > until) throw new Error(`nothing answers at ${url}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** User and system time of a process, in µs. */
export function cpuOf(pid: number): number {
  const after = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
  return (Number(after[11]) + Number(after[12])) * TICK_US;
}
