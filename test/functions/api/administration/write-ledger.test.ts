/** Who writes what, counted: by a clock, and through whole apps with an audit log in memory. */
import { beforeEach, describe, expect, it } from "vitest";
import type { AuditRecord } from "../../../../adapters/audit-log.ts";
import { WriteLedger } from "../../../../functions/api/administration/write-ledger.ts";
import { createApp } from "../../../../functions/api/app.ts";
import { createKey } from "../../../../functions/api/keys/keys.ts";
import { createLambdaHandler } from "../../../../functions/api/lambda.ts";
import { listen } from "../../../../functions/api/server.ts";
import { transaction } from "../contract/contract-calls.ts";
import { testDependencies } from "../doubles.ts";

let nowMs = 1_000_000;
const { dependencies, keys, audit, lines } = testDependencies();
const unrecorded: AuditRecord[] = [];
const ledgerOf = () =>
  new WriteLedger({ log: audit, clock: () => nowMs, onUnrecorded: (record) => void unrecorded.push(record) });
const by = (keyId: string, tenant = "team-a") => ({ keyId, tenant, scopes: new Set<string>() });
const written = () => audit.records.map(({ tenant, who, action, target }) => [tenant, who, action, target]);

beforeEach(() => {
  audit.broken = false;
  audit.records.length = unrecorded.length = lines.length = 0;
});

describe("the ledger", () => {
  it("writes the first of a key at once, what follows once a minute, and nothing where nothing was written", async () => {
    const ledger = ledgerOf();
    ledger.note(by("k1"), "events.write", "clicks", 5, 1);
    await ledger.settle();
    expect(written()).toEqual([["team-a", "key k1", "events.write", "clicks: 5 accepted, 1 refused in 1 requests"]]);
    expect(audit.records[0]).toMatchObject({ atMs: nowMs, outcome: "done", requestId: null });
    for (let i = 0; i < 3; i++) {
      nowMs += 19_000;
      ledger.note(by("k1"), "events.write", "clicks", 500, 0);
      await ledger.settle();
    }
    expect(audit.records).toHaveLength(1);
    nowMs += 3_000;
    await ledger.settle();
    expect(
      written()
        .slice(1)
        .map(([, , , target]) => target),
    ).toEqual(["clicks: 1500 accepted, 0 refused in 3 requests"]);
    nowMs += 60_000;
    await ledger.settle();
    expect(audit.records).toHaveLength(2);
  });

  it("keeps keys, tenants, streams and views apart", async () => {
    const ledger = ledgerOf();
    ledger.note(by("k1"), "events.write", "clicks", 1, 0);
    ledger.note(by("k1"), "events.write", "transactions", 2, 0);
    ledger.note(by("k2", "team-b"), "events.write", "clicks", 3, 0);
    ledger.note(by("k2", "team-b"), "features.push", "clicks", 0, 4);
    await ledger.settle();
    expect(written()).toEqual([
      ["team-a", "key k1", "events.write", "clicks: 1 accepted, 0 refused in 1 requests"],
      ["team-a", "key k1", "events.write", "transactions: 2 accepted, 0 refused in 1 requests"],
      ["team-b", "key k2", "events.write", "clicks: 3 accepted, 0 refused in 1 requests"],
      ["team-b", "key k2", "features.push", "clicks: 0 accepted, 4 refused in 1 requests"],
    ]);
  });

  it("tells its process what the table does not take, and holds nothing up", async () => {
    const ledger = ledgerOf();
    audit.broken = true;
    ledger.note(by("k1"), "events.write", "clicks", 1, 0);
    await ledger.settle();
    expect(unrecorded.map(({ target }) => target)).toEqual(["clicks: 1 accepted, 0 refused in 1 requests"]);
  });

  it("writes the rest when the host ends", async () => {
    const ledger = ledgerOf();
    ledger.note(by("k1"), "events.write", "clicks", 1, 0);
    await ledger.settle();
    ledger.note(by("k1"), "events.write", "clicks", 2, 0);
    await ledger.stop();
    expect(written().map(([, , , target]) => target)).toEqual([
      "clicks: 1 accepted, 0 refused in 1 requests",
      "clicks: 2 accepted, 0 refused in 1 requests",
    ]);
  });
});

const events = [transaction(), { ...transaction(), card_id: 7 }];
const target = "transactions: 1 accepted, 1 refused in 1 requests";

it("a server counts its events by key, and writes them when it ends at the latest", async () => {
  const { key, record } = await createKey(keys, { tenant: "team-a", scopes: ["write"], nowMs: 0 });
  const server = await listen({ port: 0, dependencies: { ...dependencies, writes: ledgerOf() } });
  const headers = { "x-api-key": key, "content-type": "application/json" };
  const reply = await fetch(`${server.url}/v1/events/transactions`, {
    ...{ method: "POST", headers, body: JSON.stringify(events) },
  });
  expect(reply.status).toBe(207);
  await server.close();
  expect(written()).toEqual([["team-a", `key ${record.id}`, "events.write", target]]);
});

it("a function writes before it has answered, since it may never run again", async () => {
  const { key } = await createKey(keys, { tenant: "team-a", scopes: ["write"], nowMs: 0 });
  const handler = createLambdaHandler("ingest", (host) => ({ ...dependencies, writes: ledgerOf(), ...host }));
  const answer: any = await handler(
    {
      ...{ httpMethod: "POST", path: "/v1/events/transactions", body: JSON.stringify(events), isBase64Encoded: false },
      headers: { "x-api-key": key, "content-type": "application/json" },
      requestContext: { requestId: "r1" },
    },
    {},
  );
  expect([answer.statusCode, written().map(([, , , what]) => what)]).toEqual([207, [target]]);
});

it("a historical job is recorded as a change, with who started it", async () => {
  const { key, record } = await createKey(keys, { tenant: "team-a", scopes: ["read"], nowMs: 0 });
  const reply = await createApp({ ...dependencies, historical: {} as never }).request("/v1/features/historical", {
    method: "POST",
    headers: { "x-api-key": key, "content-type": "application/json" },
    body: "{}",
  });
  expect(reply.status).toBe(400);
  expect(written()).toEqual([["team-a", `key ${record.id}`, "features.historical", "/v1/features/historical"]]);
});
