/** Erasures over everything that holds entities: what goes, what stays, what may end them anywhere, and what cannot bring anybody back. */

import { ScanCommand } from "@aws-sdk/client-dynamodb";
import { PutObjectCommand } from "@aws-sdk/client-s3";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Erasure, proofOf } from "../../../../adapters/erasure/erasures.ts";
import { hash64 } from "../../../../adapters/hash.ts";
import { LateQueue } from "../../../../adapters/late-queue/late-queue.ts";
import { mountArchive } from "../../../../adapters/offline/archive-view.ts";
import { DuckSession, sqlText } from "../../../../adapters/offline/duckdb.ts";
import { entityEventsSql } from "../../../../adapters/offline/entity-events.ts";
import { createSnapshotReader } from "../../../../adapters/snapshot/snapshot-reader.ts";
import { SnapshotTable } from "../../../../adapters/snapshot/snapshot-table.ts";
import { createReader } from "../../../../adapters/valkey/reader.ts";
import { plan } from "../../../../features/plan.ts";
import { replant, runErasure } from "../../../../functions/shared/erasure/erasure.ts";
import { lookAtRefused } from "../../../../functions/shared/erasure/erasure-guard.ts";
import { type ErasureRequest, newErasure } from "../../../../functions/shared/erasure/erasure-request.ts";
import { eraseDue } from "../../../../functions/shared/erasure/erasure-rounds.ts";
import { GUARD_MS } from "../../../../functions/shared/erasure/erasure-steps.ts";
import { snapshotRound } from "../../../../functions/shared/snapshot/snapshot-round.ts";
import {
  type ErasureWorld,
  MINUTE,
  startErasureWorld,
  TABLES,
  type WorldEvent,
} from "../../../support/erasure-world.ts";

let world: ErasureWorld;
let reader: ReturnType<typeof createReader>;
let endings = 0;

beforeAll(async () => {
  world = await startErasureWorld();
  reader = createReader(plan, { ...world.at, timeoutMs: 5_000 });
});
afterAll(async () => {
  await reader?.close();
  await world?.stop();
});

const eventsOf = (card: string, merchant: string, count: number, from = 1): WorldEvent[] =>
  Array.from({ length: count }, (_, i) => ({
    id: `${card}-${from + i}`,
    ...{ card, merchant, device: "device-1" },
    atMs: world.nowMs - (30 - i) * MINUTE,
  }));

/** A tenant's usual state: some of it compacted, some not, and all that else may hold a card. */
async function populate(tenant: string): Promise<void> {
  await world.deliver(tenant, [...eventsOf("card-x", "m1", 3), ...eventsOf("card-other", "m1", 2)]);
  await world.label(tenant, ["card-x-1", "card-other-1"]);
  await world.compact(tenant, "transactions");
  await world.compact(tenant, "labels");
  await world.deliver(tenant, [...eventsOf("card-x", "m1", 2, 10), ...eventsOf("card-x", "m1", 1)]);
  await world.label(tenant, ["card-x-10", "card-other-2"]);
  await world.scatter(tenant, "card-x", "m1");
}

const request = (tenant: string, more: Partial<ErasureRequest> = {}): ErasureRequest => ({
  ...{ tenant, subjects: [{ entity: "card", id: "card-x" }], block: false, by: "an operator", ...more },
});
async function begin(tenant: string, more: Partial<ErasureRequest> = {}): Promise<Erasure> {
  const erasure = newErasure(plan, request(tenant, more), Date.now(), `e${endings++}`);
  await world.erasures.create(erasure);
  return erasure;
}
const portsOf = (more: Partial<Parameters<typeof runErasure>[0]> = {}) => ({
  ...world.ports(),
  ...{ erasures: world.erasures, clock: Date.now, confirmMs: 0, ...more },
});
/** Until it is found nowhere any more. */
async function finish(erasure: Erasure, more: Parameters<typeof portsOf>[0] = {}): Promise<Erasure> {
  let record = erasure;
  for (let run = 0; record.state !== "guarding"; run++) {
    expect(run).toBeLessThan(10);
    record = await runErasure(portsOf(more), record, Number.POSITIVE_INFINITY);
  }
  return record;
}

/** What the archive gives an entity: what builds, joins and repairs are made of. */
async function gives(tenant: string, entity: string) {
  const session = await DuckSession.open({ folder: world.folder });
  try {
    const stream = plan.streams.find(({ name }) => name === "transactions")!;
    await mountArchive(session, world.mirror, { tenant, stream, fromMs: 0, toMs: 9e15 }, "archive");
    const rows = await session.rows(
      `SELECT id, identity, event_time_ms, visible_ms, to_json(fields) AS fields FROM (${entityEventsSql(plan, entity)}) ORDER BY id, identity`,
    );
    return rows.map((row) => ({
      ...(row as { id: string; identity: string }),
      fields: JSON.parse(row["fields"]) as Record<string, unknown>,
    }));
  } finally {
    session.close();
  }
}
/** What `merchant_risk` reads: chargebacks by merchant. */
async function chargebacks(tenant: string): Promise<number> {
  const session = await DuckSession.open({ folder: world.folder });
  try {
    for (const name of ["transactions", "labels"]) {
      const stream = plan.streams.find((each) => each.name === name)!;
      await mountArchive(session, world.mirror, { tenant, stream, fromMs: 0, toMs: 9e15 }, name);
    }
    const [{ count }] = await session.rows(`
      SELECT count(DISTINCT l.identity) AS count FROM labels AS l JOIN transactions AS t ON t.fields.transaction_id = l.fields.transaction_id
      WHERE t.fields.merchant_id = ${sqlText("m1")} AND l.fields.is_fraud AND l.fields.source = 'chargeback'`);
    return Number(count);
  } finally {
    session.close();
  }
}
async function online(tenant: string, entity: string, id: string, feature: string) {
  const [{ values }] = await reader.read([{ tenant, entity, id, features: [feature] }], Date.now());
  return values[0].value;
}
/** Where an id, or an event of it, is written down. */
async function holders(tenant: string, text = /(?<![\w])card-x(?!\w)/): Promise<string[]> {
  const found = await world.everything(tenant);
  return [...found].flatMap(([where, content]) => (text.test(content) ? [where] : []));
}

describe("an erasure", () => {
  it("takes a card out of every place, and leaves others all that they had", async () => {
    for (const tenant of ["acme", "other"]) await populate(tenant);
    const before = await gives("acme", "merchant");
    const [others, risk] = [await world.everything("other"), await chargebacks("acme")];
    const held = await holders("acme");
    for (const place of [
      "raw/",
      "compacted/",
      "values/",
      "inference-log/",
      "quarantine/",
      "table late",
      "table snapshots",
    ]) {
      expect(
        held.filter((where) => where.includes(place)),
        place,
      ).not.toEqual([]);
    }
    expect(risk).toBe(4);
    expect(await online("acme", "card", "card-x", "card_activity:tx_count_1h")).toBe(5);

    const record = await finish(await begin("acme"));

    expect(await online("acme", "card", "card-x", "card_activity:tx_count_1h")).toBeNull();
    expect(await online("acme", "merchant", "m1", "merchant_activity:tx_count_1h")).toBe(7);
    expect(await gives("acme", "card")).toEqual((await gives("acme", "card")).filter(({ id }) => id === "card-other"));
    // Files that were made for users stay theirs, and are told of; a refused record that only begins like it stays.
    expect((await holders("acme")).map((where) => where.replace(/^archive\//, ""))).toEqual([
      "historical/tenant=acme/job=1/set.parquet",
      "historical/tenant=acme/job=1/spine.json",
    ]);
    expect(record.holding).toEqual([
      "s3://archive/historical/tenant=acme/job=1/set.parquet",
      "s3://archive/historical/tenant=acme/job=1/spine.json",
    ]);
    const after = await gives("acme", "merchant");
    expect(after.map(({ fields: _, ...row }) => row)).toEqual(before.map(({ fields: _, ...row }) => row));
    for (const [i, { fields, identity }] of after.entries()) {
      const given = before[i].fields;
      const kept = { merchant_id: "m1", amount: given["amount"], status: given["status"], device_id: "device-1" };
      expect(fields).toMatchObject(kept);
      if (given["card_id"] !== "card-x") expect(fields).toEqual(given);
      else expect(fields).toMatchObject({ card_id: null, transaction_id: identity, currency: null });
    }
    expect(await chargebacks("acme")).toBe(risk);
    expect(await world.everything("other")).toEqual(others);
    expect(await online("other", "card", "card-x", "card_activity:tx_count_1h")).toBe(5);
  });

  it("leaves a record that proves it, and does not name anybody", async () => {
    const [record] = await world.erasures.list("acme", 1);
    expect(record).toMatchObject({ state: "guarding", round: 2, requestedBy: "an operator", error: null });
    const rows = Object.fromEntries(
      record.looks.filter(({ round }) => round === 1).map((each) => [each.step, each.rows]),
    );
    expect(rows).toMatchObject({
      // Raw objects that were compacted are there for a while yet.
      "raw transactions": 6,
      "compacted transactions": 3,
      "raw labels": 2,
      "compacted labels": 1,
      ...{ values: 1, "inference-log": 2, quarantine: 2, late: 1, snapshots: 2 },
    });
    expect(rows["online"]).toBeGreaterThan(3);
    for (const { step, round, rows: again } of record.looks) if (round === 2) expect([step, again]).toEqual([step, 0]);
    expect(record.affected).toEqual([
      "merchant_activity:cards_1h",
      "device_activity:cards_1h",
      "device_activity:cards_24h",
    ]);
    expect(record.hashes).toEqual([proofOf(record.salt, "acme", { entity: "card", id: "card-x" })]);
    // Until nothing can bring it back the ids are needed, to refuse it.
    expect(record.waitUntilMs).toBe(record.requestedMs + GUARD_MS);
    const done = await runErasure(portsOf({ clock: () => record.requestedMs + GUARD_MS }), record, 9e15);
    expect(done).toMatchObject({ state: "done", subjects: null });
    expect(JSON.stringify(await world.erasures.get("acme", record.id))).not.toContain("card-x");
    expect((await world.erasures.open()).map(({ tenant }) => tenant)).not.toContain("acme");
  });

  it("of nobody is a record that nothing was found", async () => {
    const record = await finish(await begin("nobody"));
    expect(record.looks.filter(({ step, rows }) => rows > 0 && !step.startsWith("online"))).toEqual([]);
    expect(record).toMatchObject({ state: "guarding", holding: [] });
  });

  it("tells of training sets that hold it, and of no other tenant's", async () => {
    const subjects = [{ entity: "card", id: "card-in-sets" }];
    const holds = JSON.stringify([{ card_id: "card-in-sets" }]);
    for (const [set, manifest] of [
      ["own", JSON.stringify({ tenant: "sets" })],
      ["of-another", JSON.stringify({ tenant: "other-sets" })],
      ["cut-off", null],
    ] as const) {
      if (manifest !== null) await world.putTraining(`training-sets/${set}/manifest.json`, manifest);
      await world.putTraining(`training-sets/${set}/part-0.json`, holds);
    }
    await world.putTraining("training-sets/own/part-1.json", JSON.stringify([{ card_id: "card-other" }]));
    const { holding } = await finish(await begin("sets", { subjects }));
    const named = ["cut-off", "own"].map((set) => `s3://training/training-sets/${set}/part-0.json`);
    expect(holding).toEqual(named);
  });

  it("that is killed at any call goes on, and ends as one that was not", async () => {
    await populate("killed");
    const before = await gives("killed", "merchant");
    let record = await begin("killed");
    let kills = 0;
    for (let allowed = 1; record.state !== "guarding"; allowed = Math.ceil(allowed * 1.3)) {
      let left = allowed;
      const mortal = <C extends { send: (...args: any[]) => any }>(client: C): C =>
        ({
          send: (...args: any[]) => {
            if (left-- <= 0) throw new Error("killed");
            return client.send(...args);
          },
        }) as unknown as C;
      const ports = { ...world.ports(mortal(world.s3), mortal(world.dynamodb)), erasures: world.erasures };
      try {
        record = await runErasure({ ...ports, clock: Date.now, confirmMs: 0 }, record, 9e15);
      } catch (error) {
        expect(String((error as Error).cause ?? error)).toContain("killed");
        kills++;
        record = (await world.erasures.get("killed", record.id))!;
      }
      expect(allowed).toBeLessThan(10_000);
    }
    expect(kills).toBeGreaterThan(8);
    expect((await holders("killed")).filter((where) => !where.includes("historical/"))).toEqual([]);
    expect(await chargebacks("killed")).toBe(4);
    const after = await gives("killed", "merchant");
    expect(after.map(({ fields: _, ...row }) => row)).toEqual(before.map(({ fields: _, ...row }) => row));
  });

  it("whose first step had to wait takes what has come until then, too: the archive gives what the store holds", async () => {
    const erasure = newErasure(plan, request("waited"), Date.now() - 15 * MINUTE, `e${endings++}`);
    await world.erasures.create(erasure);
    const [meanwhile, other] = [
      { id: "meanwhile", card: "card-x", merchant: "m1", atMs: erasure.beforeMs + 2 * MINUTE },
      { id: "other", card: "card-other", merchant: "m1", atMs: erasure.beforeMs + 2 * MINUTE },
    ];
    await world.deliver("waited", [meanwhile, other]);
    expect(await online("waited", "card", "card-x", "card_activity:tx_count_1h")).toBe(1);
    const { beforeMs } = await finish(erasure);
    expect(beforeMs).toBeGreaterThan(meanwhile.atMs + 5 * MINUTE);
    expect(await online("waited", "card", "card-x", "card_activity:tx_count_1h")).toBeNull();
    expect((await gives("waited", "card")).map(({ id }) => id)).toEqual(["card-other"]);
    expect(await gives("waited", "merchant")).toHaveLength(2);
  });

  it("stops when its time is up, and goes on at the next object", async () => {
    await populate("slow");
    let record = await begin("slow");
    let runs = 0;
    for (; record.state !== "guarding"; runs++) {
      record = await runErasure(portsOf(), record, 0);
      expect(runs).toBeLessThan(200);
    }
    expect(runs).toBeGreaterThan(20);
    expect((await holders("slow")).filter((where) => !where.includes("historical/"))).toEqual([]);
  });

  it("is done by one of two that run at once", async () => {
    await populate("twice");
    const erasure = await begin("twice");
    const two = await Promise.all([1, 2].map(() => runErasure(portsOf(), erasure, 9e15)));
    const record = await finish((await world.erasures.get("twice", two[0].id))!);
    expect(record.looks.filter(({ round, step }) => round === 1 && step === "online")).toHaveLength(1);
    expect((await holders("twice")).filter((where) => !where.includes("historical/"))).toEqual([]);
  });

  it("looks again for as long as a look finds something: what a batch that was under way has written", async () => {
    await world.deliver("zombie", eventsOf("card-x", "m1", 2));
    const first = await runErasure(portsOf(), await begin("zombie"), 9e15);
    expect(first).toMatchObject({ state: "confirming", round: 1 });
    // Applied before, archived after: the object of an invocation that took its time.
    const old = await world.everything("other");
    const [key] = [...old.keys()].filter((where) => where.includes("raw/tenant=other/stream=transactions"));
    await world.copy(
      key.replace(/^archive\//, ""),
      key.replace(/^archive\//, "").replaceAll("tenant=other", "tenant=zombie"),
    );
    const second = await runErasure(portsOf(), first, 9e15);
    expect(second).toMatchObject({ state: "confirming", round: 2 });
    expect(await finish(second)).toMatchObject({ state: "guarding", round: 3 });
    expect(await holders("zombie")).toEqual([]);
  });

  it("names what cannot be read, and goes on", async () => {
    await world.put("raw/tenant=damaged/stream=transactions/dt=2026-01-01/hh=00/1-s-x.ndjson.zst", "no archive");
    const record = await finish(await begin("damaged"));
    const look = record.looks.find(({ step, round }) => step === "raw transactions" && round === 1)!;
    expect(look.unreadable).toEqual(["raw/tenant=damaged/stream=transactions/dt=2026-01-01/hh=00/1-s-x.ndjson.zst"]);
  });
});

/** What was set aside after the last look, and is found later. */
describe("a refused record", () => {
  const DAY = 24 * 60 * MINUTE;
  /** It asks the store for nothing, so no tombstone meets it. Out of a backlog: it arrived before the erasure. */
  const refused = (card: string): WorldEvent => ({ id: "", card, merchant: "m1", atMs: world.nowMs });
  const look = (atMs: number) =>
    lookAtRefused(
      {
        ...{ erasures: world.erasures, quarantine: { s3: world.s3, bucket: "quarantine" }, clock: () => atMs },
        onFailure: (_, error) => expect(error).toBeNull(),
      },
      9e15,
    );
  const now = async (tenant: string) => (await world.erasures.list(tenant, 1))[0]!;

  it("that comes after the last look has everything looked through again, within a day", async () => {
    const tenant = "backlog";
    await world.deliver(tenant, eventsOf("card-x", "m1", 2));
    const { looks } = await finish(await begin(tenant));
    await world.deliver(tenant, [refused("card-other"), refused("card-x")]);
    expect((await holders(tenant)).map((where) => where.split("/")[1])).toEqual(["raw", "quarantine"]);
    const lookedMs = looks.find(({ round, step }) => round === 2 && step === "online")!.finishedMs;
    expect(await look(lookedMs + DAY - 1)).toBe(0);
    expect(await now(tenant)).toMatchObject({ state: "guarding" });
    expect(await look(lookedMs + DAY + MINUTE)).toBe(1);
    // What was promised has been kept: this is no erasure that is overdue.
    expect(await now(tenant)).toMatchObject({ state: "confirming", confirmedMs: expect.any(Number) });
    const again = portsOf({ clock: () => lookedMs + DAY + 2 * MINUTE });
    const third = await runErasure(again, await now(tenant), 9e15);
    expect(third).toMatchObject({ state: "confirming", round: 3 });
    expect(await runErasure(again, third, 9e15)).toMatchObject({ state: "guarding", round: 4 });
    expect(await holders(tenant)).toEqual([]);
    expect(await holders(tenant, /card-other/)).toHaveLength(2);
    // And then not before another day is over.
    expect(await look(lookedMs + 2 * DAY)).toBe(0);
  });

  it("in an object that somebody has changed by hand is named, and holds nothing up", async () => {
    const Key = "quarantine/tenant=by-hand/stream=transactions/dt=2026-01-01/notes.txt";
    for (const Body of ["see below", '{"arrival_ms":1}', "null"]) {
      await world.s3.send(new PutObjectCommand({ Bucket: "quarantine", Key, Body }));
      const record = await finish(await begin("by-hand"));
      const { unreadable } = record.looks.find(({ step, round }) => step === "quarantine" && round === 1)!;
      expect(unreadable).toEqual([Key]);
    }
    expect(await look(Date.now() + 4 * DAY)).toBe(0);
  });
});

describe("who is erased does not come back", () => {
  it("by the broker, which still has the records", async () => {
    const events = eventsOf("card-x", "m1", 3);
    await world.deliver("broker", events);
    await finish(await begin("broker"));
    await world.deliver("broker", events);
    expect(await online("broker", "card", "card-x", "card_activity:tx_count_1h")).toBeNull();
    expect(await online("broker", "merchant", "m1", "merchant_activity:tx_count_1h")).toBe(3);
    expect(await holders("broker")).toEqual([]);
    expect(await gives("broker", "card")).toEqual([]);
  });

  it("into a store that has lost its tombstone, once it is planted again", async () => {
    const events = eventsOf("card-x", "m1", 3);
    await world.deliver("lost", events);
    const record = await finish(await begin("lost"));
    await world.wipe("lost", "card", "card-x");
    await world.deliver("lost", events.slice(0, 1));
    expect(await online("lost", "card", "card-x", "card_activity:tx_count_1h")).toBe(1);
    expect(await replant(portsOf())).toBeGreaterThan(0);
    expect(await online("lost", "card", "card-x", "card_activity:tx_count_1h")).toBeNull();
    await world.deliver("lost", events);
    expect(await online("lost", "card", "card-x", "card_activity:tx_count_1h")).toBeNull();
    expect(record.state).toBe("guarding");
  });

  it("out of a snapshot from before, once the store is told to be another one", async () => {
    await world.deliver("restored", eventsOf("card-x", "m1", 3));
    const snapshot = await world.hashesOf("restored", "card", "card-x");
    expect(snapshot.length).toBeGreaterThan(0);
    const record = await finish(await begin("restored"));
    let identity = "1 before";
    const due = (more = {}) =>
      eraseDue(
        { ...portsOf(), storeIdentity: async () => identity, onFailure: (_, error) => expect(error).toBeNull() },
        9e15,
        more,
      );
    await due();
    await world.load("restored", "card", "card-x", snapshot);
    expect(await online("restored", "card", "card-x", "card_activity:tx_count_1h")).toBe(3);
    expect(await due()).toMatchObject({ replanted: 0 });
    identity = "2 after";
    expect((await due()).replanted).toBeGreaterThan(0);
    expect(await online("restored", "card", "card-x", "card_activity:tx_count_1h")).toBeNull();
    // Before a replay that does not wait for the schedule.
    await world.load("restored", "card", "card-x", snapshot);
    expect((await due({ replantOnly: true })).replanted).toBeGreaterThan(0);
    await world.deliver("restored", eventsOf("card-x", "m1", 3));
    expect(await online("restored", "card", "card-x", "card_activity:tx_count_1h")).toBeNull();
    expect(await due()).toMatchObject({ replanted: 0, worked: 0 });
    expect(record.state).toBe("guarding");
  });

  it("while a failure of one holds no other up, and says how long the oldest waits", async () => {
    const [first, second] = [await begin("fails"), await begin("goes-on")];
    const failures: string[] = [];
    const report = await eraseDue(
      {
        ...portsOf({ confirmMs: 1_000_000, clock: () => first.requestedMs + 5_000 }),
        applier: async () => {
          if (failures.length === 0 && (await world.erasures.get("goes-on", second.id))!.version === 1) {
            throw new Error("no store");
          }
          return world.store.applier;
        },
        storeIdentity: async () => "2 after",
        onFailure: ({ tenant }) => failures.push(tenant),
      },
      9e15,
    );
    expect(failures).toHaveLength(1);
    expect(report).toMatchObject({ failed: 1, oldestMs: expect.any(Number) });
    expect(report.oldestMs).toBeGreaterThanOrEqual(5_000);
    const [failed] = failures;
    const [id, other, otherId] = failed === "fails" ? [first.id, "goes-on", second.id] : [second.id, "fails", first.id];
    expect(await world.erasures.get(failed, id)).toMatchObject({ error: { code: "internal" }, step: "online" });
    expect(await world.erasures.get(other, otherId)).toMatchObject({ state: "confirming", error: null });
  });

  it("but late events of who comes back wait for their repair", async () => {
    const erasure = await begin("returned");
    const late = new LateQueue({ table: TABLES.late, dynamodb: world.dynamodb });
    const itemAt = (eventTimeMs: number) => ({
      ...{ tenant: "returned", entity: "card", id: "card-x", stream: "transactions", arrivalMs: eventTimeMs },
      ...{ identity: hash64(`at ${eventTimeMs}`), eventId: "any", eventTimeMs },
      baseIndex: Math.floor(eventTimeMs / MINUTE),
    });
    const [gone, waits] = [itemAt(erasure.beforeMs - 1), itemAt(erasure.beforeMs + 10 * MINUTE)];
    await late.put([gone, waits]);
    await finish(erasure);
    const { Items = [] } = await world.dynamodb.send(new ScanCommand({ TableName: TABLES.late, ConsistentRead: true }));
    const left = Items.filter(({ tenant }) => tenant!.S === "returned").map(({ identity }) => identity!.S);
    expect(left).toEqual([waits.identity]);
  });

  it("but who comes back is a new customer, unless blocked", async () => {
    const open = await finish(await begin("new"));
    await finish(await begin("blocked", { block: true }));
    const later: WorldEvent = { id: "later-1", card: "card-x", merchant: "m1", atMs: Date.now() };
    for (const tenant of ["new", "blocked"]) await world.deliver(tenant, [later]);
    // Within the tile of the erasure it is refused still; a later one is not.
    expect(await online("new", "card", "card-x", "card_activity:tx_count_1h")).toBeNull();
    const at = await reader.read(
      [{ tenant: "new", entity: "card", id: "card-x", features: ["card_activity:tx_count_1h"] }],
      open.beforeMs + MINUTE,
    );
    expect(at[0].values[0].value).toBeNull();
    await world.deliverAt("new", { ...later, id: "later-2", atMs: open.beforeMs });
    await world.deliverAt("blocked", { ...later, id: "later-2", atMs: open.beforeMs });
    const counts = await Promise.all(
      ["new", "blocked"].map(async (tenant) => {
        const features = ["card_activity:tx_count_1h"];
        const [{ values }] = await reader.read(
          [{ tenant, entity: "card", id: "card-x", features }],
          open.beforeMs + MINUTE,
        );
        return values[0].value;
      }),
    );
    expect(counts).toEqual([1, null]);
    expect(await holders("blocked", /card-x|later/)).toEqual([]);
  });

  // Last: a round walks the whole store, other tests' tombstones included.
  it("and rounds of snapshots, which go on meanwhile, neither keep it from its end nor lose who came back", async () => {
    const table = new SnapshotTable({ table: TABLES.snapshots, dynamodb: world.dynamodb });
    const { connection, controls } = world.store;
    const round = () => snapshotRound({ plan, connection, controls, table, clock: Date.now }, Number.POSITIVE_INFINITY);
    await world.deliver("rounds", eventsOf("card-x", "m1", 3));
    expect(await round()).toMatchObject({ outcome: "complete" });
    let record = await runErasure(portsOf(), await begin("rounds"), 9e15);
    expect(record.looks.find(({ step }) => step === "snapshots")).toMatchObject({ rows: 1 });
    const { beforeMs } = record;
    await world.deliverAt("rounds", { id: "back-1", card: "card-x", merchant: "m1", atMs: beforeMs });
    for (let run = 0; record.state !== "guarding"; run++) {
      expect(await round()).toMatchObject({ outcome: "complete" });
      expect(run).toBeLessThan(5);
      record = await runErasure(portsOf(), record, 9e15);
    }
    expect(record).toMatchObject({ round: 2, error: null });
    // As of the last round: reads that go by snapshots alone.
    const features = ["card_activity:tx_count_1h"];
    const [answer] = await createSnapshotReader(plan, table, Date.now).read(
      [{ tenant: "rounds", entity: "card", id: "card-x", features }],
      beforeMs + MINUTE,
      20_000,
    );
    expect("values" in answer! && answer.values[0]!.value).toBe(1);
  });
});
