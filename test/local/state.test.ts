import { statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { withLock } from "../../local/lock.ts";
import { readState, updateState } from "../../local/state.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

describe("the state file", () => {
  it("starts empty, keeps what a change does not name, and is readable by its owner alone", () => {
    const home = temporaryFolder();
    expect(readState(home)).toEqual({ version: 1, ports: {}, cleanShutdown: true, storeWhole: false });
    updateState(home, { ports: { valkey: 1 }, apiKey: "k" });
    updateState(home, { cleanShutdown: false });
    expect(readState(home)).toEqual({
      version: 1,
      ports: { valkey: 1 },
      apiKey: "k",
      cleanShutdown: false,
      storeWhole: false,
    });
    expect(statSync(join(home, "state.json")).mode & 0o777).toBe(0o600);
  });

  it("says how to go on when it is broken", () => {
    const home = temporaryFolder();
    writeFileSync(join(home, "state.json"), '{"version": 7}');
    expect(() => readState(home)).toThrow(`${join(home, "state.json")} cannot be read: version 7 is not 1`);
  });
});

describe("the lock of a home", () => {
  it("is held by one command at a time and names it", async () => {
    const home = temporaryFolder();
    await withLock(home, async () => {
      await expect(withLock(home, async () => {})).rejects.toThrow(
        `another freshet command (pid ${process.pid}) is working on ${home}`,
      );
    });
    expect(await withLock(home, async () => "free again")).toBe("free again");
  });

  it("is taken over from a process that is gone", async () => {
    const home = temporaryFolder();
    writeFileSync(join(home, "lock"), JSON.stringify({ pid: process.pid, startToken: "of an earlier process" }));
    expect(await withLock(home, async () => "mine")).toBe("mine");
  });
});
