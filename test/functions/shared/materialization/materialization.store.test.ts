/** Batch views against a real store, archive and control table: runs, repeated and in any order, and what they leave. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DeleteObjectCommand, PutObjectCommand } from "@aws-sdk/client-s3";
import { describe, expect, it } from "vitest";
import { forEachLimited } from "../../../../adapters/aws/durable-call.ts";
import { BatchRuns } from "../../../../adapters/control-table/batch-runs.ts";
import { hash64 } from "../../../../adapters/hash.ts";
import { ArchiveMirror } from "../../../../adapters/offline/mirror.ts";
import {
  packedLine,
  readValues,
  VALUES_PREFIX,
  type ValuesRow,
  valuesFolder,
  writeLines,
} from "../../../../adapters/pushed/values-format.ts";
import { BUCKETS, bucketOf, controlKey, pushedKey } from "../../../../adapters/valkey/layout.ts";
import { packValues } from "../../../../adapters/valkey/packed.ts";
import { createReader } from "../../../../adapters/valkey/reader.ts";
import { compile } from "../../../../core/compile/compile.ts";
import * as d from "../../../../core/definition.ts";
import { floorTo } from "../../../../core/tiles/window.ts";
import {
  dueRun,
  type MaterializePorts,
  materialize,
  materializeDue,
  stepsOf,
} from "../../../../functions/shared/materialization/materialization.ts";
import {
  PUSHED,
  type RestorePorts,
  restorePushed,
} from "../../../../functions/shared/materialization/restore-pushed.ts";
import { older } from "../../../support/build-plans.ts";
import { NOW, type Payment, useWorld, type WorldStream } from "../../../support/build-world.ts";
import { card, contracts, payments, shop } from "../../../support/fixture-plan.ts";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
/** The end of the newest whole day. */
const END = floorTo(NOW - 200_000, DAY);

const SQL = `
SELECT p.card, {to_ms} AS event_time_ms, count(*) AS n, CAST(sum(CAST(p.amount AS decimal(18, 2))) AS double) AS spend
FROM payments AS p WHERE p.event_time_ms >= {to_ms} - 2 * 86400000 GROUP BY p.card`;
const batch = (name: string, sql = SQL, features: Record<string, d.RequestType> = { n: "long", spend: "double" }) =>
  d.batchFeatureView(name, { entity: card, sql, every: "1d", lookback: "3d", ttl: "4d", owner: "tests", features });
const cards = d.featureView("cards", {
  ...{ entity: card, source: payments, ttl: "3000d", owner: "tests" },
  features: { n: d.count().over("1h", "24h", "lifetime"), last_country: d.last("country") },
});
const planOf = (...batchViews: ReturnType<typeof batch>[]) =>
  compile(
    { entities: [card, shop], streams: [payments], views: [cards], batchViews, services: [] },
    contracts,
    older.lock,
    hash64,
  );
const spending = planOf(batch("spending"));

const world = useWorld();
let stream: WorldStream;
let tenants = 0;
let ids = 0;

const payment = (cardId: string, timeMs: number, amount: number | null): Payment => ({
  ...{ id: `m${ids++}`, timeMs, card: cardId, shop: null, amount, country: "NO" },
});

async function begin() {
  const names = [`ma${tenants++}`, `mb${tenants++}`];
  stream = await world.begin(names);
  await stream.deploy(older, NOW - 4 * DAY);
  return names;
}
const portsOf = (compiled: typeof spending): MaterializePorts => ({
  ...stream.ports(compiled),
  runs: new BatchRuns({ table: stream.tableName, dynamodb: stream.dynamodb }),
  s3: stream.s3,
});

const hex = (mark: string) => Buffer.from(mark).toString("hex");
/** What was pushed into these buckets has been lost. */
const markAll = (mark = "lost", buckets: readonly number[] = [...Array(BUCKETS).keys()]) =>
  stream.connection.demand(
    buckets.map((bucket) => {
      const key = controlKey(bucket);
      return { key, name: "HSET", args: [key, "p", mark] };
    }),
  );

async function read({ plan }: typeof spending, tenant: string, id: string, t = NOW) {
  const reader = createReader(plan, { host: world.valkey.host, port: world.valkey.port, timeoutMs: 10_000 });
  try {
    const features = plan.batchViews[0].features.map(({ name }) => name);
    const [{ values }] = await reader.read([{ tenant, entity: "card", id, features }], t);
    return values.map(({ value, status, eventTimeMs }) => [value, status, eventTimeMs]);
  } finally {
    await reader.close();
  }
}
async function archived(ports: MaterializePorts, tenant: string, view = "spending"): Promise<ValuesRow[]> {
  const objects = await ports.mirror.list(valuesFolder(tenant, view));
  const rows = (await Promise.all(objects.map(async ({ key }) => readValues((await ports.mirror.get(key))!)))).flat();
  return rows.filter((row) => "values" in row);
}

describe("a run", () => {
  it("gives each tenant's entities what was visible before its end, in store and archive", async () => {
    const [a, b] = await begin();
    await stream.imports(a, [
      payment("c1", END - DAY, 10.1),
      payment("c1", END - HOUR, 0.2),
      // Of the day before, outside the query's two days; of after the end; and visible after the end only.
      payment("c1", END - 2 * DAY - 1, 1000),
      payment("c1", END, 1000),
      payment("c1", END - 500, 1000),
      payment("c2", END - 5, null),
    ]);
    const twice = payment("c3", END - 2 * HOUR, 3);
    await stream.imports(a, [twice]);
    await stream.imports(a, [twice]);
    await stream.imports(b, [payment("c1", END - HOUR, 7)]);
    const ports = portsOf(spending);
    const before = Date.now();
    const report = await materialize(ports, { view: "spending", fromMs: END - DAY, toMs: END });
    expect(report).toEqual({ view: "spending", fromMs: END - DAY, toMs: END, rows: 3, withoutKey: 0, tenants: [a, b] });
    const at = (n: number | null, spend: number | null) => [
      [n, n === null ? "NOT_FOUND" : "PRESENT", n === null ? null : END],
      [spend, n === null ? "NOT_FOUND" : spend === null ? "NULL_VALUE" : "PRESENT", n === null ? null : END],
    ];
    expect(await read(spending, a, "c1")).toEqual(at(2, 10.3));
    expect(await read(spending, a, "c3")).toEqual(at(1, 3));
    expect(await read(spending, b, "c1")).toEqual(at(1, 7));
    // Its only payment became visible after the end.
    expect(await read(spending, a, "c2")).toEqual(at(null, null));
    const rows = await archived(ports, a);
    expect(rows.map(({ id, values }) => [id, values])).toEqual([
      ["c1", { "n:int64": 2, "spend:double": 10.3 }],
      ["c3", { "n:int64": 1, "spend:double": 3 }],
    ]);
    for (const { visibleMs } of rows) expect(visibleMs).toBeGreaterThanOrEqual(before - 5);
    expect(await ports.runs.get("spending")).toMatchObject({ toMs: END, rows: 3, epoch: 1 });
  });

  it("repeated gives the same, and one of an earlier day replaces nothing newer", async () => {
    const [a] = await begin();
    await stream.imports(a, [payment("c1", END - DAY - HOUR, 5), payment("c1", END - HOUR, 6)]);
    const ports = portsOf(spending);
    await materialize(ports, { view: "spending", fromMs: END - DAY, toMs: END });
    const newest = await read(spending, a, "c1");
    const first = await archived(ports, a);
    // An event that came late changes nothing of a run that has ended before it became visible.
    await stream.imports(a, [payment("c1", END - 600, 1000)]);
    await materialize(ports, { view: "spending", fromMs: END - 2 * DAY, toMs: END - DAY });
    await materialize(ports, { view: "spending", fromMs: END - DAY, toMs: END });
    expect(await read(spending, a, "c1")).toEqual(newest);
    expect(await ports.runs.get("spending")).toMatchObject({ toMs: END });
    const values = (await archived(ports, a)).filter(({ eventTimeMs }) => eventTimeMs === END).map((row) => row.values);
    expect(values).toEqual([first[0].values, first[0].values]);
  });

  it.each([
    [
      "a column that is missing",
      SQL.replace("AS spend", "AS spent"),
      "batch_column",
      /yields card, event_time_ms, n, spent, and no spend$/,
    ],
    ["a mistake in SQL", SQL.replace("SELECT", "SELECT ,"), "offline_query", /Parser Error/],
    ["a type", SQL.replace("count(*) AS n", "'x' AS n"), "batch_column", /yields n as VARCHAR, which is not a int64/],
    [
      "a column too many",
      SQL.replace("count(*) AS n", "count(*) AS n, 1 AS m"),
      "batch_column",
      /yields m, which are no features/,
    ],
    ["a time ahead", SQL.replace("{to_ms} AS event", "{to_ms} + 864000000 AS event"), "batch_time", /later than/],
    [
      "no time",
      SQL.replace("{to_ms} AS event", "CAST(NULL AS bigint) AS event"),
      "batch_time",
      /1 rows have no event_time_ms/,
    ],
    [
      "no number",
      SQL.replace(/CAST\(sum.*?AS double\) AS spend/, "CAST('nan' AS double) AS spend"),
      "batch_value",
      /spend of 1 rows is no finite number/,
    ],
  ])(
    "is refused for %s, and pushes nothing",
    async (_, sql, code, message) => {
      const [a] = await begin();
      await stream.imports(a, [payment("c1", END - HOUR, 6)]);
      const { plan } = spending;
      const broken = { ...spending, plan: { ...plan, batchViews: [{ ...plan.batchViews[0], sql }] } };
      const ports = portsOf(broken);
      const run = materialize(ports, { view: "spending", fromMs: END - DAY, toMs: END });
      await expect(run).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
      expect(await archived(ports, a)).toEqual([]);
      expect(await ports.runs.get("spending")).toBeNull();
    },
    20_000,
  );
});

describe("the schedule", () => {
  it("runs what is due, makes up for what was missed, and goes on when a view fails", async () => {
    const [a] = await begin();
    await stream.imports(a, [payment("c1", END - HOUR, 6)]);
    const both = planOf(batch("broken", SQL.replace("p.amount", "p.amounts")), batch("spending"));
    const ports = portsOf(both);
    await ports.runs.complete("spending", { toMs: END - 3 * DAY, finishedMs: 0, rows: 0, epoch: 1 });
    const [broken, good] = (await materializeDue(ports, Number.POSITIVE_INFINITY)).views;
    expect(good).toMatchObject({ view: "spending", runs: 3, rows: 1, lateMs: 0, error: null });
    expect(good.lagMs).toBeLessThan(DAY + HOUR);
    expect(broken).toMatchObject({ view: "broken", runs: 0, lagMs: null, error: { code: "offline_query" } });
    expect(broken.lateMs).toBeGreaterThan(0);
    expect((await materializeDue(ports, Number.POSITIVE_INFINITY)).views[1]).toMatchObject({ runs: 0, error: null });
  });

  it("refuses to read more than the disk takes before anything is fetched or pushed, and is made up for where there is room", async () => {
    const [a] = await begin();
    await stream.imports(a, [payment("c1", END - HOUR, 6)]);
    const both = planOf(batch("spending"), batch("narrow", SQL.replace("2 * 86400000", "3600001")));
    let room = 10;
    const folder = mkdtempSync(join(tmpdir(), "freshet-small-disk-"));
    const mirror = new ArchiveMirror({ s3: stream.s3, bucket: "archive", folder, room: () => room, repair: "as told" });
    const ports = { ...portsOf(both), mirror };
    const refused = { code: "range_too_large", repair: "as told" };
    const range = { fromMs: END - DAY, toMs: END, tenant: a };
    await expect(materialize(ports, { view: "spending", ...range })).rejects.toMatchObject(refused);
    const { views } = await materializeDue(ports, Number.POSITIVE_INFINITY);
    for (const view of views) expect(view).toMatchObject({ runs: 0, rows: 0, lagMs: null, error: refused });
    expect(await archived(ports, a)).toEqual([]);
    expect((await read(both, a, "c1")).map(([value]) => value)).toEqual([null, null]);
    room = Number.POSITIVE_INFINITY;
    expect(await materialize(ports, { view: "spending", ...range })).toMatchObject({ rows: 1 });
    expect((await read(both, a, "c1")).map(([value]) => value)).toEqual([1, 6]);
    rmSync(folder, { recursive: true });
  });

  it("pushes the archive's values again when the store is another one", async () => {
    const [a] = await begin();
    await stream.imports(a, [payment("c1", END - HOUR, 6)]);
    const ports = portsOf(spending);
    await materializeDue(ports, Number.POSITIVE_INFINITY);
    const values = await read(spending, a, "c1");
    const key = pushedKey(bucketOf(a, "card", "c1"), a, "card", "c1");
    await stream.connection.demand([{ key, name: "DEL", args: [key] }]);
    await markAll();
    expect((await materializeDue(ports, Number.POSITIVE_INFINITY)).views[0]).toMatchObject({ runs: 0, error: null });
    expect(await read(spending, a, "c1")).toEqual(values);
  });

  it("pushes again what tenants have pushed, once for each store, and nothing that is forgotten by now", async () => {
    const [a, b] = await begin();
    // A plan without the view whose values other tests have left.
    const ports = portsOf(older);
    const now = Date.now();
    const row = (tenant: string, id: string, ageMs: number, value: number) => ({
      ...{ tenant, entity: "card", id, view: "_profile", eventTimeMs: now - ageMs, visibleMs: now, reachMs: DAY },
      packed: packValues([{ id: 0, dtype: "double", value }], now - ageMs),
    });
    const to = { s3: ports.s3, bucket: ports.mirror.bucket };
    // In any order: the newest wins all the same.
    for (const rows of [
      [row(a, "c1", HOUR, 2)],
      [row(a, "c1", 2 * HOUR, 1), row(a, "old", 2 * DAY, 9)],
      [row(b, "c1", HOUR, 3)],
    ]) {
      await writeLines(to, rows[0], now, rows.map(packedLine));
    }
    await markAll();
    expect(await restorePushed(ports)).toEqual({ rows: 3, isWhole: true, damaged: [] });
    const reader = createReader(spending.plan, { host: world.valkey.host, port: world.valkey.port, timeoutMs: 10_000 });
    const registered = [{ position: 0, field: "_profile", id: 0, ttlMs: DAY, reachMs: DAY }];
    const readValue = async (tenant: string, id: string) => {
      const request = { tenant, entity: "card", id, features: ["profile:n"], registered };
      return (await reader.read([request], now))[0].values[0].value;
    };
    expect([await readValue(a, "c1"), await readValue(b, "c1"), await readValue(a, "old")]).toEqual([2, 3, null]);
    await reader.close();
    expect(await restorePushed(ports)).toEqual({ rows: 0, isWhole: true, damaged: [] });
    // The function that looks for due runs does so first.
    await markAll("another loss");
    const due = await materializeDue(ports, Number.POSITIVE_INFINITY);
    expect(due.restored).toEqual({ rows: 3, isWhole: true, damaged: [] });
  });

  it("pushes again in steps: what one run has no time for, the next one goes on with, for another store from the beginning", async () => {
    const [a] = await begin();
    const ports = portsOf(older);
    const now = Date.now();
    const to = { s3: ports.s3, bucket: ports.mirror.bucket };
    const before = await ports.mirror.list(VALUES_PREFIX);
    const count = 300;
    await forEachLimited([...Array(count).keys()], 16, async (n) => {
      const row = {
        ...{
          tenant: a,
          entity: "card",
          id: `c${n}`,
          view: "_profile",
          eventTimeMs: now - HOUR,
          visibleMs: now,
          reachMs: DAY,
        },
        packed: packValues([{ id: 0, dtype: "double", value: n }], now - HOUR),
      };
      await writeLines(to, row, now, [packedLine(row)]);
    });
    const total = before.length + count;
    await markAll();
    // Of another loss: not gone on with.
    await ports.runs.keepPlace(PUSHED, { epoch: 1, after: "values/~", rows: 7, marks: [hex("before")] });
    const steps: number[] = [];
    for (let isWhole = false; !isWhole && steps.length < 10; ) {
      const step = await restorePushed(ports, Number.NEGATIVE_INFINITY);
      steps.push(step.rows);
      isWhole = step.isWhole;
    }
    expect(steps).toHaveLength(Math.ceil(total / 256));
    const pushed = steps.reduce((sum, rows) => sum + rows, 0);
    expect(pushed).toBeGreaterThanOrEqual(count);
    expect(await ports.runs.place(PUSHED)).toMatchObject({ epoch: 1, rows: pushed });
    const reader = createReader(spending.plan, { host: world.valkey.host, port: world.valkey.port, timeoutMs: 10_000 });
    const registered = [{ position: 0, field: "_profile", id: 0, ttlMs: DAY, reachMs: DAY }];
    const requests = [...Array(count).keys()].map((n) => ({
      ...{ tenant: a, entity: "card", id: `c${n}`, features: ["profile:n"], registered },
    }));
    const answers = await reader.read(requests, now);
    expect(answers.map(({ values }) => values[0].value)).toEqual([...Array(count).keys()]);
    await reader.close();
  });

  it("says what is missing until all of it is back, and leaves out and names what it cannot read", async () => {
    const [a] = await begin();
    await stream.imports(a, [payment("c1", END - HOUR, 6)]);
    const ports = portsOf(spending);
    await materializeDue(ports, Number.POSITIVE_INFINITY);
    const whole = await read(spending, a, "c1");
    const damagedKey = `${valuesFolder(a, "spending")}dt=2020-01-01/damaged.ndjson.zst`;
    await ports.s3.send(new PutObjectCommand({ Bucket: ports.mirror.bucket, Key: damagedKey, Body: "no frame" }));
    await stream.lose(older, NOW);
    const reader = createReader(spending.plan, { host: world.valkey.host, port: world.valkey.port, timeoutMs: 10_000 });
    const features = ["spending:n", "cards:n_lifetime"];
    const look = async (id: string, of = features) => {
      const [answer] = await reader.read([{ tenant: a, entity: "card", id, features: of }], NOW);
      return [answer.degraded, ...answer.values.map(({ status }) => status)];
    };
    expect(await look("c1")).toEqual(["restoring_pushed", "NOT_READY", "NOT_FOUND"]);
    // Windows alone are as whole as the store is.
    expect(await look("c1", features.slice(1))).toEqual([null, "NOT_FOUND"]);
    expect(await reader.state()).toMatchObject({ control: "restoring_pushed" });
    const { restored } = await materializeDue(ports, Number.POSITIVE_INFINITY);
    expect(restored).toMatchObject({
      isWhole: true,
      damaged: [{ key: damagedKey, error: { code: "values_corrupt" } }],
    });
    expect(await look("c1")).toEqual([null, "PRESENT", "NOT_FOUND"]);
    expect(await look("never")).toEqual([null, "NOT_FOUND", "NOT_FOUND"]);
    expect(await reader.state()).toMatchObject({ control: "ok" });
    expect(await read(spending, a, "c1")).toEqual(whole);
    // One bucket is restored from a snapshot, and once more while what it lacks is pushed again.
    const own = bucketOf(a, "card", "c1");
    const key = pushedKey(own, a, "card", "c1");
    await stream.connection.demand([{ key, name: "DEL", args: [key] }]);
    await markAll("first", [own, 7]);
    const again: RestorePorts["mirror"] = {
      async list(...asked) {
        await markAll("second", [own]);
        return ports.mirror.list(...asked);
      },
      get: (of) => ports.mirror.get(of),
    };
    expect(await restorePushed({ ...ports, mirror: again })).toMatchObject({ isWhole: false });
    expect(await reader.state()).toMatchObject({ control: "restoring_pushed" });
    expect((await look("c1"))[0]).toBe("restoring_pushed");
    expect(await restorePushed(ports)).toMatchObject({ isWhole: true });
    expect(await look("c1")).toEqual([null, "PRESENT", "NOT_FOUND"]);
    expect(await reader.state()).toMatchObject({ control: "ok" });
    await reader.close();
    await ports.s3.send(new DeleteObjectCommand({ Bucket: ports.mirror.bucket, Key: damagedKey }));
  });

  it("is in whole periods", () => {
    const [view] = spending.plan.batchViews;
    expect(dueRun(view, null, 5 * DAY + 200_000)).toEqual({ fromMs: 4 * DAY, toMs: 5 * DAY });
    // What was visible by the end is given two minutes to be in the archive.
    expect(dueRun(view, { toMs: 4 * DAY }, 5 * DAY + 119_999)).toBeNull();
    expect(dueRun(view, { toMs: 3 * DAY }, 5 * DAY + 200_000)).toEqual({ fromMs: 3 * DAY, toMs: 4 * DAY });
    expect(stepsOf(view, 1.5 * DAY, 3.25 * DAY).map(({ toMs }) => toMs / DAY)).toEqual([2, 3, 3.25]);
    expect(() => stepsOf(view, DAY, DAY)).toThrow(
      "the range from 1970-01-02T00:00:00.000Z to 1970-01-02T00:00:00.000Z is empty",
    );
  });
});
