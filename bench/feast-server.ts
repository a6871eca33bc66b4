/** Feast's own Python server over the benchmark's Valkey, filled with what `feast-data.ts` describes. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { anyFreePort, LOOPBACK } from "../local/ports.ts";
import { feastPython } from "../test/support/python-environment.ts";
import { feastSpec } from "./feast-data.ts";
import { answering, cpuOf } from "./python-server.ts";

const START_MS = 90_000;

export interface FeastServer {
  readonly port: number;
  /** Of its master and its workers. */
  cpuUs(): Promise<number>;
}
export interface FeastRepo {
  /** Bytes in Valkey of an entity's view, by the view's name. */
  readonly bytes: Readonly<Record<string, number>>;
  serve(workers: number): Promise<FeastServer>;
  close(): void;
}

/** Declares and fills; servers are started apart. */
export async function openFeast(valkeyPort: number, say: (text: string) => void): Promise<FeastRepo> {
  const python = feastPython(say);
  const folder = mkdtempSync(join(tmpdir(), "freshet-bench-feast-"));
  const started: ChildProcess[] = [];
  const environment = { ...process.env, FEAST_USAGE: "False", PYTHONWARNINGS: "ignore" };
  const close = (): void => {
    for (const child of started)
      if (child.pid !== undefined && child.exitCode === null) process.kill(-child.pid, "SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    const spec = join(folder, "spec.json");
    writeFileSync(spec, JSON.stringify(feastSpec));
    const script = join(import.meta.dirname, "python", "feast_repo.py");
    const { stdout } = await promisify(execFile)(python, [script, folder, String(valkeyPort), spec], {
      env: environment,
    });
    const lines = stdout.split("\n").filter((line) => line.startsWith("{"));
    const sizes = lines.map((line) => JSON.parse(line) as { view: string; bytes: number });
    return {
      bytes: Object.fromEntries(sizes.map(({ view, bytes }) => [view, bytes / feastSpec.entities])),
      close,
      async serve(workers) {
        const port = await anyFreePort();
        const options = ["--no-access-log", "--max-requests", "0", "--max-requests-jitter", "0", "-r", "3600"];
        const args = ["serve", "-h", LOOPBACK, "-p", String(port), "-w", String(workers), ...options];
        // Its workers are ended with it, as a group.
        const child = spawn(join(dirname(python), "feast"), args, {
          cwd: folder,
          env: environment,
          stdio: ["ignore", "ignore", "ignore"],
          detached: true,
        });
        started.push(child);
        await answering(child, `http://${LOOPBACK}:${port}/health`, START_MS);
        return { port, cpuUs: async () => treeCpuUs(child.pid!) };
      },
    };
  } catch (error) {
    close();
    throw error;
  }
}

/** User and system time of a process and those that it has started, in µs. */
function treeCpuUs(pid: number): number {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").filter(Boolean);
  return children.reduce((sum, child) => sum + treeCpuUs(Number(child)), cpuOf(pid));
}
