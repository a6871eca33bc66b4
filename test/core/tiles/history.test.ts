import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { hash64 } from "../../../adapters/hash.ts";
import { compileGroups } from "../../../core/event.ts";
import type { Group, Plan, Scalar } from "../../../core/plan.ts";
import { type History, HistoryReader } from "../../../core/tiles/history.ts";
import { EntityTiles, withStatus } from "../../../core/tiles/tiles.ts";
import { floorTo } from "../../../core/tiles/window.ts";
import { GROUP_PLANS } from "../../support/group-plans.ts";
import { instants, PAST_START, type PastEvent, past } from "../../support/past.ts";
import { runs } from "../../support/runs.ts";
import { naive } from "../naive.ts";

const hash32 = (text: string) => Number.parseInt(hash64(text).slice(0, 8), 16);
const readerOf = (plan: Plan) => compileGroups(plan, "payments", hash64)[0];

function historyOf(
  group: Group,
  channels: ReturnType<typeof readerOf>["channels"],
  events: readonly PastEvent[],
): History {
  const sorted = [...events].sort((a, b) => a.timeMs - b.timeMs || (a.identity < b.identity ? -1 : 1));
  return {
    length: sorted.length,
    timesMs: sorted.map(({ timeMs }) => timeMs),
    visibleMs: sorted.map(({ visibleMs }) => visibleMs),
    channels: group.channels.map((_, i) =>
      sorted.map(({ fields }): Scalar => {
        const contribution = channels[i](fields);
        return contribution === null ? null : (contribution.value ?? 1);
      }),
    ),
  };
}

describe("a past read at many instants", () => {
  it.each(Object.entries(GROUP_PLANS))(
    "equals online tiles and the naive aggregate at equal visibility: %s",
    (_, plan) => {
      const { group, channels } = readerOf(plan);
      const [view] = plan.views;
      const reader = new HistoryReader(
        group,
        view.features.map((feature) => ({ view, feature })),
        hash64,
      );
      fc.assert(
        fc.property(past, instants, (events, times) => {
          reader.begin(historyOf(group, channels, events));
          const tiles = new EntityTiles(group, floorTo(PAST_START - 5 * 86_400_000, group.baseMs));
          const arriving = [...events].sort((a, b) => a.visibleMs - b.visibleMs);
          let next = 0;
          for (const t of times) {
            for (; next < arriving.length && arriving[next].visibleMs <= t; next++) {
              const { identity, timeMs, visibleMs, fields } = arriving[next];
              const contributions = channels.map((channel) => channel(fields));
              tiles.apply({ identity, timeMs, contributions }, 0, visibleMs);
            }
            // As far as nothing is still to come: what is sealed never becomes visible.
            const open = Math.min(t, ...arriving.slice(next).map(({ timeMs }) => timeMs));
            tiles.fold(floorTo(open, group.baseMs));
            const seen = events.filter(({ visibleMs }) => visibleMs <= t);
            const headEndMs = floorTo(t, group.baseMs) + group.baseMs;
            const inTime = seen.filter(({ timeMs }) => timeMs < headEndMs).map(({ timeMs }) => timeMs);
            const newest = inTime.length === 0 ? null : Math.max(...inTime);
            const answers = reader.read(t);
            view.features.forEach((feature, i) => {
              const { name } = feature;
              const expected = withStatus(view, naive(group, feature, seen, t, hash32), newest, t, true);
              expect({ name, ...answers[i] }).toEqual({ name, ...expected });
              expect({ name, ...answers[i] }).toEqual({ name, ...tiles.read(view, feature, t) });
            });
          }
        }),
        { numRuns: runs(60) },
      );
    },
  );
});
