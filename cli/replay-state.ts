/** How far a replay is, so that it goes on where it was ended: one small file for each range, on the machine that runs it. */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { NOTHING_COUNTED, type ReplayCounts } from "../functions/shared/replay/archive-replay.ts";
import { freshetHome } from "../local/home.ts";

export interface ReplayState {
  readonly counts: ReplayCounts;
  /** Of the archive: arrivals before it are done. @default none are */
  readonly doneMs?: number;
  /** Those whose raw objects compaction takes away: up to where, and the last step of theirs that is done. @default none are being done */
  readonly settled?: { readonly toMs: number; readonly after: string | null };
  /** Of the rest: the last object that is done. */
  readonly after: string | null;
  /** Of the broker: by shard, the last sequence that is done. */
  readonly shards: Readonly<Record<string, string>>;
}

export const NOTHING_YET: ReplayState = {
  counts: NOTHING_COUNTED,
  after: null,
  shards: {},
};

export function addCounts(a: ReplayCounts, b: Partial<ReplayCounts>): ReplayCounts {
  const names = Object.keys(a) as (keyof ReplayCounts)[];
  return Object.fromEntries(names.map((name) => [name, a[name] + (b[name] ?? 0)])) as unknown as ReplayCounts;
}

/** @param of everything that makes it this replay and no other */
export function replayStateFile(of: Readonly<Record<string, unknown>>): {
  read(): ReplayState | null;
  write(state: ReplayState): void;
  remove(): void;
} {
  const name = createHash("sha256").update(JSON.stringify(of)).digest("hex").slice(0, 16);
  const path = join(freshetHome(), "replays", `${name}.json`);
  return {
    read() {
      try {
        return JSON.parse(readFileSync(path, "utf8")) as ReplayState;
      } catch {
        // None, or one that was never whole: from the beginning, which counts nothing twice.
        return null;
      }
    },
    write(state) {
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(`${path}.new`, JSON.stringify(state));
      renameSync(`${path}.new`, path);
    },
    remove: () => rmSync(path, { force: true }),
  };
}
