/**
 * Images are built where there is an engine. What would hurt then is tried here on the files that an image would get, and no others:
 * whether they are in the checkout, and whether the program starts with them.
 */
import { spawn } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, normalize } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, onTestFinished, test } from "vitest";
import { plan } from "../../features/plan.ts";
import { ENVIRONMENT } from "../../functions/shared/environment.ts";
import { anyFreePort } from "../../local/ports.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const read = (path: string) => readFileSync(join(ROOT, path), "utf8");

interface Image {
  readonly dockerfile: string;
  /** Folder that it is built in. */
  readonly context: string;
}
const mapping: Image = { dockerfile: "functions/mapping/Dockerfile", context: "." };
const training: Image = { dockerfile: "training/Dockerfile", context: "training" };

/** Sources within the context, each with where it goes. */
function copies({ dockerfile }: Image): { from: string; to: string }[] {
  const lines = [...read(dockerfile).matchAll(/^COPY (.+)$/gm)].map(([, words]) => words!.split(" "));
  return lines.flatMap((words) => words.slice(0, -1).map((from) => ({ from, to: words.at(-1)! })));
}

test.each([mapping, training])(
  "$dockerfile: what it copies is in the folder that it is built in, and let through",
  (image) => {
    const ignored = existsSync(join(ROOT, image.context, ".dockerignore"))
      ? read(join(image.context, ".dockerignore"))
          .split("\n")
          .filter((line) => line !== "" && !line.startsWith("#"))
      : [];
    const found = copies(image);
    expect(found.length).toBeGreaterThan(1);
    for (const { from } of found) {
      expect([from, existsSync(join(ROOT, image.context, from))]).toEqual([from, true]);
      expect(ignored).not.toContain(from.split("/")[0]);
    }
  },
);

test.each([mapping, training])(
  "$dockerfile: its base has a version, and its program gets signals itself",
  ({ dockerfile }) => {
    const text = read(dockerfile);
    const bases = [...text.matchAll(/^FROM (\S+)$/gm)].map(([, image]) => image!);
    expect(bases).toHaveLength(1);
    expect(bases[0]).toMatch(/:\d+(\.\d+)*-slim/);
    for (const [, form] of text.matchAll(/^(?:ENTRYPOINT|CMD|HEALTHCHECK .*CMD) (.+)$/gm)) {
      expect(JSON.parse(form!)).toBeInstanceOf(Array);
    }
  },
);

test("the image of the mapping has every package that its code imports", () => {
  const { dependencies } = JSON.parse(read("package.json"));
  // What these load later, by name: the function itself, its threads, and what runs them.
  const reached = new Set([
    ...["cli/freshet.ts", "cli/commands/mapping.ts", "functions/mapping/run.ts", "functions/mapping/worker.ts"],
    "functions/aggregate.ts",
  ]);
  const packages = new Set<string>();
  for (const file of reached) {
    const text = read(file);
    for (const [, type, from] of text.matchAll(/^(?:import|export)( type)? (?:[^"';]*? from )?"([^"]+)"/gm)) {
      if (type !== undefined || from!.startsWith("node:")) continue;
      if (!from!.startsWith(".")) packages.add(from!.split("/", from!.startsWith("@") ? 2 : 1).join("/"));
      else if (from!.endsWith(".ts")) reached.add(normalize(join(dirname(file), from!)));
    }
  }
  expect(reached.size).toBeGreaterThan(60);
  expect([...packages].filter((name) => !(name in dependencies))).toEqual([]);
  const copied = copies(mapping).map(({ from }) => from);
  const left = [...reached].filter((file) => !copied.some((from) => file === from || file.startsWith(`${from}/`)));
  expect(left).toEqual([]);
});

test("the mapping starts from what its image would hold, and tells of itself while Kafka is away", async () => {
  const folder = mkdtempSync(join(tmpdir(), "freshet-image-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  for (const { from, to } of copies(mapping)) {
    const target = to.endsWith("/") ? join(folder, to, from.split("/").at(-1)!) : join(folder, to);
    mkdirSync(dirname(target), { recursive: true });
    cpSync(join(ROOT, from), target, { recursive: true });
  }
  symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
  const port = await anyFreePort();
  const entry = JSON.parse(/^ENTRYPOINT (.+)$/m.exec(read(mapping.dockerfile))![1]!) as string[];
  const args = [...entry.slice(1), "--host", "127.0.0.1", "--port", String(port)];
  const { valkeyHost, valkeyPort, bootstrapServers, broker, streams, ...names } = ENVIRONMENT;
  const { archiveBucket, controlTable, lateTable, quarantineBucket, quarantineTable } = names;
  const stores = [archiveBucket, controlTable, lateTable, quarantineBucket, quarantineTable].map((name) => [name, "x"]);
  const child = spawn(process.execPath, args, {
    cwd: folder,
    env: {
      ...{ PATH: process.env["PATH"], AWS_REGION: "us-east-1", ...Object.fromEntries(stores) },
      // Nobody listens there.
      ...{ [valkeyHost]: "127.0.0.1", [valkeyPort]: "1", [broker]: "kafka", [bootstrapServers]: "127.0.0.1:1" },
      [streams]: JSON.stringify(Object.fromEntries(plan.streams.map(({ name }) => [name, `freshet-${name}`]))),
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  let said = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (said += text));
  const deadline = Date.now() + 120_000;
  for (;;) {
    const answer = await fetch(`http://127.0.0.1:${port}/health`).catch(() => null);
    if (answer !== null) {
      expect(answer.status).toBe(503);
      return;
    }
    if (child.exitCode !== null || Date.now() > deadline) throw new Error(`it did not start: ${said}`);
    await sleep(100);
  }
}, 180_000);
