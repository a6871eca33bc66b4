/** A chunk of entities, folded whole or in slices of time, against the join over all of them at once. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fieldsOfChannels } from "../../../adapters/offline/channels.ts";
import { foldChunk, readFeatures } from "../../../adapters/offline/chunk-features.ts";
import { groupsOf, joinPointInTime } from "../../../adapters/offline/point-in-time.ts";
import { duckFiles } from "../../support/duck-files.ts";
import { everything, fixtureContract } from "../../support/fixture-plan.ts";
import { viewPlan } from "../../support/group-plans.ts";
import { entityEventsTable, spineTable } from "../../support/offline-tables.ts";
import { instants, type PastEvent, past } from "../../support/past.ts";

const duck = duckFiles();
/** Without lifetimes, whose events are in sight of every row. */
const hopping = Object.fromEntries(
  Object.entries(everything.features).filter(([, { windows }]) => !JSON.stringify(windows).includes("lifetime")),
);
const plan = viewPlan(hopping as never);
const names = plan.views[0]!.features.map(({ name }) => name);
const [[group, members]] = groupsOf(plan, names);
const fields = fieldsOfChannels(group.channels);

async function prepared(events: Record<string, readonly PastEvent[]>, times: readonly number[]) {
  const { session } = duck;
  const rows = times.flatMap((t) => ["c1", "c2", null].map((card) => ({ t, keys: { card } })));
  await session.run(entityEventsTable("events_card", fixtureContract.fields, events));
  await session.run("DROP TABLE IF EXISTS spine");
  await session.run(spineTable("spine", rows));
  const file = duck.newFile("events.parquet");
  const columns = fields.map((name, i) => `fields."${name}" AS f${i}`);
  await session.run(
    `COPY (SELECT id, identity, event_time_ms, visible_ms, ${columns.join(", ")} FROM events_card) TO '${file}' (FORMAT parquet)`,
  );
  return { rows: rows.length, events: [file] };
}

describe("a chunk", () => {
  it("gives what the whole join gives, in as many slices as it takes", async () => {
    const { session } = duck;
    let sliced = 0;
    await fc.assert(
      fc.asyncProperty(past, past, instants, fc.integer({ min: 5, max: 60 }), async (one, two, times, entityEvents) => {
        const { rows, events } = await prepared({ c1: one, c2: two }, times);
        const spine = { relation: "spine", rows, fromMs: times[0]!, toMs: times[times.length - 1]! };
        const whole = await joinPointInTime(session, { plan, features: names, spine, events: () => "events_card" });
        const out = duck.newFile("features.parquet");
        const folded = await foldChunk(session, { plan, group, members, events, fields, out, entityEvents }).catch(
          (error) => {
            expect(error).toMatchObject({ code: "entity_too_large" });
            return null;
          },
        );
        if (folded === null) return;
        sliced += Math.max(one.length, two.length) > entityEvents ? 1 : 0;
        expect(await readFeatures(session, members, [out], { from: 0, rows })).toEqual(whole);
      }),
      { numRuns: 25, seed: 20261121, endOnFailure: true },
    );
    expect(sliced).toBeGreaterThan(0);
  });

  it("is refused where one row sees more of an entity than core holds, without its name", async () => {
    const [events] = fc.sample(
      past.filter(({ length }) => length > 20),
      { seed: 1, numRuns: 1 },
    );
    const last = Math.max(...events!.map(({ timeMs }) => timeMs));
    const { events: files } = await prepared({ c1: events!, c2: [] }, [last]);
    const out = duck.newFile("features.parquet");
    await expect(
      foldChunk(duck.session, { plan, group, members, events: files, fields, out, entityEvents: 2 }),
    ).rejects.toMatchObject({
      code: "entity_too_large",
      message: expect.stringMatching(/^one card has \d+ events of payments in sight of one row, the limit is 2$/),
    });
  });
});
