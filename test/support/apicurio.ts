/**
 * Apicurio Registry on this machine, which answers Confluent's API: what `make test-registry` is run against. Its archive comes from
 * Maven Central and is used only as pinned; its schemas are in memory, so it begins empty each time.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { FreshetError } from "../../core/errors.ts";
import { toolPath } from "../../local/emulator.ts";
import { homeFolder, ROOT } from "../../local/home.ts";
import { mavenEnvironment } from "../../local/kafka/jars.ts";
import { javaCommand, requireJava, requireMaven } from "../../local/kafka/java.ts";
import { LOOPBACK } from "../../local/ports.ts";
import type { ProcessSpec } from "../../local/processes.ts";
import { runTool } from "../../local/tool.ts";

/** The last that runs on Java 17. */
const VERSION = "3.0.9";
const SHA256 = "2b28181501a20cbf6efcd77f9b7153908fc01f3d3a7c32024c0bd9e1b04c8a43";
const ARCHIVE = `apicurio-registry-app-${VERSION}-all.tar.gz`;
/** Newer ones also want the archive's parent, which the repository lacks. */
const DEPENDENCY_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:2.8";

/**
 * The folder of the program, fetched when it is not there: 109 MB.
 * @throws FreshetError `maven_missing`, `tool_failed`, `archive_differs`
 */
async function apicurioFolder(home: string, signal?: AbortSignal): Promise<string> {
  const tools = homeFolder(ROOT, ".freshet", "apicurio");
  const folder = join(tools, VERSION);
  if (existsSync(folder)) return folder;
  requireMaven();
  const fetched = mkdtempSync(join(tools, "fetching-"));
  try {
    const artifact = `io.apicurio:apicurio-registry-app:${VERSION}:tar.gz:all`;
    const args = ["--quiet", "--batch-mode", `${DEPENDENCY_PLUGIN}:copy`, `-Dartifact=${artifact}`];
    const tool = { name: "apicurio", cwd: fetched, env: mavenEnvironment() };
    await runTool(home, { ...tool, command: "mvn", args: [...args, `-DoutputDirectory=${fetched}`] }, signal);
    const archive = join(fetched, ARCHIVE);
    const found = createHash("sha256").update(readFileSync(archive)).digest("hex");
    if (found !== SHA256) {
      throw new FreshetError("archive_differs", `${ARCHIVE} is not the one that is pinned: its SHA-256 is ${found}`, {
        repair: "look at what Maven fetches from; delete it from ~/.m2 and run this again",
      });
    }
    await runTool(home, { ...tool, command: "tar", args: ["-xzf", archive, "-C", fetched] }, signal);
    rmSync(archive);
    renameSync(fetched, folder);
  } catch (error) {
    // Somebody else was faster.
    if (!existsSync(folder)) throw error;
  } finally {
    rmSync(fetched, { recursive: true, force: true });
  }
  return folder;
}

/** Of Confluent's API. */
export const registryUrl = (port: number): string => `http://${LOOPBACK}:${port}/apis/ccompat/v7`;

/** @throws FreshetError `java_missing`, `java_old`, `maven_missing`, `archive_differs`, `tool_failed` */
export async function registryProcess(home: string, port: number, signal?: AbortSignal): Promise<ProcessSpec> {
  requireJava();
  const cwd = await apicurioFolder(home, signal);
  const args = [
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-jar",
    `apicurio-registry-app-${VERSION}-runner.jar`,
  ];
  const env = { PATH: toolPath(), LC_ALL: "C.UTF-8", QUARKUS_HTTP_HOST: LOOPBACK, QUARKUS_HTTP_PORT: String(port) };
  return { name: "schema-registry", command: javaCommand(), args, cwd, env };
}

export async function registryAnswers(port: number): Promise<boolean> {
  const answer = await fetch(`${registryUrl(port)}/subjects`, { signal: AbortSignal.timeout(2_000) });
  return answer.ok;
}
