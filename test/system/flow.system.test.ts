/**
 * The main path on the deployed app: events by every way in, twice, out of order, late and broken; what is served, set aside
 * and archived is then held against what the producers know.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ArchiveRow } from "../../adapters/archive/archive.ts";
import { quarantineId } from "../../adapters/quarantine/quarantine.ts";
import { UNATTRIBUTED } from "../../adapters/s3/object-path.ts";
import { floorTo } from "../../core/tiles/window.ts";
import { disturb, type Outgoing } from "../../local/generator/disturb.ts";
import { deployed } from "../support/deployed.ts";
import { call, functionEnvironment, invoke, settle, until } from "./app.ts";
import { entitiesOf, expectFeatures, GroundTruth, identityOf } from "./oracle.ts";
import type { Delivery } from "./producer.ts";
import { newSent, REASONS, type Sent, STREAMS, sendEverywhere, sendPacked, simulation } from "./sent.ts";
import { archiveRows, closeStored, METRICS, objects, readMetrics, scan, settledMetrics } from "./stored.ts";

/** The seal stays behind arrivals by the allowed lateness, the function's timeout and a margin. */
const SEAL_LAG_MS = 600_000 + 60_000 + 60_000;

let names: Readonly<Record<string, string>>;
let first: Sent;
let second: Sent;
let metricsBefore: Record<string, number>;
let seals: { before: Record<string, number>; invokedMs: number; after: Record<string, number> };

beforeAll(async () => {
  names = await functionEnvironment("aggregate");
  seals = await advanceSeals();
  await settle(STREAMS);
  metricsBefore = await settledMetrics("transactions");
  first = await newSent();
  second = await newSent();
  await sendEverywhere(first);
  await sendPacked(second, [...disturb(simulation(second.tenant, 2, 2), 2, { duplicates: 0.1 })]);
  await settle(STREAMS);
  for (const sent of [first, second]) {
    const counted = sent.acknowledged.filter((out) => out.fault === null);
    sent.truth = new GroundTruth(counted.map(({ event }) => event));
  }
  await until(
    "late events to be repaired",
    async () => {
      await invoke("repair");
      return (await queued()).length === 0;
    },
    60_000,
    500,
  );
}, 180_000);

afterAll(closeStored);

it("the heartbeat moves the seal to its distance behind what every shard has acknowledged", () => {
  for (const stream of ["transactions", "clicks"]) {
    expect(seals.after[stream]).toBeGreaterThanOrEqual(floorTo(seals.invokedMs - SEAL_LAG_MS, 60_000));
    expect(seals.after[stream]).toBeGreaterThanOrEqual(seals.before[stream]);
  }
});

describe("of events by HTTP as JSON and as Avro, and by the broker singly and packed", () => {
  it("each that is whole counts once, in every feature of every entity, also when its tile was sealed", async () => {
    expect(first.acknowledged.length).toBeGreaterThan(first.truth.events.size * 1.05);
    expect(await expectFeatures(first.truth, first.key)).toBeGreaterThan(50);
  });

  it("each broken one is in quarantine once, with its reason and its bytes", async () => {
    const broken = [...first.placed].filter(([, { fault }]) => fault !== null);
    expect(new Set(broken.map(([, { fault }]) => fault))).toEqual(new Set(Object.keys(REASONS)));
    const places = new Set([...first.placed.keys()].map(({ shard, sequence }) => `${shard}/${sequence}`));
    // Items of batches that were given up have no place.
    const items = (await scan(names["FRESHET_QUARANTINE_TABLE"])).filter(({ shard, sequence }) =>
      places.has(`${shard?.S}/${sequence?.S}`),
    );
    expect(items.map(({ sk }) => sk.S).sort()).toEqual(broken.map(([delivery]) => quarantineId(delivery)).sort());

    const lines = new Map<string, Record<string, any>[]>();
    for (const tenant of [first.tenant, UNATTRIBUTED]) {
      for (const { key, bytes } of await objects(names["FRESHET_QUARANTINE_BUCKET"], `quarantine/tenant=${tenant}/`)) {
        const rows = bytes.toString("utf8").trimEnd().split("\n");
        rows.forEach((row, line) => {
          const envelope = { ...JSON.parse(row), key, line };
          lines.set(envelope.id, [...(lines.get(envelope.id) ?? []), envelope]);
        });
      }
    }
    for (const [delivery, { fault }] of broken) {
      const id = quarantineId(delivery);
      const item = items.find(({ sk }) => sk.S === id)!;
      expect([item.reason.S, item.status.S, item.stream.S]).toEqual([REASONS[fault!], "open", delivery.stream]);
      const [envelope, ...more] = lines.get(id) ?? [];
      expect(more).toEqual([]);
      expect([envelope.reason, envelope.bytes]).toEqual([REASONS[fault!], delivery.bytes.toString("base64")]);
      expect([item.object_key.S, item.object_line.N]).toEqual([envelope.key, String(envelope.line)]);
    }
  });

  it("each that is older than the seal is repaired, for every entity, and visible from then on", async () => {
    const expected = new Set<string>();
    for (const out of first.acknowledged.filter((each) => each.fault === null && isSealed(each))) {
      for (const { entity, id } of entitiesOf(out.event)) expected.add(`${entity}/${id}/${identityOf(out.event)}`);
    }
    expect(expected.size).toBeGreaterThan(20);
    const repaired = (await archived(first.tenant)).filter(isRepaired);
    const found = repaired.flatMap(({ identity, fates }) =>
      fates.flatMap(({ entity, id, fate, visibleMs }) =>
        fate === "repaired" ? [{ name: `${entity}/${id}/${identity}`, visibleMs }] : [],
      ),
    );
    expect(new Set(found.map(({ name }) => name))).toEqual(expected);
    for (const { visibleMs } of found) expect(visibleMs).toBeGreaterThan(seals.invokedMs);
  });

  it("every delivery is one row of the archive, with its fields and its fates", async () => {
    const rows = (await archived(first.tenant)).filter((row) => !isRepaired(row));
    const own = rows.filter(({ tenant }) => tenant === first.tenant);
    const places = rows.map(placeOf);
    expect(new Set(places).size).toBe(places.length);

    // Broken ones, by their place; those without a tenant lie among everybody's.
    const byPlace = new Map(rows.map((row) => [placeOf(row), row]));
    for (const [delivery, { fault }] of first.placed) {
      const row = byPlace.get(placeOf(delivery));
      expect([delivery.sequence, row?.reason]).toEqual([
        delivery.sequence,
        fault === null ? undefined : REASONS[fault],
      ]);
      if (fault !== null) expect(row!.fates).toEqual([]);
    }

    const deliveries = Map.groupBy(
      first.acknowledged.filter(({ fault }) => fault === null),
      ({ event }) => identityOf(event),
    );
    const archivedRows = Map.groupBy(
      own.filter(({ reason }) => reason === undefined),
      ({ identity }) => identity!,
    );
    expect(new Set(archivedRows.keys())).toEqual(new Set(deliveries.keys()));
    for (const [identity, outs] of deliveries) {
      const [{ event }] = outs;
      const found = archivedRows.get(identity)!;
      expect([event.id, found.length]).toEqual([event.id, outs.length]);
      for (const row of found) {
        expect(row.fields).toEqual(event.fields);
        expect(row.fates.map(({ entity, id }) => `${entity}/${id}`).sort()).toEqual(
          entitiesOf(event)
            .map(({ entity, id }) => `${entity}/${id}`)
            .sort(),
        );
      }
      if (event.stream === "labels") continue;
      const fates = found.map((row) => row.fates.map(({ fate }) => fate));
      const kinds = fates.map((each) => new Set(each)).map((set) => (set.size === 1 ? [...set][0] : "mixed"));
      const visible = new Set(found.flatMap((row) => row.fates.map(({ visibleMs }) => visibleMs)));
      if (isSealed(outs[0])) {
        expect(new Set(kinds)).toEqual(new Set(["late"]));
        expect(visible).toEqual(new Set([null]));
      } else {
        expect(kinds.toSorted()).toEqual(["applied", ...Array(found.length - 1).fill("duplicate")]);
        // A duplicate is told when the event was first applied.
        for (const { entity } of found[0].fates) {
          const times = found.map((row) => row.fates.find((each) => each.entity === entity)!.visibleMs);
          expect(new Set(times).size).toBe(1);
        }
      }
    }
  });

  it("the metrics of the stream count what was sent and what became of it", async () => {
    const sent = [first, second].flatMap(({ acknowledged }) =>
      acknowledged.filter(({ event }) => event.stream === "transactions"),
    );
    const whole = sent.filter(({ fault }) => fault === null);
    const open = whole.filter((out) => !isSealed(out));
    const once = new Set(open.map(({ event }) => identityOf(event))).size;
    const expected = {
      EventsIn: sent.length,
      Applied: once,
      Duplicates: open.length - once,
      Late: whole.length - open.length,
      Quarantined: sent.length - whole.length,
    };
    let grown: Record<string, number> = {};
    await until(
      `metrics to reach ${JSON.stringify(expected)}`,
      async () => {
        // Lines that a busy emulator has not taken from a function's output come with that function's next ones.
        await settle(["transactions"]);
        const now = await readMetrics("transactions");
        grown = Object.fromEntries(METRICS.map((name) => [name, now[name] - metricsBefore[name]]));
        return METRICS.every((name) => grown[name] >= expected[name]);
      },
      60_000,
      200,
    ).catch(() => {});
    expect(grown).toEqual(expected);
  });
});

describe("two tenants with the same cards, merchants and customers", () => {
  it("see each their own features", async () => {
    expect(await expectFeatures(second.truth, second.key)).toBeGreaterThan(20);
    const shared = [...first.truth.entities.keys()].filter((name) => second.truth.entities.has(name));
    expect(shared.length).toBeGreaterThan(10);
    const [stranger] = [...first.truth.entities].filter(([name]) => !second.truth.entities.has(name));
    const [, { entity, id }] = stranger;
    const { body } = await call(deployed().serve.url, `/v1/features/${entity}/${id}`, second.key);
    expect(new Set(Object.values<any>(body.features).map(({ status }) => status))).toEqual(new Set(["NOT_FOUND"]));
  });

  it("are apart in the archive", async () => {
    const rows = await archiveRows(names["FRESHET_ARCHIVE_BUCKET"], second.tenant);
    expect(new Set(rows.map(({ identity }) => identity))).toEqual(new Set(second.truth.events.keys()));
    expect(new Set(rows.map(({ tenant }) => tenant))).toEqual(new Set([second.tenant]));
  });
});

it("API Gateway and the plain server score alike, from the features that the oracle has", async () => {
  const payments = [...first.truth.events.values()].filter(({ stream }) => stream === "transactions").slice(-10);
  for (const { fields } of payments) {
    const body = { ...fields, explain: true };
    const both = async () => {
      const answers = [deployed().api.url, deployed().serve.url].map((base) =>
        call(base, "/v1/score/fraud", first.key, body),
      );
      const [gateway, server] = await Promise.all(answers);
      expect([gateway.status, server.status]).toEqual([200, 200]);
      // Windows move with the minute: two answers from both sides of it are about different windows.
      const minutes = [gateway, server].map((answer) => floorTo(answer.body.as_of_ms, 60_000));
      return minutes[0] === minutes[1] && [gateway.body, server.body];
    };
    const [gateway, server] = await until("both answers within a minute", both);
    for (const answer of [gateway, server]) {
      const { as_of_ms, degraded, explanation } = answer;
      expect([degraded, answer.model_version]).toEqual([false, "rule-based-v1"]);
      const expected = Object.assign(
        {},
        ...["card", "merchant", "device", "user"].map((entity) =>
          first.truth.features({ entity, id: String(fields[`${entity}_id`]) }, as_of_ms),
        ),
      );
      const stored = Object.entries(explanation.features).filter(([name]) => name.includes(":"));
      expect(stored.length).toBeGreaterThan(10);
      for (const [name, value] of stored) expect([name, value]).toEqual([name, expected[name]]);
    }
    for (const field of ["score", "decision", "variant", "features_used", "features_missing"]) {
      expect([field, gateway[field]]).toEqual([field, server[field]]);
    }
    expect(gateway.explanation.contributions).toEqual(server.explanation.contributions);
  }
});

/** Added by a repair, beside the row of the delivery. */
const isRepaired = ({ fates }: ArchiveRow): boolean => fates.some(({ fate }) => fate === "repaired");

/** Late events of both tenants that wait. */
const queued = async () =>
  (await scan(names["FRESHET_LATE_TABLE"])).filter(({ tenant }) => [first.tenant, second.tenant].includes(tenant?.S));

/** Older than the seal when it was sent. Nothing that is sent lies between that seal and the present one. */
const isSealed = ({ event }: Outgoing): boolean => event.timeMs < seals.after["transactions"];

/** Invokes the heartbeat until the seals are at their distance; the first ones may find shards without an acknowledgement. */
async function advanceSeals(): Promise<typeof seals> {
  const read = async (): Promise<Record<string, number>> =>
    (await call(deployed().serve.url, "/ready", null)).body.checks.online_store.seals_ms;
  const before = await read();
  const invokedMs = Date.now();
  const wanted = floorTo(invokedMs - SEAL_LAG_MS, 60_000);
  const after = await until(
    "the heartbeat to move the seals",
    async () => {
      await invoke("heartbeat");
      const now = await read();
      return now["transactions"] >= wanted && now["clicks"] >= wanted && now;
    },
    30_000,
    500,
  );
  return { before, invokedMs, after };
}

const placeOf = (at: Omit<Delivery, "bytes">): string => `${at.stream}/${at.shard}/${at.sequence}/${at.subSequence}`;

/** Rows of a tenant, and those that no tenant could be read from. */
const archived = async (tenant: string): Promise<ArchiveRow[]> => [
  ...(await archiveRows(names["FRESHET_ARCHIVE_BUCKET"], tenant)),
  ...(await archiveRows(names["FRESHET_ARCHIVE_BUCKET"], UNATTRIBUTED)),
];
