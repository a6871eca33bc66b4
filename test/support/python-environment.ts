/** Python environments of suites and baselines: made when they are first asked for, beside that of the app, which has no use for them. */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { FreshetError } from "../../core/errors.ts";
import { ROOT, venvPython } from "../../local/home.ts";

interface PythonEnvironment {
  /** Folder under `.freshet/`. */
  readonly name: string;
  /** What is installed, in words. */
  readonly what: string;
  /** File of pinned packages, transitive ones too; the environment is made anew when it changes. */
  readonly requirements: string;
  readonly say: (text: string) => void;
}

/**
 * @returns its python
 * @throws FreshetError `packages_not_installed`, with pip's own last words
 */
export function pythonEnvironment({ name, what, requirements, say }: PythonEnvironment): string {
  const folder = join(ROOT, ".freshet", name);
  const python = join(folder, "bin", "python");
  const stamp = join(folder, "requirements.txt");
  const wanted = readFileSync(requirements, "utf8");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === wanted) return python;
  say(`installing ${what} into .freshet/${name}, once`);
  rmSync(folder, { recursive: true, force: true });
  try {
    const options = { encoding: "utf8", stdio: "pipe" } as const;
    execFileSync(venvPython(), ["-m", "venv", folder], options);
    const pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--retries", "2"];
    execFileSync(python, [...pip, "--requirement", requirements], options);
  } catch (cause) {
    const words = String((cause as { stderr?: string }).stderr ?? cause)
      .trim()
      .split("\n");
    throw new FreshetError("packages_not_installed", `${what} could not be installed: ${words.slice(-3).join(" / ")}`, {
      repair: "pip has to reach its package index (PyPI, or PIP_INDEX_URL); then run this again",
      cause,
    });
  }
  writeFileSync(stamp, wanted);
  return python;
}

/** Feast itself, for its own client and its own server. */
export const feastPython = (say: (text: string) => void): string =>
  pythonEnvironment({
    name: "feast-venv",
    what: "Feast (600 MB)",
    requirements: join(import.meta.dirname, "..", "feast", "requirements.txt"),
    say,
  });
