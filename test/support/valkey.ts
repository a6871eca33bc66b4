/** A real Valkey for one test file: own port, own folder, gone with the test. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { anyFreePort, LOOPBACK } from "../../local/ports.ts";
import { pingValkey, valkeyProcess } from "../../local/valkey.ts";

export interface TestValkey {
  readonly host: string;
  readonly port: number;
  readonly url: string;
  readonly dir: string;
  /** Of the running server; changes with `restart`. */
  readonly pid: number;
  /** Ends the server and removes its folder if it was made here. */
  stop(): Promise<void>;
  /** Kills for real and waits for the end; SIGKILL by default. The port and the data stay reserved for `restart`. */
  kill(signal?: NodeJS.Signals): Promise<void>;
  /** Starts it again on the same port with what the append-only file holds, or with nothing. */
  restart(options?: { empty?: boolean }): Promise<void>;
}

const START_TIMEOUT_MS = 60_000;

/**
 * Ends a server whose test process is gone, however it went: the shell waits at a pipe that the kernel closes with us.
 * A handler of this process would not run when a test runner kills its worker.
 */
function guard(server: ChildProcess): void {
  const watchdog = spawn("/bin/sh", ["-c", 'read _; kill -KILL "$0"', String(server.pid)], {
    stdio: ["pipe", "ignore", "ignore"],
    detached: true,
  });
  watchdog.unref();
  (watchdog.stdin as Socket).unref();
  server.once("exit", () => watchdog.kill("SIGKILL"));
}

export async function startValkey(
  options: { port?: number; dir?: string; appendonly?: boolean } = {},
): Promise<TestValkey> {
  const port = options.port ?? (await anyFreePort());
  const dir = options.dir ?? mkdtempSync(join(tmpdir(), "freshet-valkey-"));
  const spec = valkeyProcess({ port, dir, appendonly: options.appendonly ?? false });
  let child = await launch();

  async function launch(): Promise<ChildProcess> {
    const started = spawn(spec.command, spec.args, { cwd: dir, stdio: ["ignore", "pipe", "pipe"] });
    guard(started);
    let output = "";
    started.stdout.on("data", (chunk) => {
      output = (output + chunk).slice(-4_000);
    });
    started.stderr.resume();
    const deadline = Date.now() + START_TIMEOUT_MS;
    while (!(await pingValkey(port, started.pid))) {
      if (started.exitCode !== null || started.signalCode !== null || Date.now() > deadline) {
        started.kill("SIGKILL");
        throw new Error(`Valkey did not start on port ${port}:\n${output}`);
      }
      await sleep(10);
    }
    return started;
  }

  async function kill(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill(signal);
    await ended;
  }

  return {
    host: LOOPBACK,
    port,
    url: `redis://${LOOPBACK}:${port}`,
    dir,
    get pid() {
      return child.pid as number;
    },
    kill,
    async restart({ empty = false } = {}) {
      await kill("SIGTERM");
      if (empty) rmSync(join(dir, "appendonlydir"), { recursive: true, force: true });
      child = await launch();
    },
    async stop() {
      await kill("SIGKILL");
      if (options.dir === undefined) rmSync(dir, { recursive: true, force: true });
    },
  };
}
