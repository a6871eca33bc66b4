import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { ArchiveRow } from "../../../adapters/archive/archive-format.ts";
import { hash64 } from "../../../adapters/hash.ts";
import { archiveSelect } from "../../../adapters/offline/archive-view.ts";
import { loadFresh, mergeHour, timeConflicts } from "../../../adapters/offline/compaction-merge.ts";
import { DuckSession } from "../../../adapters/offline/duckdb.ts";
import { entityEventsSql, streamEventsSql } from "../../../adapters/offline/entity-events.ts";
import type { Stream } from "../../../core/plan.ts";
import { duckFiles } from "../../support/duck-files.ts";
import { plan } from "../../support/fixture-plan.ts";
import { runs } from "../../support/runs.ts";
import { archiveRows, HOUR_MS, START_MS, withRegion } from "./archive-rows.ts";
import { naiveEntityEvents } from "./naive-entity-events.ts";

const stream = plan.streams[0]!;
const duck = duckFiles();

/** Hours of Parquet, brought up to date with more rows each time. */
class Compacted {
  readonly hours = new Map<number, string>();
  payloadConflicts = 0;
  timeConflicts = 0;

  async add(rows: readonly ArchiveRow[], of: Stream = stream): Promise<void> {
    const { hours } = await loadFresh(duck.session, archiveSelect(of, [duck.rawFile(rows)], []));
    for (const hour of hours) {
      const before = this.hours.get(hour);
      const file = duck.newFile("parquet");
      const select = archiveSelect(stream, [], before === undefined ? [] : [before]);
      this.payloadConflicts += (await mergeHour(duck.session, of, hour, select, () => file)).payloadConflicts;
      this.hours.set(hour, file);
    }
    this.timeConflicts += await timeConflicts(duck.session);
  }

  async rows(): Promise<any[]> {
    const select = archiveSelect(stream, [], [...this.hours.values()]);
    return duck.session.rows(
      `SELECT * EXCLUDE fields, fields.amount AS amount FROM (${select}) ORDER BY event_time_ms, amount, identity`,
    );
  }
}

const row = (amount: number, fates: ArchiveRow["fates"], more: Partial<ArchiveRow> = {}): ArchiveRow => ({
  tenant: "default",
  stream: "payments",
  eventId: "e1",
  eventTimeMs: START_MS,
  identity: "00000000000000aa",
  arrivalMs: START_MS + 5,
  shard: "shardId-000000000000",
  sequence: "1",
  subSequence: 0,
  fields: { tenant: "default", id: "e1", at: START_MS, card: "c1", shop: "s1", amount, country: null, online: null },
  fates,
  ...more,
});
const card = (fate: ArchiveRow["fates"][number]["fate"], visibleMs: number | null) => ({
  entity: "card",
  id: "c1",
  fate,
  visibleMs,
});
const shop = (fate: ArchiveRow["fates"][number]["fate"], visibleMs: number | null) => ({
  entity: "shop",
  id: "s1",
  fate,
  visibleMs,
});
const fatesOf = (rows: any[]) =>
  rows.map(({ fates }) => fates.map((each: any) => `${each.entity} ${each.fate} ${each.visible_ms}`));

describe("merging", () => {
  it("keeps of each entity the fate that counts: applied before its duplicates, repaired before late", async () => {
    const compacted = new Compacted();
    await compacted.add([
      row(1, [card("duplicate", 7), shop("late", null)], { arrivalMs: START_MS + 9, sequence: "10" }),
    ]);
    await compacted.add([row(1, [card("applied", 7), shop("late", null)], { arrivalMs: START_MS + 9, sequence: "9" })]);
    await compacted.add([
      row(1, [card("applied", 7), shop("repaired", 30)], { arrivalMs: START_MS + 9, sequence: "9" }),
    ]);
    const rows = await compacted.rows();
    expect(fatesOf(rows)).toEqual([["card applied 7", "shop repaired 30"]]);
    // The first delivery's place: sequence numbers are numbers, 9 is before 10.
    expect(rows[0]!.sequence).toBe("9");
    expect(compacted.payloadConflicts + compacted.timeConflicts).toBe(0);
  });

  it("keeps rows of one delivery apart when an entity was added to the plan between them", async () => {
    const compacted = new Compacted();
    await compacted.add([row(1, [card("applied", 7)]), row(1, [card("applied", 7)], { sequence: "2" })]);
    await compacted.add([row(1, [card("duplicate", 7), shop("late", null)]), row(1, [])]);
    expect(fatesOf(await compacted.rows()).sort()).toEqual([
      [],
      ["card applied 7"],
      ["card duplicate 7", "shop late null"],
    ]);
  });

  it("keeps a delivery whole that any entity takes the event from", async () => {
    const compacted = new Compacted();
    await compacted.add([row(1, [card("applied", 7), shop("late", null)])]);
    await compacted.add([row(1, [card("duplicate", 7), shop("repaired", 9)], { sequence: "2" })]);
    expect(fatesOf(await compacted.rows()).sort()).toEqual([
      ["card applied 7", "shop late null"],
      ["card duplicate 7", "shop repaired 9"],
    ]);
  });

  it("keeps late rows and refused records, marked, each refused delivery once", async () => {
    const refused = row(3, [], { identity: null, reason: "number_too_large" });
    const unreadable = {
      ...refused,
      eventId: null,
      eventTimeMs: null,
      fields: null,
      reason: "avro_truncated",
      sequence: "2",
    };
    const compacted = new Compacted();
    await compacted.add([row(1, [card("late", null)]), refused, unreadable]);
    await compacted.add([row(1, [card("late", null)]), refused, unreadable, { ...refused, sequence: "3" }]);
    const rows = await compacted.rows();
    expect(fatesOf(rows.filter(({ reason }) => reason === null))).toEqual([["card late null"]]);
    expect(
      rows
        .map(({ reason, sequence }) => [reason, sequence])
        .filter(([reason]) => reason !== null)
        .sort(),
    ).toEqual([
      ["avro_truncated", "2"],
      ["number_too_large", "1"],
      ["number_too_large", "3"],
    ]);
  });

  it("keeps a payload that differs in what ingest looked up, and holds it against no producer", async () => {
    const enrich = [{ field: "amount", feature: "risk:rate", entity: "shop", joinKey: "shop" }];
    const compacted = new Compacted();
    await compacted.add([row(1, [card("applied", 7)])], { ...stream, enrich });
    await compacted.add([row(2, [card("duplicate", 7)], { sequence: "2" })], { ...stream, enrich });
    expect([(await compacted.rows()).length, compacted.payloadConflicts]).toEqual([2, 0]);
    const other = row(2, [card("duplicate", 7)], { sequence: "3" });
    await compacted.add([{ ...other, fields: { ...other.fields, country: "SE" } }], { ...stream, enrich });
    expect(compacted.payloadConflicts).toBe(1);
  });

  it("keeps a second payload as a row of its own, and counts it once", async () => {
    const compacted = new Compacted();
    await compacted.add([row(1, [card("applied", 7)])]);
    await compacted.add([row(2, [card("duplicate", 7)], { sequence: "2" })]);
    expect(compacted.payloadConflicts).toBe(1);
    await compacted.add([row(2, [card("duplicate", 7)], { sequence: "2" }), row(1, [card("duplicate", 7)])]);
    expect((await compacted.rows()).map(({ amount }) => amount)).toEqual([1, 2]);
    expect(compacted.payloadConflicts).toBe(1);
    await compacted.add([row(3, [card("duplicate", 7)]), row(4, [card("duplicate", 7)])]);
    expect(compacted.payloadConflicts).toBe(3);
  });

  it("counts an event id with another time, within a run and against what it touches, once", async () => {
    const other = row(1, [card("applied", 9)], { eventTimeMs: START_MS + 60_000, identity: "00000000000000bb" });
    const together = new Compacted();
    await together.add([row(1, [card("applied", 7)]), other]);
    expect(together.timeConflicts).toBe(1);
    await together.add([other]);
    expect(together.timeConflicts).toBe(1);
    const apart = new Compacted();
    await apart.add([row(1, [card("applied", 7)])]);
    await apart.add([other]);
    expect(apart.timeConflicts).toBe(1);
    expect(apart.payloadConflicts).toBe(0);
  });

  it("files what has no time that means anything by its arrival", async () => {
    const compacted = new Compacted();
    const refused = row(1, [], { identity: null, reason: "event_time_invalid" });
    await compacted.add([-1, 8e15, null].map((eventTimeMs, i) => ({ ...refused, eventTimeMs, sequence: String(i) })));
    expect([...compacted.hours.keys()]).toEqual([Math.floor((START_MS + 5) / HOUR_MS) * HOUR_MS]);
  });

  it("changes nothing that entity events say, in any number of rounds, beside any raw rest", async () => {
    const places = fc.array(fc.nat({ max: 3 }), { minLength: 200, maxLength: 200 });
    await fc.assert(
      fc.asyncProperty(archiveRows, places, async (rows, place) => {
        const at = (which: number) => rows.filter((_, i) => place[i % place.length] === which);
        const compacted = new Compacted();
        const rounds = [at(0), at(1), at(2)].filter((part) => part.length > 0);
        for (const round of rounds) await compacted.add(round);
        const raw = at(3).length > 0 ? [duck.rawFile(at(3))] : [];
        const select = archiveSelect(stream, raw, [...compacted.hours.values()]);
        await duck.session.run(`CREATE OR REPLACE VIEW archive AS ${select}`);
        for (const { name, joinKey } of withRegion.entities) {
          const sql = entityEventsSql(withRegion, name);
          const found = await duck.session.rows(`SELECT * FROM (${sql}) ORDER BY identity || id`);
          expect(found.map(comparable)).toEqual(naiveEntityEvents(rows, name, joinKey).map(comparable));
        }
        const events = `${streamEventsSql()} ORDER BY identity`;
        const merged = await duck.session.rows(events);
        await duck.session.run(`CREATE OR REPLACE VIEW archive AS ${archiveSelect(stream, [duck.rawFile(rows)], [])}`);
        expect(merged.map(comparable)).toEqual((await duck.session.rows(events)).map(comparable));
        expect(compacted.payloadConflicts).toBe(naiveConflicts(rounds.flat()));
      }),
      { numRuns: runs(30), seed: 20261121 },
    );
  });

  it("of a big hour goes by slices within little memory, and keeps each event once", { tags: ["slow"] }, async () => {
    const small = await DuckSession.open({ folder: duck.folder, memoryMb: 128 });
    try {
      const many = Array.from({ length: 30_000 }, (_, i) =>
        row(i, [card("applied", i)], {
          eventId: `e${i}`,
          identity: hash64(String(i)),
          fields: { ...row(i, []).fields, id: `e${i}`, country: hash64(`a${i}`).repeat(20) },
        }),
      );
      const file = duck.rawFile(many);
      const { hours, rows } = await loadFresh(small, archiveSelect(stream, [file, file], []));
      expect([hours.length, rows]).toEqual([1, 60_000]);
      const outputs = Array.from({ length: 10 }, () => duck.newFile("parquet"));
      const none = archiveSelect(stream, [], []);
      const merged = await mergeHour(small, stream, hours[0]!, none, (slice) => outputs[slice]!, 6_000);
      expect(merged).toEqual({ files: 10, rows: 30_000, payloadConflicts: 0 });
      const [found] = await small.rows(
        `SELECT count(DISTINCT identity) AS n FROM (${archiveSelect(stream, [], outputs)})`,
      );
      expect(found).toEqual({ n: 30_000n });
    } finally {
      small.close();
    }
  });
});

const comparable = (event: any) =>
  JSON.stringify(
    {
      ...event,
      event_time_ms: Number(event.event_time_ms),
      visible_ms: Number(event.visible_ms),
      fields: { ...event.fields, at: Number(event.fields.at) },
    },
    Object.keys({ ...event, ...event.fields }).sort(),
  );

function naiveConflicts(rows: readonly ArchiveRow[]): number {
  const payloads = new Map<string, Set<string>>();
  for (const { identity, reason, fields } of rows) {
    if (identity === null || reason !== undefined) continue;
    payloads.set(identity, (payloads.get(identity) ?? new Set()).add(JSON.stringify(fields)));
  }
  return [...payloads.values()].reduce((total, { size }) => total + size - 1, 0);
}
