/** Drives the function that writes snapshots back: chooses a round, calls until all of it is loaded, tells how far it is. */
import { setTimeout as sleep } from "node:timers/promises";
import { FreshetError } from "../core/errors.ts";
import type { RestoreEvent } from "../functions/restore.ts";
import type { RestoreReport, RestoreRequest } from "../functions/shared/snapshot/restore-snapshot.ts";
import type { RoundSummary } from "../functions/shared/snapshot/rounds.ts";
import type { OperatedDeployment } from "./deployment.ts";
import type { Functions } from "./invoke.ts";

/** Of one call: after it the progress is told. */
const BUDGET_MS = 5_000;
const WAIT_MS = 2_000;
/** Rounds that are looked at for one that can be read. */
const NEWEST = 200;

export async function listRounds(
  functions: Functions,
  { restoreFunction }: OperatedDeployment,
  newest = NEWEST,
): Promise<readonly RoundSummary[]> {
  const event: RestoreEvent = { kind: "rounds", newest };
  return functions.invoke<readonly RoundSummary[]>(restoreFunction, event);
}

/**
 * @param snapshot a round's name, or `latest`: the newest that can be read
 * @returns null when there is none at all
 * @throws FreshetError `snapshot_missing` for a name that is none of them
 */
export function chooseRound(rounds: readonly RoundSummary[], snapshot: string): RoundSummary | null {
  const whole = rounds.filter(({ damage }) => damage === null);
  if (snapshot === "latest") return whole[0] ?? null;
  const found = whole.find(({ round }) => round === snapshot);
  if (found !== undefined) return found;
  throw new FreshetError("snapshot_missing", `there is no snapshot ${snapshot} that can be read`, {
    field: "snapshot",
    repair: "take one that `freshet restore --list` names, or `latest`",
  });
}

/**
 * Loads a snapshot: buckets are open for replays then.
 * @returns null when it was to go on with one, and there is none; `opened` when the store is open again and it isn't finished
 */
export async function loadSnapshot(
  functions: Functions,
  { restoreFunction }: OperatedDeployment,
  request: RestoreRequest,
  progress: (message: string) => void,
): Promise<RestoreReport | null> {
  let from: { readonly atMs: number; readonly done: number } | null = null;
  for (let first = true; ; first = false) {
    // What was begun by the first call is gone on with by the others.
    const restart = first ? request.restart : undefined;
    const event: RestoreEvent = { kind: "restore", budgetMs: BUDGET_MS, ...request, restart };
    const report = await functions.invoke<RestoreReport>(restoreFunction, event);
    if (report.state === "none") return null;
    if (report.state === "opened") return report;
    const { bucketsDone, buckets, records } = report;
    from ??= { atMs: Date.now(), done: bucketsDone };
    if (report.state === "waiting") progress("another restore is at it: waiting for it");
    else progress(`${report.snapshot}: ${bucketsDone} of ${buckets} buckets, ${records} hashes${leftOf(report, from)}`);
    if (report.state === "loaded") return report;
    if (report.state === "waiting") await sleep(WAIT_MS);
  }
}

/** Buckets are about equally large. */
function leftOf(
  { bucketsDone, buckets }: RestoreReport,
  from: { readonly atMs: number; readonly done: number },
): string {
  const speed = (bucketsDone - from.done) / (Date.now() - from.atMs);
  if (bucketsDone === buckets || !(speed > 0)) return "";
  return `, about ${Math.ceil((buckets - bucketsDone) / speed / 1_000)} s left`;
}
