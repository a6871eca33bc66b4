/** Java and Maven of the machine, which only Kafka on a laptop needs. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { FreshetError } from "../../core/errors.ts";

const OLDEST_JAVA = 17;

/** `JAVA_HOME` names one that is not the first in PATH. */
export function javaCommand(environment: NodeJS.ProcessEnv = process.env): string {
  const { JAVA_HOME } = environment;
  return JAVA_HOME === undefined || JAVA_HOME === "" ? "java" : join(JAVA_HOME, "bin", "java");
}

/** @throws FreshetError `java_missing`, `java_old` */
export function requireJava(command: string = javaCommand()): void {
  const { status, stdout, stderr } = spawnSync(command, ["-version"], { encoding: "utf8" });
  const repair = `install a JDK ${OLDEST_JAVA} or newer (Debian: openjdk-17-jre-headless), or point JAVA_HOME at one`;
  if (status !== 0) {
    throw new FreshetError("java_missing", `Kafka needs Java ${OLDEST_JAVA} or newer, and ${command} does not run`, {
      repair,
    });
  }
  const version = /version "(?:1\.)?(\d+)/.exec(`${stdout}${stderr}`)?.[1];
  if (version !== undefined && Number(version) >= OLDEST_JAVA) return;
  throw new FreshetError(
    "java_old",
    `Kafka needs Java ${OLDEST_JAVA} or newer, and ${command} is ${version === undefined ? "of no known version" : `Java ${version}`}`,
    { repair },
  );
}

/** @throws FreshetError `maven_missing` */
export function requireMaven(command = "mvn"): void {
  if (spawnSync(command, ["--version"]).status === 0) return;
  throw new FreshetError("maven_missing", `Kafka's jars come by Maven, and ${command} does not run`, {
    repair: "install Maven (Debian: maven); it is needed once",
  });
}
