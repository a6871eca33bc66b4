/** The Python environment with Feast: made when it is first asked for, beside that of the app, which has no use for it. */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { FreshetError } from "../../core/errors.ts";
import { ROOT, venvPython } from "../../local/home.ts";

const REQUIREMENTS = join(import.meta.dirname, "..", "feast", "requirements.txt");

/**
 * @returns its python
 * @throws FreshetError `feast_not_installed`, with pip's own last words
 */
export function feastPython(say: (text: string) => void): string {
  const folder = join(ROOT, ".freshet", "feast-venv");
  const python = join(folder, "bin", "python");
  const stamp = join(folder, "requirements.txt");
  const wanted = readFileSync(REQUIREMENTS, "utf8");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === wanted) return python;
  say("installing Feast into .freshet/feast-venv (600 MB, once)");
  rmSync(folder, { recursive: true, force: true });
  try {
    const options = { encoding: "utf8", stdio: "pipe" } as const;
    execFileSync(venvPython(), ["-m", "venv", folder], options);
    const pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--retries", "2"];
    execFileSync(python, [...pip, "--requirement", REQUIREMENTS], options);
  } catch (cause) {
    const words = String((cause as { stderr?: string }).stderr ?? cause)
      .trim()
      .split("\n");
    throw new FreshetError("feast_not_installed", `Feast could not be installed: ${words.slice(-3).join(" / ")}`, {
      repair: "pip has to reach its package index (PyPI, or PIP_INDEX_URL); then run this again",
      cause,
    });
  }
  writeFileSync(stamp, wanted);
  return python;
}
