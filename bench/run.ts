/** Runs benchmarks one after another, each in a process of its own that is bounded in time. */
import { fork } from "node:child_process";
import { join } from "node:path";
import { FreshetError } from "../core/errors.ts";
import { BENCHMARKS, type BenchmarkOptions } from "./benchmark.ts";
import { describeSurroundings } from "./machine.ts";
import type { Report, Section } from "./report.ts";

/** What a benchmark's process tells the one that started it. */
export type WorkerMessage = { readonly say: string } | { readonly section: Section } | { readonly failed: string };

/** After the end was asked for: an emulator saves its state while it ends. */
const GRACE_MS = 60_000;

/** @throws FreshetError `benchmark_unknown`, `benchmark_failed` */
export async function runBenchmarks(names: readonly string[], options: BenchmarkOptions): Promise<Report> {
  for (const name of names) {
    if (Object.hasOwn(BENCHMARKS, name)) continue;
    throw new FreshetError("benchmark_unknown", `there is no benchmark ${name}`, {
      field: "only",
      repair: `use ${Object.keys(BENCHMARKS).join(", ")}`,
    });
  }
  const surroundings = describeSurroundings();
  const sections: Section[] = [];
  for (const name of names) sections.push(await runOne(name, options));
  return { version: 1, ...surroundings, quick: options.quick, sections };
}

function runOne(name: string, { quick, brokers, signal, say }: BenchmarkOptions): Promise<Section> {
  signal.throwIfAborted();
  const child = fork(join(import.meta.dirname, "worker.ts"), [name, quick ? "quick" : "full", ...brokers], {
    // A group of its own: Ctrl-C reaches it through us, once, so that it can end what it has started.
    detached: true,
    serialization: "advanced",
  });
  let section: Section | null = null;
  let failure = "";
  const end = (why: string): void => {
    failure ||= why;
    child.kill("SIGTERM");
    setTimeout(() => child.kill("SIGKILL"), GRACE_MS).unref();
  };
  const { limitS } = BENCHMARKS[name];
  const limit = setTimeout(() => end(`it took more than ${limitS} s`), limitS * 1000);
  const abort = (): void => end("interrupted");
  signal.addEventListener("abort", abort, { once: true });
  child.on("message", (message: WorkerMessage) => {
    if ("say" in message) say(`${name}: ${message.say}`);
    else if ("section" in message) section = message.section;
    else failure ||= message.failed;
  });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, killedBy) => {
      clearTimeout(limit);
      signal.removeEventListener("abort", abort);
      if (signal.aborted) reject(signal.reason);
      else if (section !== null && failure === "") resolve(section);
      else {
        const why = failure || `its process ended with ${killedBy ?? code}`;
        reject(new FreshetError("benchmark_failed", `benchmark ${name} failed: ${why}`));
      }
    });
  });
}
