import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { groupMembers, startToken } from "../../local/process-table.ts";
import {
  isRunning,
  logFile,
  readRecord,
  recordedNames,
  startProcess,
  stopProcess,
  waitUntilReady,
} from "../../local/processes.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

let home: string;
beforeEach(() => {
  home = temporaryFolder();
});
afterEach(async () => {
  for (const name of recordedNames(home)) await stopProcess(home, name, 0);
});

/** A process that says what it does and obeys the script. */
async function start(script: string): Promise<{ pid: number }> {
  const record = await startProcess(home, {
    name: "part",
    command: process.execPath,
    args: ["-e", script],
    env: {},
    cwd: home,
  });
  await waitUntilReady(home, record, async () => readFileSync(logFile(home, "part"), "utf8").includes("ready"), {
    timeoutMs: 20_000,
  });
  return record;
}

const IDLE = "setInterval(() => {}, 1e6); console.log('ready')";

describe("a supervised process", () => {
  it("leads its own group, with its output in the log and a record of its start", async () => {
    const { pid } = await start(IDLE);
    expect(groupMembers(pid)).toEqual([pid]);
    expect(isRunning(readRecord(home, "part"))).toBe(true);
    expect(readRecord(home, "part")).toMatchObject({ name: "part", pid, startToken: startToken(pid) });
  });

  it("ends by SIGTERM within its grace and leaves no record", async () => {
    const { pid } = await start(`process.on('SIGTERM', () => { console.log('bye'); process.exit(0) }); ${IDLE}`);
    expect(await stopProcess(home, "part", 10_000)).toBe("clean");
    expect(readFileSync(logFile(home, "part"), "utf8")).toContain("bye");
    expect(startToken(pid)).toBeNull();
    expect(readRecord(home, "part")).toBeNull();
  });

  it("is killed when it ignores SIGTERM", async () => {
    const { pid } = await start(`process.on('SIGTERM', () => {}); ${IDLE}`);
    expect(await stopProcess(home, "part", 200)).toBe("killed");
    expect(startToken(pid)).toBeNull();
  });

  it("takes its children with it, also those that ignore SIGTERM", async () => {
    const child = `process.on('SIGTERM', () => {}); setInterval(() => {}, 1e6); console.log('ready')`;
    const { pid } = await start(
      `require('node:child_process').spawn(process.execPath, ['-e', ${JSON.stringify(child)}], { stdio: 'inherit' }); setInterval(() => {}, 1e6)`,
    );
    expect(groupMembers(pid)).toHaveLength(2);
    await stopProcess(home, "part", 10_000);
    expect(groupMembers(pid)).toEqual([]);
  });

  it("takes children along whose parent was killed before", async () => {
    const child = "setInterval(() => {}, 1e6); console.log('ready')";
    const { pid } = await start(
      `require('node:child_process').spawn(process.execPath, ['-e', ${JSON.stringify(child)}], { stdio: 'inherit' }); setInterval(() => {}, 1e6)`,
    );
    process.kill(pid, "SIGKILL");
    while (startToken(pid) !== null) await sleep(10);
    expect(groupMembers(pid)).toHaveLength(1);
    expect(await stopProcess(home, "part", 10_000)).toBe("gone");
    expect(groupMembers(pid)).toEqual([]);
  });

  it("never signals another process that has its pid now", async () => {
    const { pid } = await start(IDLE);
    const file = join(home, "run", "part.json");
    const record = readFileSync(file, "utf8");
    writeFileSync(file, JSON.stringify({ ...JSON.parse(record), startToken: "of an earlier process" }));
    expect(isRunning(readRecord(home, "part"))).toBe(false);
    expect(await stopProcess(home, "part", 0)).toBe("gone");
    expect(groupMembers(pid)).toEqual([pid]);
    writeFileSync(file, record);
  });

  it("that ends while starting is reported with the end of its log", async () => {
    await expect(start("console.error('no such setting'); process.exit(4)")).rejects.toThrow(
      /part ended while starting\n {2}\| no such setting/,
    );
  });

  it("that cannot be started is reported with the cause", async () => {
    const spec = { name: "part", command: join(home, "nothing-here"), args: [], env: {}, cwd: home };
    await expect(startProcess(home, spec)).rejects.toThrow(/part could not be started: .*ENOENT/);
  });
});
