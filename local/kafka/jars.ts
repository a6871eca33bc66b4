/** The broker's jars: fetched by Maven once for a checkout, and used only when they are exactly those that the lock names. */
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { FreshetError } from "../../core/errors.ts";
import { toolPath } from "../emulator.ts";
import { homeFolder, ROOT } from "../home.ts";
import { runTool } from "../tool.ts";
import { requireMaven } from "./java.ts";

const FOLDER = join(ROOT, "local", "kafka");
const DEPENDENCY_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1";

/** File names with their SHA-256, as `sha256sum` writes and checks them. */
export function readLock(text: string): ReadonlyMap<string, string> {
  const lines = text.split("\n").filter((line) => line !== "");
  return new Map(lines.map((line) => [line.slice(66), line.slice(0, 64)]));
}

/**
 * The folder of the jars, fetched when they are not there.
 * @throws FreshetError `maven_missing`, `tool_failed`, `jars_differ`
 */
export async function kafkaJars(home: string, signal?: AbortSignal): Promise<string> {
  const text = readFileSync(join(FOLDER, "jars.sha256"), "utf8");
  const lock = readLock(text);
  // Tools belong to the checkout, whichever home the state lives in. Another lock is another folder.
  const tools = homeFolder(ROOT, ".freshet", "kafka-jars");
  const folder = join(tools, createHash("sha256").update(text).digest("hex").slice(0, 12));
  if (existsSync(folder)) return folder;
  requireMaven();
  const fetched = mkdtempSync(join(tools, "fetching-"));
  try {
    await runTool(
      home,
      {
        name: "kafka-jars",
        command: "mvn",
        args: [
          ...["--quiet", "--batch-mode", "--file", join(FOLDER, "pom.xml")],
          `${DEPENDENCY_PLUGIN}:copy-dependencies`,
          ...["-DincludeScope=runtime", `-DoutputDirectory=${fetched}`],
        ],
        cwd: tools,
        env: mavenEnvironment(),
      },
      signal,
    );
    requireLocked(fetched, lock);
    renameSync(fetched, folder);
  } catch (error) {
    // Somebody else was faster.
    if (!existsSync(folder)) throw error;
  } finally {
    rmSync(fetched, { recursive: true, force: true });
  }
  return folder;
}

/** Maven finds its settings, mirrors and cache in the user's own folder. */
export function mavenEnvironment(): Record<string, string> {
  const kept = ["HOME", "JAVA_HOME", "MAVEN_OPTS", "M2_HOME", "HTTPS_PROXY", "https_proxy"];
  const set = kept.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]]));
  return { PATH: toolPath(), LC_ALL: "C.UTF-8", ...Object.fromEntries(set) };
}

/** @throws FreshetError `jars_differ` naming the first file that is missing, new or another */
export function requireLocked(folder: string, lock: ReadonlyMap<string, string>): void {
  const found = readdirSync(folder).sort();
  const hashOf = (name: string): string =>
    createHash("sha256")
      .update(readFileSync(join(folder, name)))
      .digest("hex");
  const wrong =
    [...lock.keys()].find((name) => !found.includes(name)) ??
    found.find((name) => lock.get(name) === undefined || lock.get(name) !== hashOf(name));
  if (wrong === undefined) return;
  throw new FreshetError("jars_differ", `what Maven fetched is not what local/kafka/jars.sha256 names: ${wrong}`, {
    repair: "check the Maven mirror in ~/.m2/settings.xml; after a change of pom.xml write the lock anew",
  });
}
