/**
 * The learning half of the demo: simulated weeks into the archive and the online store, a training set, a model, its
 * promotion. Each step is the command that a user would type, shown before it runs.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join, relative } from "node:path";
import { styleText } from "node:util";
import { s3Client } from "../adapters/s3/client.ts";
import { FreshetError } from "../core/errors.ts";
import { DEMO_WAVE, DEMO_WORLD } from "../local/demo-events.ts";
import { homeFolder, ROOT } from "../local/home.ts";
import { type DemoHistory, demoHistory, type History, noteHistory } from "./demo-history.ts";
import type { OperatedDeployment } from "./deployment.ts";

const DAY_MS = 86_400_000;
/** Honest payments are settled, and so labelled, after a week; of younger ones only the frauds have labels. */
const SETTLED_DAYS = 8;

/** The weeks of this deployment: those that a demo has brought or begun to bring, else those that end at the seal. */
export async function historyOf(deployment: OperatedDeployment, sealMs: number): Promise<DemoHistory> {
  const s3 = s3Client(deployment.clientConfig);
  try {
    return await demoHistory({ s3, bucket: deployment.archiveBucket }, sealMs);
  } finally {
    s3.destroy();
  }
}

/** Imports the weeks, the last hour with a wave of fraud, and puts them into the online store. To do it again changes nothing. */
export async function bringHistory(
  home: string,
  deployment: OperatedDeployment,
  { fromMs, toMs }: History,
  signal: AbortSignal,
): Promise<void> {
  const s3 = s3Client(deployment.clientConfig);
  const place = { s3, bucket: deployment.archiveBucket };
  try {
    await noteHistory(place, { fromMs, toMs, isThere: false });
    const folder = homeFolder(home, "demo");
    const [file, wave] = ["weeks.ndjson", "wave.ndjson"].map((name) => join(folder, name));
    const [from, waveFrom, to] = [fromMs, toMs - DEMO_WAVE.importedMs, toMs].map((ms) => new Date(ms).toISOString());
    const { seed, customers, transactionsPerSecond } = DEMO_WORLD;
    const world = ["--seed", String(seed), "--customers", String(customers), "--rate", String(transactionsPerSecond)];
    const files = ["--out", shown(file), "--truth", shown(join(folder, "truth.ndjson"))];
    const both = ["--streams", "transactions,labels"];
    await type(["generate", ...both, "--from", from, "--to", waveFrom, ...world, ...files], signal);
    const fraud = ["--fraud", String(DEMO_WAVE.fraudRate), "--out", shown(wave)];
    await type(["generate", "--streams", "transactions", "--from", waveFrom, "--to", to, ...world, ...fraud], signal);
    for (const stream of ["transactions", "labels"]) await type(["import", shown(file), "--stream", stream], signal);
    await type(["import", shown(wave), "--stream", "transactions"], signal);
    await type(["backfill", "--stream", "transactions"], signal);
    await noteHistory(place, { fromMs, toMs, isThere: true });
  } finally {
    s3.destroy();
  }
}

/**
 * Trains on the weeks whose payments are settled, and promotes the model if the gate lets it pass: another demo's model need
 * not be better than the first's.
 * @returns the champion's name, as answers carry it
 */
export async function learn({ fromMs, toMs }: History, signal: AbortSignal): Promise<string> {
  const [from, to] = [fromMs, toMs - SETTLED_DAYS * DAY_MS].map((ms) => new Date(ms).toISOString());
  await type(["train", "--service", "fraud", "--from", from, "--to", to], signal);
  const [newest] = await versions(signal);
  const code = await type(["models", "promote", String(newest.version), "--service", "fraud"], signal, true);
  if (code !== 0) process.stdout.write("  the champion stays\n");
  const champion = (await versions(signal)).find(({ aliases }) => aliases.includes("champion"));
  if (champion !== undefined) return `${champion.model}@${champion.version}`;
  throw new FreshetError("demo_step_failed", "no model is champion", { repair: "run `freshet models list`" });
}

/** As short as it can be typed. */
function shown(file: string): string {
  const path = relative(process.cwd(), file);
  return path.startsWith("..") ? file : path;
}

/**
 * Runs a command of `freshet` in a process of its own, as a user would.
 * @param mayFail returns the exit code instead of throwing
 * @throws FreshetError `demo_step_failed`
 */
async function type(args: readonly string[], signal: AbortSignal, mayFail = false): Promise<number> {
  process.stdout.write(`\n${styleText("bold", `$ freshet ${args.join(" ")}`)}\n`);
  const code = await exitCode(start(args, "inherit", signal), signal);
  if (code === 0 || mayFail) return code;
  throw new FreshetError("demo_step_failed", `\`freshet ${args[0]}\` ended with exit code ${code}`, {
    repair: "its own words above say why; run `make demo` again when it is repaired",
  });
}

interface Version {
  readonly version: number;
  readonly model: string;
  readonly aliases: readonly string[];
}

/** Newest first. */
async function versions(signal: AbortSignal): Promise<Version[]> {
  const child = start(["models", "list", "--service", "fraud", "--json"], "pipe", signal);
  let text = "";
  child.stdout?.setEncoding("utf8").on("data", (chunk: string) => {
    text += chunk;
  });
  await exitCode(child, signal);
  return JSON.parse(text);
}

const start = (args: readonly string[], stdout: "inherit" | "pipe", signal: AbortSignal) =>
  spawn(process.execPath, [join(ROOT, "cli", "freshet.ts"), ...args], { stdio: ["ignore", stdout, "inherit"], signal });

async function exitCode(child: ReturnType<typeof spawn>, signal: AbortSignal): Promise<number> {
  const [code] = await once(child, "close");
  signal.throwIfAborted();
  return code ?? 1;
}
