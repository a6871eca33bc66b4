/** What the installer asks of a machine, with programs in its PATH that answer as other machines would. */
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { checkMachine, manifestLine } from "../../../local/localstack/install.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";

let programs: string;
let jdk: string;
beforeEach(() => {
  programs = temporaryFolder();
  jdk = join(programs, "jdk");
  mkdirSync(join(jdk, "bin"), { recursive: true });
  vi.stubEnv("PATH", programs);
  vi.stubEnv("PYENV_ROOT", join(programs, "pyenv"));
  vi.stubEnv("FRESHET_LOCALSTACK_PYTHON", "");
  program("python3.13", "echo True");
  java("17");
  program("mvn", "echo Apache Maven 3.9.9");
  for (const tool of ["javac", "jar"]) program(join("jdk", "bin", tool), "exit 0");
});
afterEach(() => {
  vi.unstubAllEnvs();
});

function program(name: string, script: string): void {
  const file = join(programs, name);
  mkdirSync(join(file, ".."), { recursive: true });
  writeFileSync(file, `#!/bin/sh\n${script}\n`);
  chmodSync(file, 0o755);
}
const java = (version: string): void =>
  program("java", `echo "    java.home = ${jdk}" >&2; echo "    java.specification.version = ${version}" >&2`);

describe("what LocalStack without Docker needs of a machine", () => {
  it("is found by its usual names", () => {
    expect(checkMachine()).toEqual({ python: "python3.13", javaHome: jdk });
  });

  it("is Python 3.13, also where pyenv keeps it or the user names it", () => {
    program("python3.13", "echo 'pyenv: python3.13: command not found' >&2; exit 127");
    program("python3", "echo False");
    expect(checkMachine).toThrow(/^LocalStack without Docker needs Python 3\.13:/);
    const kept = join("pyenv", "versions", "3.13.0", "bin", "python3.13");
    program(kept, "echo True");
    expect(checkMachine().python).toBe(join(programs, kept));
    program("mine", "echo True");
    vi.stubEnv("FRESHET_LOCALSTACK_PYTHON", join(programs, "mine"));
    expect(checkMachine().python).toBe(join(programs, "mine"));
  });

  it.each([
    ["an older Java", () => java("11"), "Java 17 for DynamoDB (found: 11)"],
    ["no Java", () => program("java", "exit 1"), "Java 17 for DynamoDB (found: none)"],
    ["no Maven", () => program("mvn", "exit 1"), "Maven"],
  ])("is told where there is %s", (_, make, what) => {
    make();
    expect(checkMachine).toThrow(`LocalStack without Docker needs ${what}`);
  });

  it("is a JDK: its compiler is asked for", () => {
    java("21");
    vi.stubEnv("PATH", programs);
    const bare = join(programs, "jre");
    mkdirSync(join(bare, "bin"), { recursive: true });
    program("java", `echo "    java.home = ${bare}" >&2; echo "    java.specification.version = 21" >&2`);
    expect(checkMachine).toThrow(`LocalStack without Docker needs javac; the Java at ${bare} is no JDK`);
  });
});

describe("a line of a jar's manifest", () => {
  it.each([1, 60, 61, 62, 131, 132, 133, 2_000])("of %d characters has no more than 72 bytes in a row", (length) => {
    const value = Array.from({ length }, (_, i) => String.fromCharCode(97 + (i % 26))).join("");
    const rows = manifestLine("Class-Path", value).split("\n");
    expect(Math.max(...rows.map((row) => row.length))).toBeLessThanOrEqual(72);
    expect(rows.map((row, i) => (i === 0 ? row : row.replace(/^ /, ""))).join("")).toBe(`Class-Path: ${value}`);
  });
});
