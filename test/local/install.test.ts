/** The installer, with programs in its PATH that answer as a broken machine would. */
import { spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { ROOT } from "../../local/home.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

let checkout: string;
let programs: string;

beforeEach(() => {
  checkout = temporaryFolder();
  programs = join(checkout, "programs");
  for (const folder of ["local", "training", "test/lib", "programs", "node_modules/.bin"]) {
    mkdirSync(join(checkout, folder), { recursive: true });
  }
  copyFileSync(join(ROOT, "local", "install.js"), join(checkout, "local", "install.js"));
  writeFileSync(join(checkout, "package.json"), '{ "type": "module" }');
  writeFileSync(join(checkout, "package-lock.json"), "{}");
  writeFileSync(join(checkout, "local", "requirements.txt"), "ministack==1.5.33\n");
  writeFileSync(join(checkout, "training", "requirements.txt"), "lightgbm==4.7.0\n");
  writeFileSync(join(checkout, "test", "lib", "cfn-lint.txt"), "cfn-lint==1.58.0\n");
  program("node", "exit 0");
  writeFileSync(join(checkout, "node_modules", ".bin", "node"), "");
});

/** A program in the PATH; each call is noted. */
function program(name: string, script: string): void {
  const file = join(programs, name);
  writeFileSync(file, `#!/bin/sh\necho "${name} $*" >> ${join(checkout, "calls")}\n${script}\n`);
  chmodSync(file, 0o755);
}

const PYTHON = (version: string): string =>
  `case "$1" in
    -c) echo ${version} ;;
    -m) if [ "$2" = venv ]; then mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; fi ;;
  esac`;

function install(
  environment: Record<string, string> = {},
  ...options: readonly string[]
): { code: number | null; out: string; err: string } {
  const result = spawnSync(process.execPath, [join(checkout, "local", "install.js"), ...options], {
    encoding: "utf8",
    env: { PATH: `${programs}:/usr/bin:/bin`, ...environment },
  });
  return { code: result.status, out: result.stdout, err: result.stderr };
}

const calls = (): string[] => {
  const file = join(checkout, "calls");
  return existsSync(file) ? readFileSync(file, "utf8").trim().split("\n") : [];
};

describe("the installer", () => {
  it("installs what the lock files name, and nothing when they have not changed", () => {
    program("npm", "exit 0");
    program("python3", PYTHON("3.12.1"));
    expect(install()).toMatchObject({ code: 0, out: expect.stringMatching(/npm packages .*\n.*Python 3\.12\.1/) });
    expect(calls()).toContain("npm ci --no-audit --no-fund --loglevel=error");
    expect(
      calls().some(
        (call) =>
          call.includes("-m pip install") && call.includes("--no-deps") && call.includes("training/requirements.txt"),
      ),
    ).toBe(true);

    const before = calls().length;
    expect(install()).toEqual({ code: 0, out: "", err: "" });
    const asked = calls().slice(before);
    expect(asked.filter((call) => call.startsWith("npm") || call.includes("pip"))).toEqual([]);

    writeFileSync(join(checkout, "package-lock.json"), '{ "changed": true }');
    expect(install().out).toMatch(/^ {2}npm packages/);
  });

  it("installs what tests alone need where it is asked to, in an environment of its own", () => {
    program("npm", "exit 0");
    program("python3", PYTHON("3.12.1"));
    install();
    expect(calls().join("\n")).not.toContain("cfn-lint");
    expect(install({}, "--tests")).toMatchObject({
      code: 0,
      out: expect.stringContaining("Python packages (cfn-lint)"),
    });
    expect(
      calls()
        .filter((call) => call.includes("-m pip install"))
        .at(-1),
    ).toMatch(/cfn-lint\.txt$/);
    expect(install({}, "--tests")).toEqual({ code: 0, out: "", err: "" });
    expect(install()).toEqual({ code: 0, out: "", err: "" });
  });

  it("takes the first Python that is new enough", () => {
    program("npm", "exit 0");
    program("python3", PYTHON("3.9.18"));
    program("python3.13", PYTHON("3.13.0"));
    expect(install().out).toContain("Python 3.13.0 environment");
  });

  it("says which Python is too old and what to do", () => {
    program("npm", "exit 0");
    program("python-old", PYTHON("3.9.18"));
    const { code, err } = install({ FRESHET_PYTHON: "python-old" });
    expect(err).toContain(
      "FRESHET_PYTHON=python-old is too old (python-old is 3.9.18); Freshet needs Python 3.10 or newer",
    );
    expect(err).toContain("repair: point FRESHET_PYTHON at a newer interpreter");
    expect(code).toBe(1);
  });

  it.each([
    ["npm", "npm error code ENOTFOUND", "npm could not download the packages\n  repair: check the network"],
    ["npm", "npm error code EUSAGE", "npm ci failed (its words are above)\n  repair: repair what npm says"],
  ])("tells a failed download of %s (%s) from another failure", (_, words, message) => {
    program("python3", PYTHON("3.12.1"));
    program("npm", `echo "${words}" >&2; exit 1`);
    const { code, err } = install();
    expect(err).toContain(words);
    expect(err).toContain(message);
    expect(code).toBe(1);
  });

  it("says that pip could not download, and tries again next time", () => {
    program("npm", "exit 0");
    program(
      "python3",
      `${PYTHON("3.12.1")}\ncase "$*" in *"pip install"*) echo "ERROR: No matching distribution found" >&2; exit 1 ;; esac`,
    );
    for (let attempt = 0; attempt < 2; attempt++) {
      expect(install()).toMatchObject({
        code: 1,
        err: expect.stringContaining("pip could not download the Python packages\n  repair: check the network"),
      });
    }
  });

  it("says what a Python without venv lacks", () => {
    program("npm", "exit 0");
    program("python3", `case "$1" in -c) echo 3.11.2 ;; *) echo "ensurepip is not available" >&2; exit 1 ;; esac`);
    const { err } = install();
    expect(err).toContain("ensurepip is not available");
    expect(err).toContain("on Debian and Ubuntu: install the package python3-venv");
  });
});
