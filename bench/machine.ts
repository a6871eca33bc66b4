/** Where and on what a result was made: a number without this says nothing. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { availableParallelism, cpus, hostname, loadavg, totalmem } from "node:os";
import { join } from "node:path";
import { ROOT, valkeyBinary } from "../local/home.ts";

export interface Surroundings {
  readonly machine: {
    readonly name: string;
    readonly cpu: string;
    readonly cores: number;
    readonly memoryGiB: number;
    readonly system: string;
    /** Of the minute before: above the number of cores, others were measured too. */
    readonly loadBefore: number;
  };
  readonly commit: string;
  /** True when tracked files differ from the commit. */
  readonly modified: boolean;
  readonly versions: Readonly<Record<string, string>>;
  readonly date: string;
}

export function describeSurroundings(): Surroundings {
  const cores = availableParallelism();
  const memoryGiB = Math.round(totalmem() / 2 ** 30);
  const cpu = cpus()[0]?.model.trim() || process.arch;
  return {
    machine: {
      name: machineName(cpu, cores, memoryGiB),
      cpu,
      cores,
      memoryGiB,
      system: `${process.platform} ${process.arch}`,
      loadBefore: Math.round(loadavg()[0] * 10) / 10,
    },
    commit: git("rev-parse", "--short=10", "HEAD") ?? "no-commit",
    modified: (git("status", "--porcelain", "--untracked-files=no") ?? "") !== "",
    versions: { node: process.versions.node, v8: process.versions.v8, ...toolVersions() },
    date: new Date().toISOString(),
  };
}

/** The same machine gives the same name on every run; the host's own name may be a person's or a container's. */
function machineName(cpu: string, cores: number, memoryGiB: number): string {
  const chosen = process.env["FRESHET_BENCH_MACHINE"];
  const name = chosen === undefined || chosen === "" ? `${cpu}-${cores}c-${memoryGiB}g` : chosen;
  return (
    name
      .toLowerCase()
      .replace(/\(r\)|\(tm\)| cpu|@.*ghz/g, "")
      .replace(/[^a-z0-9]+/g, "-") || hostname()
  );
}

function git(...args: string[]): string | null {
  try {
    return execFileSync("git", args, { cwd: ROOT, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  } catch {
    return null;
  }
}

function toolVersions(): Record<string, string> {
  const versions: Record<string, string> = {};
  try {
    const banner = execFileSync(valkeyBinary(), ["--version"], { encoding: "utf8" });
    versions["valkey"] = /v=([\d.]+)/.exec(banner)?.[1] ?? banner.trim();
  } catch {
    versions["valkey"] = "not installed";
  }
  const requirements = readFileSync(join(ROOT, "local", "requirements.txt"), "utf8");
  const emulator = /^ministack(?:\[[^\]]*\])?==([^\s;\\]+)/m.exec(requirements)?.[1];
  if (emulator !== undefined) versions["ministack"] = emulator;
  return versions;
}
