/** The laptop's life as its user sees it: the command itself, in homes of its own beside the shared deployment. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import { ROOT } from "../../local/home.ts";
import { isPortFree } from "../../local/ports.ts";
import { groupMembers } from "../../local/process-table.ts";
import { readRecord, recordedNames } from "../../local/processes.ts";
import { deployed } from "../support/deployed.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

interface Result {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

const homes: string[] = [];
const launched: { child: ChildProcess; result: Promise<Result> }[] = [];
afterEach(async () => {
  // A test that failed in the midst of a command must not leave it at work in a home that is going to be removed.
  for (const { child, result } of launched.splice(0)) {
    child.kill("SIGINT");
    await result;
  }
  for (const home of homes.splice(0)) await freshet(home, "down");
});

function newHome(): string {
  const home = temporaryFolder();
  homes.push(home);
  return home;
}

function launch(home: string, ...args: string[]): { child: ChildProcess; result: Promise<Result> } {
  const child = spawn(process.execPath, [join(ROOT, "cli", "freshet.ts"), ...args], {
    env: { ...process.env, FRESHET_HOME: home },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let out = "";
  let err = "";
  child.stdout?.on("data", (chunk) => {
    out += chunk;
  });
  child.stderr?.on("data", (chunk) => {
    err += chunk;
  });
  const result = once(child, "close").then(([code]) => ({ code, out, err }));
  launched.push({ child, result });
  return { child, result };
}

function freshet(home: string, ...args: string[]): Promise<Result> {
  return launch(home, ...args).result;
}

/** Pids of the groups that the home has started so far. */
function groups(home: string): number[] {
  return recordedNames(home).flatMap((name) => readRecord(home, name)?.pid ?? []);
}

const alive = (pids: readonly number[]): number[] => pids.flatMap((pid) => groupMembers(pid));

describe("the laptop runtime", () => {
  it("goes up beside another checkout, down without a trace, and up again with its state", async () => {
    const home = newHome();
    const first = await freshet(home, "up", "--json");
    expect(first.err).toContain("✓ deploy");
    expect(first.code).toBe(0);
    const status = JSON.parse(first.out);
    for (const part of ["serve", "emulator", "valkey"] as const) {
      expect(status[part]).toMatchObject({ running: true });
      expect(status[part].url).not.toBe(deployed()[part].url);
    }
    expect(Object.keys(status.streams).sort()).toEqual(["clicks", "feature_events", "labels", "transactions"]);
    expect(await freshet(home, "health")).toMatchObject({ out: expect.not.stringContaining("FAILED"), code: 0 });

    const again = await freshet(home, "up");
    expect(again.err).toMatch(
      /✓ valkey .*already running[\s\S]*✓ emulator .*already running[\s\S]*✓ deploy .*unchanged/,
    );

    const pids = groups(home);
    expect(pids).toHaveLength(3);
    expect(alive(pids).length).toBeGreaterThan(3);
    expect(await freshet(home, "down")).toMatchObject({ code: 0 });
    expect(alive(pids)).toEqual([]);
    for (const part of ["serve", "emulator", "valkey"] as const) {
      expect(await isPortFree(Number(new URL(status[part].url).port))).toBe(true);
    }
    expect(await freshet(home, "status")).toMatchObject({ code: 3 });

    const second = await freshet(home, "up", "--json");
    expect(second.err).toMatch(/✓ deploy .*unchanged/);
    expect(JSON.parse(second.out)).toMatchObject({
      api: status.api,
      serve: { url: status.serve.url },
      emulator: { url: status.emulator.url },
      valkey: { url: status.valkey.url },
      streams: status.streams,
    });
    expect(await freshet(home, "health")).toMatchObject({ out: expect.not.stringContaining("FAILED"), code: 0 });

    // The store has another run id now, and nothing is missing from it.
    const ready = await (await fetch(`${status.serve.url}/ready`)).json();
    expect(ready).toMatchObject({ status: "ready", checks: { online_store: { control: "ok" } } });

    const left = groups(home);
    expect(await freshet(home, "clean")).toMatchObject({ code: 0 });
    expect(alive(left)).toEqual([]);
    expect(existsSync(home)).toBe(false);
  });

  it.each(["SIGINT", "SIGTERM", "SIGHUP"] as const)(
    "leaves nothing running when %s ends `up` in its midst",
    async (signal) => {
      const home = newHome();
      const { child, result } = launch(home, "up");
      // In the midst: both servers run and the CDK works on them.
      while (!recordedNames(home).includes("cdk-bootstrap")) await sleep(20);
      const pids = groups(home);
      expect(pids).toHaveLength(3);
      child.kill(signal);
      expect(await result).toMatchObject({ code: 130 });
      expect(alive(pids)).toEqual([]);
      expect(recordedNames(home)).toEqual([]);
    },
  );

  it("says which port is taken and how to go on", async () => {
    const home = newHome();
    const taken = new URL(deployed().emulator.url).port;
    const { code, err } = await freshet(home, "up", "--emulator-port", taken);
    expect(err).toContain(`port ${taken} for emulator is in use by another process`);
    expect(err).toContain("repair: end that process, or give another port with --emulator-port");
    expect(code).toBe(1);
    expect(recordedNames(home)).toEqual([]);
  });
});
