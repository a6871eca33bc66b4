/** What a bulk build goes on with: the record of one that was cut off, where its store and its archive are still those. */
import { randomUUID } from "node:crypto";
import { type BuildRecord, noBuckets, restartedUntil } from "../../../adapters/control-table/build-progress.ts";
import { runsOf } from "../../../adapters/valkey/control.ts";
import { currentEpoch } from "../current-store.ts";
import type { BuildPorts, BuildRequest } from "./bulk-build.ts";

type RecordPorts = Pick<BuildPorts, "plan" | "lock" | "table" | "controls" | "progress">;

/** A build that was cut off longer ago than this begins anew: nobody knows what was imported since. */
const RESUME_MS = 24 * 3_600_000;

/**
 * The record of the build to go on with, or a new one's.
 * @param standing the newest of the stream
 * @param anew nothing of `standing` counts any more, though nobody asked for that. @default false
 */
export async function recordOf(
  ports: RecordPorts,
  request: BuildRequest,
  standing: BuildRecord | null,
  anew = false,
): Promise<BuildRecord> {
  const { plan, progress } = ports;
  const nowMs = Date.now();
  const tenant = request.tenant ?? null;
  const store = await storeOf(ports);
  const imports = await progress.imports(request.stream);
  const goesOn =
    standing !== null &&
    standing.state === "running" &&
    standing.layoutHash === plan.layoutHash &&
    standing.tenant === tenant &&
    isSameStore(standing, store) &&
    standing.imports === imports &&
    nowMs - standing.updatedMs < RESUME_MS;
  if (goesOn && !anew && !request.restart) return standing;
  const groups = plan.groups.filter(({ stream }) => stream === request.stream);
  return {
    id: randomUUID(),
    layoutHash: plan.layoutHash,
    tenant,
    startedMs: nowMs,
    updatedMs: nowMs,
    state: "running",
    done: Object.fromEntries(groups.map(({ name }) => [name, noBuckets()])),
    entities: 0,
    ...store,
    imports,
    generation: standing?.generation ?? 0,
    restarted: request.restart === true || (anew && standing?.restarted === true),
    restartedUntilMs: standing === null ? 0 : restartedUntil(standing),
    split: 0,
  };
}

type StoreName = Pick<BuildRecord, "epoch" | "runs">;

/** Which store answers: its epoch, 0 before there is one, and the processes of its primaries. */
export async function storeOf({ table, lock, controls }: RecordPorts): Promise<StoreName> {
  const [epoch, primaries] = await Promise.all([currentEpoch(table, lock), controls.primaries()]);
  return { epoch: epoch ?? 0, runs: runsOf(primaries) };
}

export const isSameStore = (a: StoreName, b: StoreName): boolean => a.epoch === b.epoch && a.runs === b.runs;
