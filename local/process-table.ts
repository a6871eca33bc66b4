/** What the kernel knows of processes: `/proc` where there is one (slim Linux images have no `ps`), else `ps`. */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";

const HAS_PROC = existsSync("/proc/self/stat");
/** Ticks since boot mean nothing after another boot. */
const BOOT_ID = HAS_PROC ? readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim() : "";

interface StatFields {
  readonly state: string;
  readonly group: number;
  readonly startTicks: string;
}

function procStat(pid: number): StatFields | null {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, "utf8");
  } catch {
    return null;
  }
  // The second field is the command in parentheses and may hold anything; fields are counted from its end.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return { state: fields[0], group: Number(fields[2]), startTicks: fields[19] };
}

function ps(...args: string[]): string {
  try {
    return execFileSync("ps", args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  } catch {
    return "";
  }
}

/** When the kernel started the process; null when there is none (a zombie is none: it only waits to be collected). */
export function startToken(pid: number): string | null {
  if (HAS_PROC) {
    const stat = procStat(pid);
    return stat === null || stat.state === "Z" ? null : `${BOOT_ID}:${stat.startTicks}`;
  }
  const line = ps("-o", "stat=,lstart=", "-p", String(pid));
  return line === "" || line.startsWith("Z") ? null : line.replace(/^\S+\s+/, "");
}

/** Pids of the living processes whose command line holds the text. */
export function processesNaming(text: string): number[] {
  if (!HAS_PROC) {
    const lines = ps("-A", "-o", "pid=,command=").split("\n");
    return lines.filter((line) => line.includes(text)).map((line) => Number.parseInt(line, 10));
  }
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      try {
        // A zombie has no command line any more.
        return readFileSync(`/proc/${name}/cmdline`, "utf8").includes(text);
      } catch {
        return false;
      }
    })
    .map(Number);
}

/** Pids of the living members of a process group. */
export function groupMembers(group: number): number[] {
  if (HAS_PROC) {
    return readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
      .filter((pid) => {
        const stat = procStat(pid);
        return stat !== null && stat.group === group && stat.state !== "Z";
      });
  }
  return ps("-A", "-o", "pid=,pgid=,stat=")
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .filter(([, pgid, stat]) => Number(pgid) === group && stat !== undefined && !stat.startsWith("Z"))
    .map(([pid]) => Number(pid));
}
