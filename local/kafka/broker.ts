/** One Kafka node on loopback, its own controller, with its data under the home. */
import { randomBytes } from "node:crypto";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { toolPath } from "../emulator.ts";
import { homeFolder } from "../home.ts";
import { LOOPBACK } from "../ports.ts";
import type { ProcessSpec } from "../processes.ts";
import { runTool } from "../tool.ts";
import { kafkaJars } from "./jars.ts";
import { javaCommand, requireJava } from "./java.ts";

export interface KafkaPorts {
  readonly kafka: number;
  readonly kafkaController: number;
}

export const bootstrapOf = (port: number): string => `${LOOPBACK}:${port}`;

/** As a cluster is set up for Freshet, but for its single copy of everything. */
export function serverProperties({ kafka, kafkaController }: KafkaPorts, data: string): string {
  return [
    "process.roles=broker,controller",
    "node.id=1",
    `controller.quorum.voters=1@${bootstrapOf(kafkaController)}`,
    `listeners=PLAINTEXT://${bootstrapOf(kafka)},CONTROLLER://${bootstrapOf(kafkaController)}`,
    `advertised.listeners=PLAINTEXT://${bootstrapOf(kafka)}`,
    "controller.listener.names=CONTROLLER",
    "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    `log.dirs=${data}`,
    // A misspelt topic is an error, not a topic; arrival is the broker's word, not the producer's.
    "auto.create.topics.enable=false",
    "log.message.timestamp.type=LogAppendTime",
    "offsets.topic.replication.factor=1",
    "offsets.topic.num.partitions=1",
    "transaction.state.log.replication.factor=1",
    "transaction.state.log.min.isr=1",
    "transaction.state.log.num.partitions=1",
    "share.coordinator.state.topic.replication.factor=1",
    "share.coordinator.state.topic.min.isr=1",
    "group.initial.rebalance.delay.ms=0",
    // Half the heap by default, for compaction that nothing here asks for.
    "log.cleaner.dedupe.buffer.size=4194304",
    "",
  ].join("\n");
}

/**
 * Fetches the jars and makes the data folder, each once, and answers how to start the node.
 * @throws FreshetError `java_missing`, `java_old`, `maven_missing`, `jars_differ`, `tool_failed`
 */
export async function kafkaProcess(home: string, ports: KafkaPorts, signal?: AbortSignal): Promise<ProcessSpec> {
  requireJava();
  const jars = await kafkaJars(home, signal);
  const folder = homeFolder(home, "kafka");
  const data = join(folder, "data");
  const properties = join(folder, "server.properties");
  writeFileSync(properties, serverProperties(ports, data));
  const env = { PATH: toolPath(), LC_ALL: "C.UTF-8" };
  const java = (heap: string, main: string, ...args: string[]): string[] => [
    ...["-Xms64m", `-Xmx${heap}`, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"],
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    ...["-cp", join(jars, "*"), main, ...args],
  ];
  if (!existsSync(join(data, "meta.properties"))) {
    const args = java("128m", "kafka.tools.StorageTool", "format", "-t", newClusterId(), "-c", properties);
    await runTool(home, { name: "kafka-format", command: javaCommand(), args, cwd: folder, env }, signal);
  }
  const args = java("256m", "kafka.Kafka", properties);
  return { name: "kafka", command: javaCommand(), args, cwd: folder, env };
}

/** Sixteen bytes, which may not look like an option of the formatter. */
const newClusterId = (): string => randomBytes(16).toString("base64url").replace(/^-/, "A");
