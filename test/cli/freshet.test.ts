/** The command as its users meet it. Each case runs in this process; that a process says and ends the same is shown by a few. */
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, it } from "vitest";
import { ROOT } from "../../local/home.ts";
import { type CommandResult, freshetHere } from "../support/freshet-here.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const freshet = (args: readonly string[], home = temporaryFolder()) => freshetHere(args, home);

function asProcess(args: readonly string[], home: string): CommandResult {
  const result = spawnSync(process.execPath, [join(ROOT, "cli", "freshet.ts"), ...args], {
    encoding: "utf8",
    env: { ...process.env, FRESHET_HOME: home },
  });
  return { code: result.status ?? -1, out: result.stdout, err: result.stderr };
}

const commands = readdirSync(join(ROOT, "cli", "commands")).map((file) => file.replace(".ts", ""));

describe("the freshet command", () => {
  it.each([
    ["--help", 0],
    ["keys --help", 0],
    ["status --json", 3],
    ["nonsense", 2],
    ["generate --duration 5", 2],
  ])("%s says and ends as a process what it does here", async (line, code) => {
    const [args, home] = [line.split(" "), temporaryFolder()];
    const found = asProcess(args, home);
    expect(found.code).toBe(code);
    expect(found.out + found.err).not.toBe("");
    expect(found).toEqual(await freshet(args, home));
  });

  it("has every command's module loaded by Node itself, which refuses what this test runner takes", {
    tags: ["slow"],
  }, () => {
    const files = commands.map((name) => pathToFileURL(join(ROOT, "cli", "commands", `${name}.ts`)).href);
    const script = `for (const file of ${JSON.stringify(files)}) await import(file);`;
    const { status, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" });
    expect([status, stderr]).toEqual([0, ""]);
  });

  it("lists every command with what it does", async () => {
    const { code, out } = await freshet(["--help"]);
    expect(code).toBe(0);
    for (const name of commands) expect(out).toMatch(new RegExp(`^ {2}${name} +\\S`, "m"));
  });

  const TIMED = "audit consistency experiment generate materialize replay train training-set".split(" ");
  it.each(commands)("%s --help shows its usage", async (name) => {
    const { code, out } = await freshet([name, "--help"]);
    expect(out).toContain(`Usage: freshet ${name}`);
    expect(out).toMatch(/\nExamples:\n {2}\S/);
    // Nobody has to guess in which zone.
    expect([name, out.includes("midnight UTC")]).toEqual([name, TIMED.includes(name)]);
    // A default that is a path of this machine helps nobody.
    expect(out).not.toContain(ROOT);
    expect(code).toBe(0);
  });

  it.each("features keys models quarantine schemas tenants".split(" "))(
    "%s shows examples of each of its words",
    async (name) => {
      const { out } = await freshet([name, "--help"]);
      const words = [.../^Commands:$([\s\S]*?)^ {2}help /m.exec(out)![1].matchAll(/^ {2}(\w+)/gm)].map(
        ([, word]) => word,
      );
      expect(words.length).toBeGreaterThan(2);
      for (const word of words) {
        const help = await freshet([name, word, "--help"]);
        expect(help.out).toMatch(new RegExp(`\nExamples:\n {2}.*freshet ${name} ${word}( |$)`, "m"));
      }
    },
  );

  it("ends with 2 and the reason on wrong usage", async () => {
    expect(await freshet(["nonsense"])).toMatchObject({
      code: 2,
      err: expect.stringContaining("unknown command 'nonsense'"),
    });
    expect(await freshet(["status", "--nonsense"])).toMatchObject({
      code: 2,
      err: expect.stringContaining("unknown option '--nonsense'"),
    });
  });

  it.each([
    ["verify --id c1", 2, "of which type of entity c1 is one is not said", "give --entity with --id"],
    ["erase --entity card", 2, "who is meant is not said", "give --entity and --id"],
    [
      `erase --entity card --id ${"x".repeat(300)}`,
      1,
      "an id has 1 to 256 characters, given 300",
      "as events have them",
    ],
    ["replay --stream transactions", 2, "what is to be replayed is not said", "give --stream and --from, or --failed"],
    [
      "generate --tenant Shop",
      2,
      "a tenant is 1 to 64 of a-z, 0-9, _ and -, given .Shop.",
      "use a name like team-fraud",
    ],
    ["restore", 2, "what is to be restored is not said", "give --all, --bucket <n>, or --list"],
    ["quarantine drop", 2, "which records are meant is not said", "or --all"],
  ])(
    "%s is refused with what was given and the repair, before anything is asked",
    async (line, code, words, repair) => {
      const { code: ended, err } = await freshet(line.split(" "));
      expect([ended, err]).toEqual([code, expect.stringMatching(new RegExp(`${words}\\n  repair: .*${repair}`))]);
    },
  );

  it.each([
    "status --shell",
    "health",
    "inspect --once",
    "logs",
    "deploy",
    "serve --port 1",
    "keys list",
    "tenants list",
    "features list",
    "features push c1 profile:age=412",
    "training-set --service fraud --out set",
  ])("%s ends with 3 and says what to do when nothing runs", async (line) => {
    const { code, err } = await freshet(line.split(" "));
    expect(err).toContain("Freshet is not running here\n  repair: run `make up`");
    expect(code).toBe(3);
  });

  it("status holds what a script needs, and ends with 3 when nothing runs", async () => {
    const { code, out } = await freshet(["status", "--json"]);
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

  it("down is content when nothing runs", async () => {
    expect(await freshet(["down"])).toMatchObject({ code: 0, err: "nothing was running\n" });
  });

  it.each([
    ["up --serve-port 70000", "Give a number from 1 to 65535."],
    ["serve --port http", "Give a number from 1 to 65535."],
    ["logs --since yesterday", "Give a whole number and a unit, as 30s, 5m, 2h or 1d."],
    ["keys create --tenant a --days 0", "Give a number from 0.001 to 36500."],
    ["keys rotate abcdefghijkl --overlap 40d", "Give at most 30d: a longer overlap is no rotation."],
    ["generate --duration 5", "Give a whole number and a unit, as 30s, 5m, 2h or 1d."],
    ["generate --streams payments", 'not "payments".'],
    ["generate --from noon --to 2026-01-01", "Give a day, as 2026-11-01 (UTC),"],
    [
      "training-set --service fraud --out x --from-log --spine s.csv",
      "'--from-log' cannot be used with option '--spine <file>'",
    ],
    [
      "train --service fraud --from-log --training-set s",
      "'--training-set <folder>' cannot be used with option '--from-log'",
    ],
    ["training-set --from 2026-01-01T00:00 --out x", "a time with its zone, as 2026-11-01T06:00:00Z"],
    ["generate --to 2026-01-01", "--from and --to go together"],
    ["schemas show none.v1", "there is no contract none.v1"],
    ["schemas show clicks.v1 --revision first", "Give a number from 1 to 1000000."],
    ["schemas show clicks.v1 --revision 99", "clicks.v1 has no revision 99"],
    ["bench --only nothing --no-write", "there is no benchmark nothing"],
    ["bench --only online --broker kafka --no-write", "give '--only pipeline' with it"],
    ["features register profile:age --entity card", "required option '--dtype <type>' not specified"],
    ["features", "Usage: freshet features"],
    ["status now", "too many arguments for 'status'"],
    ["keys", "Usage: freshet keys"],
    ["tenants limits a --class scores", "Allowed choices are read, write, score, admin."],
    ["tenants limits a --class score --burst 0.5", "Give a number from 1 to 1000000000."],
  ])("%s ends with 2 and says what is wrong", async (line, message) => {
    const { code, err } = await freshet(line.split(" "));
    expect(err).toContain(message);
    expect(code).toBe(2);
  });
});
