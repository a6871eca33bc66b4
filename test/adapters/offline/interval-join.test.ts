/** The query of docs/joins.md is what a window over another stream gives for every payment: it is run beside the join. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import { hash64 } from "../../../adapters/hash.ts";
import { DuckSession } from "../../../adapters/offline/duckdb.ts";
import { featureAt, joinPointInTime } from "../../../adapters/offline/point-in-time.ts";
import { enrichedPlan as plan } from "../../support/enriched-plan.ts";
import { entityEventsTable, spineTable } from "../../support/offline-tables.ts";

const page = readFileSync(new URL("../../../docs/joins.md", import.meta.url), "utf8");
const [, query] = /```sql\n([\s\S]*?)```/.exec(page)!;
const folder = mkdtempSync(join(tmpdir(), "freshet-joins-"));
const HOUR = 3_600_000;
const START = Date.UTC(2026, 0, 5);
let session: DuckSession;

beforeAll(async () => {
  session = await DuckSession.open({ folder });
});
afterAll(() => {
  session?.close();
  rmSync(folder, { recursive: true });
});

const user = fc.constantFrom("u1", "u2");
// Often at the edges of an interval: on a minute, on a hop, a millisecond beside.
const timeMs = fc
  .tuple(fc.integer({ min: 0, max: 36 }), fc.constantFrom(-1, 0, 1, 59_999, 60_000, 150_000))
  .map(([hops, more]) => START + hops * 300_000 + more);
const clicks = fc.array(fc.record({ user, timeMs, lateMs: fc.constantFrom(0, 1, 60_000, 2 * HOUR) }), {
  minLength: 1,
  maxLength: 60,
});
const payments = fc.array(fc.record({ user, timeMs }), { minLength: 1, maxLength: 20 });

it("gives the feature's value for every payment", async () => {
  const feature = "user_clicks:clicks_1h";
  const { fields } = plan.streams.find(({ name }) => name === "clicks")!;
  let counted = 0;
  await fc.assert(
    fc.asyncProperty(clicks, payments, async (drawn, paid) => {
      const events = drawn.map((click, i) => {
        const visibleMs = click.timeMs + click.lateMs;
        return { ...click, eventId: `k${i}`, visibleMs, identity: hash64(`${i}`), fields: { click_id: `k${i}` } };
      });
      const histories = Object.fromEntries(["u1", "u2"].map((id) => [id, events.filter((event) => event.user === id)]));
      const times = paid.map((payment) => payment.timeMs).sort((a, b) => a - b);
      await session.run(entityEventsTable("clicks_user", fields, histories));
      await session.run(
        spineTable(
          "spine",
          paid.map((payment) => ({ t: payment.timeMs, keys: { user: payment.user } })),
        ),
      );
      const [column] = await joinPointInTime(session, {
        ...{ plan, features: [feature], events: () => "clicks_user" },
        spine: { relation: "spine", rows: paid.length, fromMs: times[0], toMs: times[times.length - 1] },
      });
      const values = (rows: string[]) => rows.join(", ");
      await session.run(`
        CREATE OR REPLACE VIEW clicks AS SELECT * FROM (VALUES ${values(
          events.map((event) => `('${event.eventId}', '${event.user}', ${event.timeMs}, ${event.visibleMs})`),
        )}) AS c(click_id, user_id, event_time, visible_ms);
        CREATE OR REPLACE VIEW transactions AS SELECT * FROM (VALUES ${values(
          paid.map((payment, i) => `(${i}, '${payment.user}', ${payment.timeMs})`),
        )}) AS t(transaction_id, user_id, event_time)`);
      const rows = await session.rows(`${query} ORDER BY t.transaction_id`);
      expect(paid.map((_, row) => featureAt(column, row).value ?? 0)).toEqual(
        rows.map((row) => Number(row["clicks_1h"])),
      );
      counted += rows.filter((row) => Number(row["clicks_1h"]) > 0).length;
    }),
    // Fixed, since how many are counted is the draw's luck.
    { numRuns: 30, seed: 4 },
  );
  expect(counted).toBeGreaterThan(50);
});
