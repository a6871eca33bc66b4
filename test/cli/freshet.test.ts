import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ROOT } from "../../local/home.ts";
import { temporaryFolder } from "../support/temporary-home.ts";

function freshet(args: readonly string[], home = temporaryFolder()) {
  const result = spawnSync(process.execPath, [join(ROOT, "cli", "freshet.ts"), ...args], {
    encoding: "utf8",
    env: { ...process.env, FRESHET_HOME: home },
  });
  return { code: result.status, out: result.stdout, err: result.stderr };
}

const commands = readdirSync(join(ROOT, "cli", "commands")).map((file) => file.replace(".ts", ""));

describe("the freshet command", () => {
  it("lists every command with what it does", () => {
    const { code, out } = freshet(["--help"]);
    expect(code).toBe(0);
    for (const name of commands) expect(out).toMatch(new RegExp(`^ {2}${name} +\\S`, "m"));
  });

  it.each(commands)("%s --help shows its usage", (name) => {
    const { code, out } = freshet([name, "--help"]);
    expect(out).toContain(`Usage: freshet ${name}`);
    expect(code).toBe(0);
  });

  it("ends with 2 and the reason on wrong usage", () => {
    expect(freshet(["nonsense"])).toMatchObject({
      code: 2,
      err: expect.stringContaining("unknown command 'nonsense'"),
    });
    expect(freshet(["status", "--nonsense"])).toMatchObject({
      code: 2,
      err: expect.stringContaining("unknown option '--nonsense'"),
    });
  });

  it.each(["health", "inspect --once", "logs", "deploy", "serve --port 1", "keys list"])(
    "%s ends with 3 and says what to do when nothing runs",
    (line) => {
      const { code, err } = freshet(line.split(" "));
      expect(err).toContain("Freshet is not running here\n  repair: run `make up`");
      expect(code).toBe(3);
    },
  );

  it("status holds what a script needs, and ends with 3 when nothing runs", () => {
    const { code, out } = freshet(["status", "--json"]);
    expect(code).toBe(3);
    expect(JSON.parse(out)).toMatchObject({
      running: false,
      api: { url: null, key: null },
      serve: { url: null, running: false },
      emulator: { url: null },
      valkey: { url: null },
      streams: {},
    });
  });

  it("down is content when nothing runs", () => {
    expect(freshet(["down"])).toMatchObject({ code: 0, err: "nothing was running\n" });
  });

  it("refuses a port that is none", () => {
    const { code, err } = freshet(["up", "--serve-port", "70000"]);
    expect(err).toContain('a port is a number from 1 to 65535, given "70000"');
    expect(code).toBe(1);
  });
});
