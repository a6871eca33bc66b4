import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hash64 } from "../../../adapters/hash.ts";
import { DuckSession } from "../../../adapters/offline/duckdb.ts";
import { featureAt, joinPointInTime } from "../../../adapters/offline/point-in-time.ts";
import type { Plan } from "../../../core/plan.ts";
import { withStatus } from "../../../core/tiles/tiles.ts";
import { floorTo } from "../../../core/tiles/window.ts";
import { naive } from "../../core/naive.ts";
import { fixtureContract } from "../../support/fixture-plan.ts";
import { GROUP_PLANS } from "../../support/group-plans.ts";
import { entityEventsTable, spineTable } from "../../support/offline-tables.ts";
import { instants, type PastEvent, past } from "../../support/past.ts";
import { runs } from "../../support/runs.ts";

const hash32 = (text: string) => Number.parseInt(hash64(text).slice(0, 8), 16);
const folder = mkdtempSync(join(tmpdir(), "freshet-pit-"));
let session: DuckSession;
beforeAll(async () => {
  session = await DuckSession.open({ folder });
});
afterAll(() => {
  session.close();
  rmSync(folder, { recursive: true });
});

/** What the reader at t must answer about an entity, from the definition. */
function expected(plan: Plan, viewIndex: number, events: readonly PastEvent[], t: number) {
  const view = plan.views[viewIndex];
  const group = plan.groups[view.group];
  const seen = events.filter(({ visibleMs }) => visibleMs <= t);
  const headEndMs = floorTo(t, group.baseMs) + group.baseMs;
  const inTime = seen.map(({ timeMs }) => timeMs).filter((timeMs) => timeMs < headEndMs);
  const newest = inTime.length === 0 ? null : Math.max(...inTime);
  return view.features.map((feature) => withStatus(view, naive(group, feature, seen, t, hash32), newest, t, true));
}

describe("the point-in-time join", () => {
  it.each(Object.entries(GROUP_PLANS))(
    "equals the naive aggregate at equal visibility, for every entity: %s",
    async (_, plan) => {
      const fields = fixtureContract.fields;
      await fc.assert(
        fc.asyncProperty(past, past, instants, async (first, second, times) => {
          const histories: Record<string, readonly PastEvent[]> = { c1: first, "c'2": second, unknown: [] };
          const rows = times.flatMap((t) =>
            [...Object.keys(histories), null].map((card) => ({ t, keys: { card, shop: null } })),
          );
          await session.run(entityEventsTable("events_card", fields, histories));
          await session.run(spineTable("spine", rows));
          const view = plan.views.findIndex(({ entity }) => entity === "card");
          const features = plan.views[view].features.map(({ name }) => name);
          const columns = await joinPointInTime(session, {
            plan,
            features,
            spine: { relation: "spine", rows: rows.length, fromMs: times[0], toMs: times[times.length - 1] },
            events: () => "events_card",
          });
          rows.forEach(({ t, keys: { card } }, row) => {
            const wanted = expected(plan, view, card === null ? [] : histories[card], t);
            features.forEach((name, f) => {
              expect({ name, t, card, ...featureAt(columns[f], row) }).toEqual({ name, t, card, ...wanted[f] });
            });
          });
        }),
        { numRuns: runs(25) },
      );
    },
  );
});
