/** How long the archive has to keep events. */
import { DefinitionError } from "./errors.ts";
import type { Plan } from "./plan.ts";

const DAY_MS = 86_400_000;
/** What all pushed values are called where the archive's upkeep speaks of streams. No stream is called so. */
export const PUSHED_VALUES = "_values";

/**
 * Tiles are rebuilt from the archive: repair and builds need every event that a window may still hold, and as much later as
 * events may come. A lifetime window asks for nothing here: what is past is in its tile.
 * @param retentionDays null for ever
 * @param stage whose archive it is
 * @throws DefinitionError `retention_too_short`
 */
export function requireRetention(plan: Plan, retentionDays: number | null, stage: string): void {
  if (retentionDays === null) return;
  for (const view of plan.views) {
    const lateness = plan.streams.find(({ name }) => name === view.stream)!.allowedLatenessMs;
    const needed = Math.ceil(((view.reachMs ?? 0) + lateness) / DAY_MS);
    if (needed <= retentionDays) continue;
    throw new DefinitionError(
      "retention_too_short",
      `view ${view.name} reaches ${needed} days back, with its stream's lateness, and the archive of stage ${stage} keeps ${retentionDays}`,
      {
        field: view.name,
        repair: `set archive.retentionDays to ${needed} or more in lib/stage.ts, or shorten the window`,
      },
    );
  }
}
