/** The claim that training sees what serving saw: the real Valkey function and reader, the offline join and the definition agree. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hash64 } from "../../../adapters/hash.ts";
import { DuckSession } from "../../../adapters/offline/duckdb.ts";
import { featureAt, joinPointInTime } from "../../../adapters/offline/point-in-time.ts";
import { ValkeyConnection } from "../../../adapters/valkey/connection.ts";
import { identityText } from "../../../core/event.ts";
import { floorTo } from "../../../core/tiles/window.ts";
import { naive } from "../../core/naive.ts";
import { everything, fixtureContract } from "../../support/fixture-plan.ts";
import { GROUP_PLANS, viewPlan } from "../../support/group-plans.ts";
import { entityEventsTable, spineTable } from "../../support/offline-tables.ts";
import { allBorn, OneEntity } from "../../support/one-entity.ts";
import { instants, PAST_START, type PastEvent, past } from "../../support/past.ts";
import { startValkey, type TestValkey } from "../../support/valkey.ts";

const hash32 = (text: string) => Number.parseInt(hash64(text).slice(0, 8), 16);
const folder = mkdtempSync(join(tmpdir(), "freshet-parity-"));
let valkey: TestValkey;
let connection: ValkeyConnection;
let session: DuckSession;
let tenants = 0;
/** Over all plans. */
let applied = 0;
let sealed = 0;

beforeAll(async () => {
  valkey = await startValkey();
  connection = new ValkeyConnection({ ...valkey, timeoutMs: 10_000 });
  session = await DuckSession.open({ folder });
});
afterAll(async () => {
  session?.close();
  await connection?.close();
  await valkey?.stop();
  rmSync(folder, { recursive: true });
});

const PLANS = {
  "every operator": viewPlan(everything.features),
  "hops that divide no other": GROUP_PLANS["a hop that divides no other"],
  "hops of 5 and 6 minutes beside a lifetime": GROUP_PLANS["hops of 5 and 6 minutes beside a lifetime"],
  "a base of ten seconds": GROUP_PLANS["a base of ten seconds"],
};

/** How far the seal stays behind, as with the declared lateness. */
const BEHIND_MS = 720_000;

describe("online, offline and naive", () => {
  it.each(Object.entries(PLANS))(
    "answer the same at equal visibility, bit for bit, with what the store refused as late left out: %s",
    async (_, plan) => {
      const [view] = plan.views.filter(({ entity }) => entity === "card");
      const group = plan.groups[view.group];
      await fc.assert(
        fc.asyncProperty(past, instants, async (events, drawn) => {
          const times = drawn.filter((t) => t >= PAST_START).slice(0, 4);
          fc.pre(times.length > 0);
          const one = new OneEntity(connection, valkey, `t${tenants++}`);
          const writer = one.writer(plan);
          const seen: PastEvent[] = [];
          const online: Awaited<ReturnType<OneEntity["read"]>>[] = [];
          let sealMs = floorTo(PAST_START - 86_400_000, group.baseMs);
          let before = Number.NEGATIVE_INFINITY;
          for (const t of times) {
            await one.control([{ group, sealMs, births: allBorn(group) }]);
            const arrived = events.filter(({ visibleMs }) => visibleMs > before && visibleMs <= t);
            if (arrived.length > 0) {
              const fates = await writer.apply(
                arrived.map(({ eventId, timeMs, fields: { tenant: _, ...fields } }) => ({
                  id: eventId,
                  timeMs,
                  fields,
                })),
              );
              arrived.forEach((event, i) => {
                // Ties at equal times are decided by the identity, which names the tenant.
                const identity = hash64(identityText(one.tenant, "payments", event.timeMs, event.eventId));
                if (fates[i].fate === "applied") seen.push({ ...event, identity });
                applied += fates[i].fate === "applied" ? 1 : 0;
                sealed += fates[i].fate === "sealed" ? 1 : 0;
              });
            }
            online.push(await one.read(plan, t));
            before = t;
            sealMs = Math.max(sealMs, floorTo(t - BEHIND_MS, group.baseMs));
          }
          await session.run(entityEventsTable("events_card", fixtureContract.fields, { c: seen }));
          await session.run(
            spineTable(
              "spine",
              times.map((t) => ({ t, keys: { card: "c" } })),
            ),
          );
          const features = view.features.map((feature) => feature.name);
          const offline = await joinPointInTime(session, {
            plan,
            features,
            spine: { relation: "spine", rows: times.length, fromMs: times[0], toMs: times[times.length - 1] },
            events: () => "events_card",
          });
          times.forEach((t, row) => {
            const visible = seen.filter(({ visibleMs }) => visibleMs <= t);
            view.features.forEach((feature, f) => {
              const found = { feature: feature.name, t, ...featureAt(offline[f], row) };
              expect(found).toEqual({ feature: feature.name, t, ...online[row].get(feature.name)! });
              if (found.status !== "PRESENT" && found.status !== "NULL_VALUE") return;
              expect(found.value).toBe(naive(group, feature, visible, t, hash32));
            });
          });
        }),
        { numRuns: 12, endOnFailure: true },
      );
    },
  );

  it("have met both: what counts, and what was too late to count", () => {
    expect(applied).toBeGreaterThan(0);
    expect(sealed).toBeGreaterThan(0);
  });
});
