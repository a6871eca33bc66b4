/**
 * Suites of programs that are not ours: `node test/outside/run.ts schemathesis|python`. They need some 300 MB of Python packages,
 * which no other target installs, hence not in `make test`. Runs against the laptop that is up, or one of its own.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { freshetHome, ROOT } from "../../local/home.ts";
import { interruptible } from "../../local/interrupt.ts";
import { down, up } from "../../local/laptop.ts";
import { describe, isUp } from "../../local/status.ts";
import { Steps } from "../../local/steps.ts";
import type { DeployedStatus } from "../support/deployed.ts";
import { pythonEnvironment } from "../support/python-environment.ts";

const CLIENT = join(ROOT, "clients", "python");

function run(
  command: string,
  args: readonly string[],
  options: { cwd?: string; env?: Record<string, string> } = {},
): void {
  const env = { ...process.env, ...options.env };
  const { status } = spawnSync(command, args, { cwd: options.cwd ?? ROOT, env, stdio: "inherit" });
  if (status !== 0) process.exitCode = 1;
}

const SUITES: Readonly<Record<string, (python: string, url: string, key: string) => void>> = {
  schemathesis(python, url, key) {
    const scratch = mkdtempSync(join(tmpdir(), "freshet-schemathesis-"));
    const config = ["--config-file", join(import.meta.dirname, "schemathesis.toml")];
    const cases = ["--phases", "examples,coverage,fuzzing", "--max-examples", "10", "--seed", "20260131"];
    const target = [`${url}/openapi.json`, "--url", url, "--header", `x-api-key: ${key}`];
    // It writes what it found beside where it runs.
    const args = [
      "-m",
      "schemathesis.cli",
      ...config,
      "run",
      ...target,
      ...cases,
      "--continue-on-failure",
      "--no-color",
    ];
    run(python, args, { cwd: scratch });
    rmSync(scratch, { recursive: true });
  },
  python(python, url, key) {
    run(python, ["-m", "mypy"], { cwd: CLIENT });
    const path = ["src", process.env["PYTHONPATH"]].filter(Boolean).join(delimiter);
    const env = { PYTHONPATH: path, PYTHONDONTWRITEBYTECODE: "1", FRESHET_URL: url, FRESHET_KEY: key };
    run(python, ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"], { cwd: CLIENT, env });
  },
};

const suite = SUITES[process.argv[2] ?? ""];
if (suite === undefined) {
  process.stderr.write(`usage: node test/outside/run.ts ${Object.keys(SUITES).join("|")}\n`);
  process.exit(2);
}
const python = pythonEnvironment({
  name: "outside",
  what: "schemathesis, pytest, mypy and pandas (300 MB)",
  requirements: join(import.meta.dirname, "requirements.txt"),
  say: (text) => process.stdout.write(`  ${text}\n`),
});
const running = isUp(freshetHome());
const home = running ? freshetHome() : realpathSync(mkdtempSync(join(tmpdir(), "freshet-outside-")));
const steps = new Steps();
try {
  await interruptible(async (signal) => {
    if (!running) await up(home, { steps, signal });
    const { serve, api } = describe(home) as unknown as DeployedStatus;
    suite(python, serve.url, api.key);
  });
} finally {
  if (!running) {
    await down(home, steps);
    rmSync(home, { recursive: true, force: true });
  }
}
