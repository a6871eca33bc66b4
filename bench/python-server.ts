/** The Python servers that scores and rankings are held against. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "../local/home.ts";
import { anyFreePort, LOOPBACK } from "../local/ports.ts";
import type { Stage } from "./reading.ts";

/** Ticks of /proc are hundredths of a second on every Linux that Node runs on. */
const TICK_US = 10_000;
const START_MS = 30_000;

/** An environment of its own: the app has no use for these packages. Made once; needs the package index then. */
function benchPython(say: (text: string) => void): string {
  const folder = join(ROOT, ".freshet", "bench-venv");
  const requirements = join(import.meta.dirname, "python", "requirements.txt");
  const stamp = join(folder, "requirements.txt");
  const python = join(folder, "bin", "python");
  const wanted = readFileSync(requirements, "utf8");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === wanted) return python;
  say("installing the Python server of the baseline");
  execFileSync(join(ROOT, ".freshet", "venv", "bin", "python"), ["-m", "venv", folder]);
  execFileSync(python, ["-m", "pip", "install", "--quiet", "--no-deps", "--requirement", requirements]);
  writeFileSync(stamp, wanted);
  return python;
}

/** @param script in bench/python: takes its port, Valkey's port, and `args` */
export async function startPythonServer(
  script: string,
  stage: Stage,
  args: readonly string[],
  say: (text: string) => void,
) {
  const python = benchPython(say);
  const port = await anyFreePort();
  const file = join(import.meta.dirname, "python", script);
  const child = spawn(python, [file, String(port), String(stage.valkey.port), ...args], {
    stdio: ["ignore", "ignore", "inherit"],
    // As the server that it is compared with; see adapters/model/open.ts.
    env: { ...process.env, ORT_DISABLE_TELEMETRY: "1" },
  });
  await answering(child, port);
  return { port, cpuUs: async () => cpuOf(child.pid!), stop: () => child.kill("SIGKILL") };
}

async function answering(child: ChildProcess, port: number): Promise<void> {
  for (const until = Date.now() + START_MS; ; ) {
    const isUp = await fetch(`http://${LOOPBACK}:${port}/openapi.json`).then(
      ({ ok }) => ok,
      () => false,
    );
    if (isUp) return;
    if (child.exitCode !== null || Date.now() > until) throw new Error("the Python server did not start");
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** User and system time of a process, in µs. */
function cpuOf(pid: number): number {
  const after = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
  return (Number(after[11]) + Number(after[12])) * TICK_US;
}
