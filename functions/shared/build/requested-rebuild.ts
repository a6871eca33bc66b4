/** Rebuilds that the table of jobs tells of. The function of batch views does them: of a table's changes, two functions may be woken. */
import type { RebuildRequests } from "../../../adapters/jobs/rebuild-requests.ts";
import { describeError, logger } from "../observability.ts";
import { type EntityOf, rebuildEntity } from "./entity-build.ts";
import { runRebuildRequest } from "./rebuild-request.ts";

/** A failure is the request's state; it is not tried again. */
export async function doRequestedRebuild(
  ports: Parameters<typeof rebuildEntity>[0] & { readonly requests: RebuildRequests },
  of: { readonly tenant: string; readonly id: string },
  deadlineMs: number,
): Promise<void> {
  const rebuild = async (entity: EntityOf, streams?: readonly string[]) => {
    const reports = await rebuildEntity(ports, entity, streams);
    logger.info("rebuilt", { tenant: entity.tenant, entity: entity.entity, reports });
    return reports;
  };
  try {
    await runRebuildRequest({ requests: ports.requests, rebuild, clock: Date.now }, of, deadlineMs);
  } catch (error) {
    logger.error("rebuild failed", { ...of, ...describeError(error) });
  }
}
