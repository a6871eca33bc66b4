/** `make test-feast`: Feast's own client against a Freshet of its own, deployed for it and ended with it. */
import { spawn } from "node:child_process";
import { mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FreshetError } from "../../core/errors.ts";
import { interruptible } from "../../local/interrupt.ts";
import { down, up } from "../../local/laptop.ts";
import { describe } from "../../local/status.ts";
import { Steps } from "../../local/steps.ts";
import { feastPython } from "../support/python-environment.ts";

function suite(python: string, environment: Record<string, string>, signal: AbortSignal): Promise<number> {
  return new Promise((settle, fail) => {
    const script = join(import.meta.dirname, "suite.py");
    const env = { ...process.env, ...environment, FEAST_USAGE: "False", PYTHONWARNINGS: "ignore" };
    const child = spawn(python, [script], { env, stdio: ["ignore", "inherit", "inherit"], signal });
    child.once("error", fail);
    child.once("close", (code) => settle(code ?? 1));
  });
}

const steps = new Steps();
try {
  const python = feastPython((text) => steps.say(`  ${text}`));
  const home = realpathSync(mkdtempSync(join(tmpdir(), "freshet-feast-")));
  try {
    process.exitCode = await interruptible(async (signal) => {
      await up(home, { steps, signal });
      const { serve, api } = describe(home) as unknown as { serve: { url: string }; api: { key: string } };
      return suite(python, { FRESHET_URL: serve.url, FRESHET_KEY: api.key }, signal);
    });
  } finally {
    await down(home, steps);
    rmSync(home, { recursive: true, force: true });
  }
} catch (error) {
  if (!(error instanceof FreshetError)) throw error;
  process.stderr.write(`\nfreshet: ${error.message}\n  repair: ${error.repair ?? "see above"}\n\n0 passed, 1 failed\n`);
  process.exitCode = 1;
}
