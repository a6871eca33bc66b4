import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ROOT } from "../../../local/home.ts";
import { freshetHere } from "../../support/freshet-here.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "freshet-generate-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

function generate(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, ["cli/freshet.ts", "generate", ...args], {
    cwd: ROOT,
    encoding: "utf8",
    env: { ...process.env, FRESHET_HOME: folder, NO_COLOR: "1" },
  });
  return { status, stdout, stderr };
}
const hour = ["--from", "2026-01-05T12:00:00Z", "--to", "2026-01-05T13:00:00Z", "--rate", "1"];

describe("freshet generate", () => {
  test("writes the same file twice, and its summary agrees with it", { tags: ["slow"] }, () => {
    const [first, second] = ["first.ndjson", "second.ndjson"].map((name) => join(folder, name));
    const truth = join(folder, "truth.ndjson");
    const run = generate(...hour, "--sink", "file", "--out", first, "--truth", truth, "--json");
    expect(run).toMatchObject({ status: 0, stderr: "" });
    generate(...hour, "--sink", "file", "--out", second);
    const text = readFileSync(first, "utf8");
    expect(readFileSync(second, "utf8")).toBe(text);
    const summary = JSON.parse(run.stdout);
    expect(summary.acknowledged).toBe(text.trimEnd().split("\n").length);
    expect(summary.sent).toBeGreaterThan(2_500);
    expect(readFileSync(truth, "utf8").trimEnd().split("\n")).toHaveLength(summary.sent);
    // The ceiling can be measured again from the truth alone.
    const payments = readFileSync(truth, "utf8")
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    const chances = payments.filter(({ stream }) => stream === "transactions");
    const of = (fraud: boolean) => chances.filter((each) => (each.fraud !== null) === fraud);
    const wins = of(true).flatMap((bad) =>
      of(false).map((good) => Math.sign(bad.fraud_probability - good.fraud_probability) / 2 + 0.5),
    );
    expect(summary.best.rocAuc).toBeCloseTo(wins.reduce((a, b) => a + b, 0) / wins.length, 2);
  });

  test("shows plain lines where there is no terminal, and a table at the end", () => {
    const run = generate(...hour, "--out", join(folder, "shown.ndjson"));
    expect(run.stderr).toMatch(/^ {2} {2}0 % {2}\d+ events|^ {2}100 % {2}\d+ events, \d+\/s\n/m);
    expect(run.stderr).not.toContain("\r");
    expect(run.stdout).toMatch(/transactions +\d+\n.*\n?.*sent +\d+\n +acknowledged +\d+/s);
    expect(run.stdout).toMatch(/best possible score: ROC-AUC [01]\.\d{3}, PR-AUC [01]\.\d{3}\n/);
  });

  test.each([
    [["--sink", "file"], "--sink file and --out go together"],
    [["--from", "2026-01-05T12:00:00Z"], "--from and --to go together, and --to is later"],
    [["--duplicates", "1.5"], "a number from 0 to 1"],
  ])("%j is wrong usage", async (args, message) => {
    const { code, err } = await freshetHere(["generate", ...args], folder);
    expect(code).toBe(2);
    expect(err).toContain(message);
  });

  test("without a running Freshet says what to do", async () => {
    const { code, err } = await freshetHere(["generate", "--duration", "1s"], folder);
    expect(code).toBe(3);
    expect(err).toContain("repair: run `make up`");
  });
});
