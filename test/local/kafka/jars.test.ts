import { createHash } from "node:crypto";
import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { ROOT } from "../../../local/home.ts";
import { serverProperties } from "../../../local/kafka/broker.ts";
import { readLock, requireLocked } from "../../../local/kafka/jars.ts";
import { javaCommand, requireJava, requireMaven } from "../../../local/kafka/java.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";

describe("the lock of the broker's jars", () => {
  const text = readFileSync(join(ROOT, "local", "kafka", "jars.sha256"), "utf8");

  it("names the version that the pom asks for, and a logger", () => {
    const names = [...readLock(text).keys()];
    const pom = readFileSync(join(ROOT, "local", "kafka", "pom.xml"), "utf8");
    const [version] = /(?<=<artifactId>kafka_2\.13<\/artifactId>\s*<version>)[^<]+/.exec(pom)!;
    expect(names).toContain(`kafka_2.13-${version}.jar`);
    expect(names.filter((name) => name.startsWith("slf4j-simple"))).toHaveLength(1);
    expect([...readLock(text).values()].filter((hash) => !/^[0-9a-f]{64}$/.test(hash))).toEqual([]);
  });

  const sha256 = (bytes: string): string => createHash("sha256").update(bytes).digest("hex");
  const lock = new Map([
    ["a.jar", sha256("a")],
    ["b.jar", sha256("b")],
  ]);
  let folder: string;
  beforeEach(() => {
    folder = temporaryFolder();
    for (const name of ["a", "b"]) writeFileSync(join(folder, `${name}.jar`), name);
  });

  it("is kept by exactly its files", () => {
    requireLocked(folder, lock);
  });

  it.each([
    ["one is missing", () => {}, new Map([...lock, ["c.jar", sha256("c")]]), "c.jar"],
    ["one is more", (at: string) => writeFileSync(join(at, "d.jar"), "d"), lock, "d.jar"],
    ["one has other bytes", (at: string) => writeFileSync(join(at, "b.jar"), "x"), lock, "b.jar"],
  ])("is not kept where %s", (_, change, of, name) => {
    change(folder);
    expect(() => requireLocked(folder, of)).toThrow(
      `what Maven fetched is not what local/kafka/jars.sha256 names: ${name}`,
    );
  });
});

describe("Java", () => {
  const program = (output: string): string => {
    const file = join(temporaryFolder(), "java");
    writeFileSync(file, `#!/bin/sh\necho '${output}' >&2\n`);
    chmodSync(file, 0o755);
    return file;
  };

  it.each(['openjdk version "17.0.15" 2025-04-15', 'java version "21" 2023-09-19', 'openjdk version "25.0.1"'])(
    "that is new enough is taken: %s",
    (output) => requireJava(program(output)),
  );

  it.each([
    ['openjdk version "1.8.0_292"', "is Java 8"],
    ['openjdk version "11.0.2" 2019-01-15', "is Java 11"],
    ["some other program", "is of no known version"],
  ])("that is not is refused: %s", (output, what) => {
    expect(() => requireJava(program(output))).toThrow(what);
  });

  it("that is not there is asked for, with where to get it", () => {
    const missing = join(temporaryFolder(), "java");
    const refusal = (() => {
      try {
        requireJava(missing);
      } catch (error) {
        return error;
      }
    })();
    expect(refusal).toMatchObject({ code: "java_missing", repair: expect.stringContaining("JAVA_HOME") });
    expect(() => requireMaven(missing)).toThrow("Kafka's jars come by Maven");
  });

  it("is JAVA_HOME's, where that is set", () => {
    expect(javaCommand({ JAVA_HOME: "/opt/jdk" })).toBe("/opt/jdk/bin/java");
    expect(javaCommand({ JAVA_HOME: "" })).toBe("java");
  });
});

it("the node makes no topics by itself, gives arrivals itself and listens on loopback alone", () => {
  const lines = serverProperties({ kafka: 1, kafkaController: 2 }, "/data").split("\n");
  expect(lines).toContain("auto.create.topics.enable=false");
  expect(lines).toContain("log.message.timestamp.type=LogAppendTime");
  const listeners = lines.find((line) => line.startsWith("listeners="))!;
  expect(listeners).toBe("listeners=PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2");
});
