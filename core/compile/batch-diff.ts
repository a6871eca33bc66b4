/** What a change of batch views does to stored values: words of `freshet plan`, beside those of plan-diff.ts. */
import { formatDuration } from "../duration.ts";
import type { BatchView } from "../plan.ts";
import type { Change } from "./plan-diff.ts";

export const describeSchedule = ({ everyMs }: BatchView): string => `SQL every ${formatDuration(everyMs)}`;

export function diffBatchViews(before: readonly BatchView[], after: readonly BatchView[]): Change[] {
  const changes: Change[] = [];
  for (const view of after) {
    const was = before.find(({ name }) => name === view.name);
    for (const { name, dtype, id } of view.features) {
      const known = was?.features.find((feature) => feature.name === name);
      if (known?.id === id) continue;
      const effect = "NOT_FOUND until the next run, or `freshet materialize`, gives it values";
      if (known === undefined)
        changes.push({ kind: "add", what: name, effect: `${describeSchedule(view)}; ${effect}` });
      else changes.push({ kind: "change", what: name, effect: `was ${known.dtype}, becomes ${dtype}; ${effect}` });
    }
    if (was === undefined) continue;
    if (was.sql !== view.sql || was.lookbackMs !== view.lookbackMs) {
      const effect = `another query; values of earlier runs stay until newer ones replace them: \`freshet materialize --view ${view.name}\``;
      changes.push({ kind: "change", what: view.name, effect });
    }
    if (was.everyMs !== view.everyMs) {
      const effect = `was ${describeSchedule(was)}, becomes ${describeSchedule(view)}`;
      changes.push({ kind: "change", what: view.name, effect });
    }
    if (was.ttlMs !== view.ttlMs) {
      const effect = `ttl ${formatDuration(was.ttlMs)} becomes ${formatDuration(view.ttlMs)}; applies to the next read`;
      changes.push({ kind: "change", what: view.name, effect });
    }
  }
  for (const view of before) {
    const is = after.find(({ name }) => name === view.name);
    for (const { name } of view.features) {
      if (is?.features.some((feature) => feature.name === name)) continue;
      changes.push({ kind: "remove", what: name, effect: `${describeSchedule(view)} is no longer served` });
    }
  }
  return changes;
}
