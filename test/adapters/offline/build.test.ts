/** The bulk build: from archive objects to the bytes that a put writes, held against the model that saw the same events. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type ArchiveRow, encodeArchive } from "../../../adapters/archive/archive-format.ts";
import { archiveSelect } from "../../../adapters/offline/archive-view.ts";
import { type BuiltEntity, buildEntities } from "../../../adapters/offline/build.ts";
import { DuckSession } from "../../../adapters/offline/duckdb.ts";
import { entityEventsSql } from "../../../adapters/offline/entity-events.ts";
import { leanArchiveSql } from "../../../adapters/offline/tile-states.ts";
import { bucketOf } from "../../../adapters/valkey/layout.ts";
import type { Plan } from "../../../core/plan.ts";
import { floorTo } from "../../../core/tiles/window.ts";
import { GROUP_PLANS } from "../../support/group-plans.ts";
import { buildByModel, identityOf } from "../../support/model-build.ts";
import type { RawEvent } from "../../support/one-entity.ts";
import { runs } from "../../support/runs.ts";

const MINUTE = 60_000;
const START = Date.UTC(2026, 0, 5, 22, 17);
let folder: string;
let session: DuckSession;
let files = 0;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "freshet-build-"));
  session = await DuckSession.open({ folder });
});
afterAll(() => {
  session?.close();
  rmSync(folder, { recursive: true, force: true });
});

interface CardEvent extends RawEvent {
  readonly card: string;
}
const TENANT = "team-1";

const rowOf = (event: CardEvent, fate: "applied" | "late" = "applied"): ArchiveRow => ({
  tenant: TENANT,
  stream: "payments",
  eventId: event.id,
  eventTimeMs: event.timeMs,
  identity: identityOf(TENANT, event),
  arrivalMs: event.timeMs,
  shard: "shardId-000000000000",
  sequence: String(event.timeMs),
  subSequence: 0,
  fields: { tenant: TENANT, id: event.id, at: event.timeMs, card: event.card, ...event.fields },
  fates: [{ entity: "card", id: event.card, fate, visibleMs: fate === "late" ? null : event.timeMs + 5 }],
});

async function build(
  plan: Plan,
  rows: readonly ArchiveRow[],
  sealMs: number,
  more: { fromMs?: number; buckets?: number[] } = {},
) {
  const file = join(folder, `${files++}.ndjson.zst`);
  writeFileSync(file, encodeArchive(rows));
  await session.run(
    `CREATE OR REPLACE VIEW archive AS ${archiveSelect(plan.streams[0], rows.length > 0 ? [file] : [], [])}`,
  );
  const group = plan.groups.find(({ entity }) => entity === "card")!;
  const entities: BuiltEntity[] = [];
  // Another tenant's events go beside them; nobody's bytes change.
  await session.run(`CREATE OR REPLACE VIEW lean AS ${leanArchiveSql(group, "card", "archive")}`);
  const sources = [TENANT, "team-2"].map((tenant) => ({
    tenant,
    events: entityEventsSql(plan, "card", { archive: "lean" }),
  }));
  const options = { group, sources, sealMs, ...more };
  for await (const entity of buildEntities(session, options)) entities.push(entity);
  const of = (tenant: string) => entities.filter((entity) => entity.tenant === tenant);
  const fieldsOf = (tenant: string) =>
    of(tenant)
      .map(({ id, fields }) => [id, asMap(fields)])
      .sort();
  if (more.buckets === undefined) expect(fieldsOf("team-2")).toEqual(fieldsOf(TENANT));
  expect(entities.map(({ bucket }) => bucket)).toEqual(entities.map(({ bucket }) => bucket).sort((a, b) => a - b));
  return of(TENANT);
}

const asMap = (fields: readonly Buffer[]) => {
  const map = new Map<string, string>();
  for (let i = 0; i < fields.length; i += 2) map.set(fields[i].toString("hex"), fields[i + 1].toString("hex"));
  return Object.fromEntries([...map].sort(([a], [b]) => (a < b ? -1 : 1)));
};

const share = fc.nat(1_000_000).map((n) => n / 1_000_000);
const event = fc.record({
  id: fc.nat(60).map((n) => `e${n}`),
  at: share,
  card: fc.constantFrom("c1", "c2", "ü'\"c"),
  fields: fc.record({
    shop: fc.oneof(
      fc.constant(null),
      fc.nat(200).map((n) => `s${n}`),
      fc.constantFrom("", "'; --", "😀"),
    ),
    amount: fc.oneof(
      fc.constantFrom(null, 0, -0, 1.005, -1.005, -12.34, 0.285, 87960930222.07, -87960930222.07, 5e-324),
      fc.double({ min: -1e6, max: 1e6, noNaN: true }),
    ),
    country: fc.constantFrom("NO", "SE", null, "naïve"),
    online: fc.constantFrom(true, false, null),
  }),
});

describe.each(Object.entries(GROUP_PLANS))("built by a query is what the model folds: %s", (_, plan) => {
  const group = plan.groups.find(({ entity }) => entity === "card")!;

  it("byte for byte, whatever the events, wherever the seal is", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(event, { maxLength: 150 }),
        fc.constantFrom(40 * MINUTE, 7 * 60 * MINUTE, 9 * 86_400_000, 40 * 86_400_000),
        share,
        async (drawn, spanMs, at) => {
          const seen = new Map<string, CardEvent>();
          for (const { at: when, ...raw } of drawn) {
            const one = { ...raw, timeMs: START + Math.round(when * spanMs) };
            const identity = identityOf(TENANT, one);
            if (!seen.has(identity)) seen.set(identity, one);
          }
          const events = [...seen.values()];
          const sealMs = floorTo(START + at * 1.2 * spanMs, group.baseMs);
          const late = events.slice(0, 2).map((one) => rowOf({ ...one, id: `late-${one.id}` }, "late"));
          const built = await build(plan, [...events.map((one) => rowOf(one)), ...late], sealMs);
          for (const card of ["c1", "c2", "ü'\"c"]) {
            const expected = buildByModel(
              plan,
              TENANT,
              events.filter((one) => one.card === card),
              sealMs,
            );
            const found = built.find(({ id }) => id === card);
            expect(asMap(found?.fields ?? [])).toEqual(asMap(expected.fields));
            if (found) {
              expect(found.bucket).toBe(bucketOf(TENANT, "card", card));
              expect(found.newestMs).toBe(expected.newestMs);
            } else expect(expected.fields).toEqual([]);
          }
        },
      ),
      { numRuns: runs(25) },
    );
  });
});

describe("a build", () => {
  const plan = GROUP_PLANS["every operator"];
  const group = plan.groups.find(({ entity }) => entity === "card")!;
  const seal = START + 26 * 60 * MINUTE;
  const card = (name: string, id: string, timeMs: number, fields: Record<string, unknown> = {}): CardEvent => ({
    id,
    timeMs,
    card: name,
    fields: { shop: null, amount: null, country: null, online: null, ...fields },
  });

  it("tells 64 different values, and no more", async () => {
    const lists = GROUP_PLANS["lists"];
    const events = ["c1", "c2"].flatMap((name, extra) =>
      Array.from({ length: 64 + extra }, (_, i) =>
        card(name, `${name}-${i}`, seal - 20 * MINUTE + i * 500, { shop: `s${i}`, country: "NO" }),
      ),
    );
    const built = await build(
      lists,
      events.map((one) => rowOf(one)),
      seal,
    );
    for (const { id, fields } of built) {
      const own = events.filter((event) => event.card === id);
      expect(asMap([...fields])).toEqual(asMap(buildByModel(lists, TENANT, own, seal).fields));
    }
    expect(built.map(({ id, fields }) => [id, fields.some((bytes) => bytes.equals(Buffer.of(255)))]).sort()).toEqual([
      ["c1", false],
      ["c2", true],
    ]);
  });

  it("is exact where a sum, a square or a set grows past what one number or list holds", async () => {
    const events = Array.from({ length: 300 }, (_, i) =>
      card("c1", `e${i}`, seal - (1 + (i % 90)) * MINUTE - i, {
        amount: (i % 3 === 0 ? -1 : 1) * 87960930222.07,
        shop: `s${i}`,
      }),
    );
    const [built] = await build(
      plan,
      events.map((one) => rowOf(one)),
      seal,
    );
    expect(asMap(built.fields)).toEqual(asMap(buildByModel(plan, TENANT, events, seal).fields));
    expect(Object.values(asMap(built.fields)).some((bytes) => bytes.startsWith("44"))).toBe(true);
  });

  it("knows the newest of an entity whose tiles are all too old to be kept", async () => {
    const windowed = GROUP_PLANS["only 24h windows"];
    const [{ expireMs }] = windowed.groups;
    const within = card("c1", "a", seal - expireMs! + MINUTE);
    const gone = card("c2", "b", seal - expireMs! - MINUTE);
    const built = await build(windowed, [rowOf(within), rowOf(gone)], seal);
    expect(built.map(({ id, newestMs }) => ({ id, newestMs }))).toEqual([{ id: "c1", newestMs: within.timeMs }]);
  });

  it("of an archive without its beginning gives whole tiles alone, and no lifetime", async () => {
    const fromMs = seal - 3 * 60 * MINUTE - 20 * MINUTE;
    const events = [
      card("c1", "a", fromMs - MINUTE),
      card("c1", "b", fromMs + 5 * MINUTE),
      card("c1", "c", seal - 30 * MINUTE),
    ];
    const [built] = await build(
      plan,
      events.map((one) => rowOf(one)),
      seal,
      { fromMs },
    );
    const all = asMap(buildByModel(plan, TENANT, events, seal).fields);
    const fields = asMap(built.fields);
    expect(Object.keys(fields).some((name) => name.startsWith("41"))).toBe(false);
    for (const [name, bytes] of Object.entries(fields)) expect(all[name], name).toBe(bytes);
    const levelOf = (name: string) => group.levels.find(({ id }) => id === Number.parseInt(name.slice(0, 2), 16))!;
    const tiles = (map: Record<string, string>) => Object.keys(map).filter((name) => name.length === 10);
    const missing = tiles(all).filter((name) => fields[name] === undefined);
    for (const name of missing) {
      expect(Number.parseInt(name.slice(2), 16) * levelOf(name).sizeMs).toBeLessThan(fromMs);
    }
    expect(missing.length).toBeGreaterThan(0);
  });

  it("of some buckets leaves the others", async () => {
    const events = Array.from({ length: 40 }, (_, i) => card(`c${i}`, "a", seal - MINUTE));
    const buckets = events.slice(0, 10).map((one) => bucketOf(TENANT, "card", one.card));
    const rows = events.map((one) => rowOf(one));
    const built = await build(plan, rows, seal, { buckets });
    const wanted = events.filter((one) => buckets.includes(bucketOf(TENANT, "card", one.card)));
    expect(built.map(({ id }) => id).sort()).toEqual(wanted.map((one) => one.card).sort());
    expect(await build(plan, rows, seal, { buckets: [] })).toEqual([]);
  });
});
