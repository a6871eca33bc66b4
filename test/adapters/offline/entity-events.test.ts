import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { ArchiveRow } from "../../../adapters/archive/archive-format.ts";
import { archiveSelect } from "../../../adapters/offline/archive-view.ts";
import { sqlText } from "../../../adapters/offline/duckdb.ts";
import { entityEventsSql, olderThanEntitySql } from "../../../adapters/offline/entity-events.ts";
import { duckFiles } from "../../support/duck-files.ts";
import { plan } from "../../support/fixture-plan.ts";
import { runs } from "../../support/runs.ts";
import { archiveRows, START_MS, withRegion } from "./archive-rows.ts";
import { type EntityEvent, naiveEntityEvents } from "./naive-entity-events.ts";

const stream = plan.streams[0]!;
const duck = duckFiles();

async function parquetFile(rows: readonly ArchiveRow[]): Promise<string> {
  const file = duck.newFile("parquet");
  await duck.session.run(
    `COPY (${archiveSelect(stream, [duck.rawFile(rows)], [])}) TO ${sqlText(file)} (FORMAT parquet)`,
  );
  return file;
}

/** A row of one event that arrived `minute` minutes after START, with the fates given. */
const row = (minute: number, fates: ArchiveRow["fates"], more: Partial<ArchiveRow> = {}): ArchiveRow => ({
  tenant: "default",
  stream: "payments",
  eventId: "e1",
  eventTimeMs: START_MS,
  identity: "00000000000000aa",
  arrivalMs: START_MS + minute * 60_000,
  shard: "shardId-000000000000",
  sequence: String(100 + minute),
  subSequence: 0,
  fields: {
    tenant: "default",
    id: "e1",
    at: START_MS,
    card: "c1",
    shop: "s1",
    amount: minute,
    country: null,
    online: null,
  },
  fates,
  ...more,
});
const fate = (entity: string, id: string, name: ArchiveRow["fates"][number]["fate"], minute: number | null) => ({
  entity,
  id,
  fate: name,
  visibleMs: minute === null ? null : START_MS + minute * 60_000,
});

async function entityEvents(select: string, entity: string): Promise<EntityEvent[]> {
  await duck.session.run(`CREATE OR REPLACE VIEW archive AS ${select}`);
  const found = await duck.session.rows(
    `SELECT * FROM (${entityEventsSql(withRegion, entity)}) ORDER BY identity || id`,
  );
  return found.map((each) => ({
    ...(each as EntityEvent),
    event_time_ms: Number(each["event_time_ms"]),
    visible_ms: Number(each["visible_ms"]),
    fields: { ...each["fields"], at: Number(each["fields"].at) },
  }));
}

const ofRows = (rows: readonly ArchiveRow[], entity = "card") =>
  entityEvents(archiveSelect(stream, [duck.rawFile(rows)], []), entity);
const brief = (events: readonly EntityEvent[]) =>
  events.map(({ id, visible_ms, fields }) => [id, (visible_ms - START_MS) / 60_000, fields["amount"]]);

describe("entity events", () => {
  it("hold an applied event once, with the time of its first apply, however often it was delivered", async () => {
    const rows = [
      row(9, [fate("card", "c1", "duplicate", 1)]),
      row(1, [fate("card", "c1", "applied", 1)]),
      row(1, [fate("card", "c1", "applied", 1)]),
    ];
    expect(brief(await ofRows(rows))).toEqual([["c1", 1, 1]]);
  });

  it("hold duplicates alone, whose apply was never archived", async () => {
    expect(brief(await ofRows([row(3, [fate("card", "c1", "duplicate", 2)])]))).toEqual([["c1", 2, 3]]);
  });

  it("leave out late events until they are repaired", async () => {
    const late = row(5, [fate("card", "c1", "late", null)]);
    expect(await ofRows([late])).toEqual([]);
    expect(brief(await ofRows([late, row(5, [fate("card", "c1", "repaired", 30)])]))).toEqual([["c1", 30, 5]]);
  });

  it("leave out quarantined records, whatever is known of them", async () => {
    const refused = row(2, [], { reason: "event_time_future", identity: null });
    expect(await ofRows([refused, { ...refused, fields: null, eventId: null, eventTimeMs: null }])).toEqual([]);
  });

  it("take the payload that was applied first for an id, and each id that any payload named", async () => {
    const other = { ...row(0, []).fields, amount: 77, card: "c2" };
    const rows = [
      row(4, [fate("card", "c2", "applied", 4), fate("shop", "s1", "duplicate", 2)], { fields: other }),
      row(2, [fate("card", "c1", "applied", 2), fate("shop", "s1", "applied", 2)]),
    ];
    expect(brief(await ofRows(rows))).toEqual([
      ["c1", 2, 2],
      ["c2", 4, 77],
    ]);
    expect(brief(await ofRows(rows, "shop"))).toEqual([["s1", 2, 2]]);
  });

  it("believe an applied delivery before a duplicate of the same visible time that arrived earlier", async () => {
    const rows = [row(1, [fate("card", "c1", "duplicate", 8)]), row(6, [fate("card", "c1", "applied", 8)])];
    expect(brief(await ofRows(rows))).toEqual([["c1", 8, 6]]);
  });

  it("give an entity that is newer than the event its smallest visible time and the id of its payload", async () => {
    const rows = [row(2, [fate("card", "c1", "applied", 3)]), row(4, [fate("card", "c1", "duplicate", 3)])];
    expect(brief(await ofRows(rows, "shop"))).toEqual([["s1", 3, 2]]);
    const without = rows.map((each) => ({ ...each, fields: { ...each.fields, shop: null } }));
    expect(await ofRows(without, "shop")).toEqual([]);
  });

  it("do not take an entity for newer that a repair's row names as late still", async () => {
    const late = row(5, [fate("card", "c1", "late", null), fate("shop", "s1", "late", null)]);
    const repaired = row(5, [fate("card", "c1", "repaired", 30), fate("shop", "s1", "late", null)]);
    expect(await ofRows([late, repaired], "shop")).toEqual([]);
  });

  it("keep an event of an entity that is newer, whatever a later delivery brings", async () => {
    const before = row(2, [fate("card", "c1", "applied", 3)]);
    const again = row(600, [fate("card", "c1", "duplicate", 3), fate("shop", "s1", "late", null)]);
    expect(brief(await ofRows([before, again], "shop"))).toEqual([["s1", 3, 2]]);
    expect(brief(await ofRows([row(2, []), again], "shop"))).toEqual([["s1", 2, 2]]);
    // Nor does the repair of that delivery: the bulk build had taken the event long before.
    const repaired = { ...again, fates: [again.fates[0]!, fate("shop", "s1", "repaired", 700)] };
    expect(brief(await ofRows([before, again, repaired], "shop"))).toEqual([["s1", 3, 2]]);
    const late = row(5, [fate("card", "c1", "late", null)]);
    expect(brief(await ofRows([late, row(5, [fate("card", "c1", "repaired", 30)]), again], "shop"))).toEqual([
      ["s1", 30, 5],
    ]);
  });

  it("count an event that touched no entity from its arrival", async () => {
    expect(brief(await ofRows([row(7, [])]))).toEqual([["c1", 7, 7]]);
  });

  it("are counted as older than an entity only when a row lacks it", async () => {
    const count = async (rows: ArchiveRow[]) => {
      await duck.session.run(`CREATE OR REPLACE VIEW archive AS ${archiveSelect(stream, [duck.rawFile(rows)], [])}`);
      return Number((await duck.session.rows(olderThanEntitySql("shop")))[0]!["rows"]);
    };
    expect(await count([row(1, [fate("shop", "s1", "late", null)])])).toBe(0);
    expect(await count([row(1, [fate("card", "c1", "applied", 1)])])).toBe(1);
  });

  it("of any mix of raw and compacted objects are those of the naive definition", async () => {
    const split = fc.array(fc.nat({ max: 2 }), { minLength: 200, maxLength: 200 });
    await fc.assert(
      fc.asyncProperty(archiveRows, split, async (rows, places) => {
        const at = (place: number) => rows.filter((_, i) => places[i % places.length] === place);
        const raw = [at(0), at(1)].filter((part) => part.length > 0).map(duck.rawFile);
        const compacted = at(2).length > 0 ? [await parquetFile(at(2))] : [];
        for (const [entity, joinKey] of [
          ["card", "card"],
          ["shop", "shop"],
          ["region", "country"],
        ] as const) {
          const found = await entityEvents(archiveSelect(stream, raw, compacted), entity);
          expect(found).toEqual(naiveEntityEvents(rows, entity, joinKey).map(withoutNegativeZero));
        }
      }),
      { numRuns: runs(60), seed: 20261121 },
    );
  });
});

/** JSON has no -0, and in values -0 equals 0. */
const withoutNegativeZero = (event: EntityEvent): EntityEvent => {
  const amount = event.fields["amount"];
  return { ...event, fields: { ...event.fields, amount: amount === 0 ? 0 : amount } };
};
