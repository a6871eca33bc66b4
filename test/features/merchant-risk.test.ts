/** The query of the example view, on DuckDB, over outcomes and payments that a person can add up. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { batchRows, runBatchQuery, runRange } from "../../adapters/offline/batch-query.ts";
import { DuckSession } from "../../adapters/offline/duckdb.ts";
import { plan } from "../../features/plan.ts";

const DAY = 86_400_000;
const TO = Date.UTC(2026, 10, 1);

it("counts the outcomes that became known within 30 days, and which of them were charged back", async () => {
  const view = plan.batchViews.find(({ name }) => name === "merchant_risk")!;
  const folder = mkdtempSync(join(tmpdir(), "freshet-risk-"));
  const session = await DuckSession.open({ folder });
  try {
    await session.run(`
CREATE TABLE transactions AS SELECT * FROM (VALUES ('t1', 'm1'), ('t2', 'm1'), ('t3', 'm1'), ('t4', 'm2')) AS t(transaction_id, merchant_id);
CREATE TABLE labels AS SELECT * FROM (VALUES
  ('t1', ${TO - 1}, TRUE, 'chargeback'), ('t2', ${TO - 30 * DAY}, FALSE, 'settlement'),
  ('t3', ${TO - 30 * DAY - 1}, TRUE, 'chargeback'), ('t4', ${TO - DAY}, TRUE, 'analyst'), ('unknown', ${TO - DAY}, TRUE, 'chargeback')
) AS t(transaction_id, event_time_ms, is_fraud, source)`);
    expect(await runBatchQuery(session, plan, view, runRange(view, TO - DAY, TO), TO)).toEqual({
      rows: 2,
      withoutKey: 0,
    });
    const rows = [];
    for await (const some of batchRows(session, view)) rows.push(...some);
    expect(rows).toEqual([
      { id: "m1", eventTimeMs: TO, values: [2, 1, 0.5] },
      { id: "m2", eventTimeMs: TO, values: [1, 0, 0] },
    ]);
  } finally {
    session.close();
    rmSync(folder, { recursive: true });
  }
});
