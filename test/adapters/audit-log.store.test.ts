/** The audit log against the emulator's DynamoDB. */
import { GetItemCommand } from "@aws-sdk/client-dynamodb";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type AuditLog, type AuditRecord, auditId, createAuditLog } from "../../adapters/audit-log.ts";
import { createTable, startEmulator, type TestEmulator, testClients } from "../harness/emulator.ts";

let emulator: TestEmulator;
let log: AuditLog;

beforeAll(async () => {
  emulator = await startEmulator();
  await createTable(emulator.url, "audit");
  log = createAuditLog({ table: "audit", dynamodb: testClients(emulator.url).dynamodb, retentionDays: 7 });
});
afterAll(() => emulator?.stop());

const record = (tenant: string, atMs: number, more: Partial<AuditRecord> = {}): AuditRecord => ({
  ...{ tenant, id: auditId(atMs), atMs, who: "key abc", action: "keys.create", target: "key def" },
  ...{ outcome: "done", requestId: "r-1", ...more },
});

it("pages through a tenant's records, newest first, and shows no other tenant's", async () => {
  const own = [1_000, 999_999_999_999, 1_700_000_000_000, 2_000, 1_700_000_000_001].map((at) => record("team-a", at));
  for (const one of [...own, record("team-b", 5), record("team-a-b", 6), record("*", 7)]) await log.write(one);
  const newestFirst = [...own].sort((a, b) => b.atMs - a.atMs);
  const seen: AuditRecord[] = [];
  let before: string | null = null;
  do {
    const page = await log.page("team-a", { before, limit: 2 });
    expect(page.records.length).toBeLessThanOrEqual(2);
    seen.push(...page.records);
    before = page.next;
  } while (before !== null);
  expect(seen).toEqual(newestFirst);
  expect((await log.page("team-a", { before: "0000000002001", limit: 10 })).records.map(({ atMs }) => atMs)).toEqual([
    2_000, 1_000,
  ]);
});

it("a record that is written again is replaced, and expires after the days given", async () => {
  const begun = record("team-c", 86_400_000, { outcome: "begun", requestId: null });
  await log.write(begun);
  await log.write({ ...begun, outcome: "done" });
  expect((await log.page("team-c", { before: null, limit: 10 })).records).toEqual([{ ...begun, outcome: "done" }]);
  const { dynamodb } = testClients(emulator.url);
  const Key = { pk: { S: "team-c" }, sk: { S: begun.id } };
  const { Item } = await dynamodb.send(new GetItemCommand({ TableName: "audit", Key }));
  expect(Item?.["expires_at"]).toEqual({ N: String(8 * 86_400) });
});

it("a table that is not there is audit_unavailable", async () => {
  const lost = createAuditLog({ table: "none", dynamodb: testClients(emulator.url).dynamodb, retentionDays: 7 });
  await expect(lost.write(record("team-a", 1))).rejects.toMatchObject({ code: "audit_unavailable" });
  await expect(lost.page("team-a", { before: null, limit: 1 })).rejects.toMatchObject({ code: "audit_unavailable" });
});
