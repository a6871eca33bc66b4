import { type ChildProcess, spawn } from "node:child_process";
import type { Socket } from "node:net";
import { join } from "node:path";
import { ROOT } from "./home.ts";

/**
 * Ends a runtime and removes its home when this process is gone without doing so: the shell waits at a pipe that closes with us.
 * Kill it when the runtime is ended in order.
 */
export function endWithThisProcess(home: string): ChildProcess {
  const script = 'read _; "$0" "$1" down; rm -rf "$FRESHET_HOME"';
  const guard = spawn("/bin/sh", ["-c", script, process.execPath, join(ROOT, "cli", "freshet.ts")], {
    env: { ...process.env, FRESHET_HOME: home },
    stdio: ["pipe", "ignore", "ignore"],
    detached: true,
  });
  guard.unref();
  (guard.stdin as Socket).unref();
  return guard;
}
