/** Does the replays and drops that tenants' administrators have asked for, one after another. */
import type { QuarantineJob, QuarantineJobs } from "../../../adapters/quarantine/quarantine-jobs.ts";
import { changeQuarantine, type QuarantineChangePorts, type QuarantineChangeReport } from "./quarantine-change.ts";

/**
 * A job that is cut off goes on in a later run, where it was: what was done is marked. One that fails waits for that, too.
 * @returns jobs that were ended
 */
export async function runQuarantineJobs(
  ports: QuarantineChangePorts & {
    readonly jobs: Pick<QuarantineJobs, "open" | "claim" | "put">;
    readonly onFailure: (id: string, error: unknown) => void;
  },
  isOutOfTime: () => boolean,
): Promise<QuarantineJob[]> {
  const { jobs, clock } = ports;
  const ended: QuarantineJob[] = [];
  const waiting = (await jobs.open()).sort((a, b) => a.createdMs - b.createdMs);
  for (const job of waiting) {
    if (isOutOfTime()) break;
    const own = await jobs.claim(job, clock());
    if (own === null) continue;
    const change = { kind: own.kind, filter: own.filter, ids: own.ids, beganMs: own.createdMs };
    const told = async (report: QuarantineChangeReport, state: QuarantineJob["state"]): Promise<QuarantineJob> => {
      const { state: _, ...now } = report;
      // What runs before this one have done counts, too.
      const names = Object.keys(own.counts) as (keyof typeof own.counts)[];
      const counts = Object.fromEntries(names.map((name) => [name, own.counts[name] + now[name]])) as typeof own.counts;
      const changed = { ...own, state, counts, updatedMs: clock() };
      await jobs.put(changed);
      return changed;
    };
    try {
      const report = await changeQuarantine(ports, change, isOutOfTime, async (so) => void (await told(so, "running")));
      const changed = await told(report, report.state === "done" ? "done" : "queued");
      if (changed.state === "done") ended.push(changed);
    } catch (error) {
      ports.onFailure(own.id, error);
    }
  }
  return ended;
}
