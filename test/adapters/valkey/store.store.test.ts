import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hash64 } from "../../../adapters/hash.ts";
import type { OnlineReader } from "../../../adapters/online-store/online-store.ts";
import { ValkeyConnection } from "../../../adapters/valkey/connection.ts";
import { createReader } from "../../../adapters/valkey/reader.ts";
import { RecordPacker } from "../../../adapters/valkey/record.ts";
import { compileGroups, identityText } from "../../../core/event.ts";
import { EntityTiles } from "../../../core/tiles/tiles.ts";
import { floorTo } from "../../../core/tiles/window.ts";
import { plan } from "../../support/fixture-plan.ts";
import { GROUP_PLANS } from "../../support/group-plans.ts";
import { expectModel } from "../../support/model-build.ts";
import { allBorn, OneEntity } from "../../support/one-entity.ts";
import { openStore, type TestStore } from "../../support/store.ts";
import { startValkey, type TestValkey } from "../../support/valkey.ts";

let valkey: TestValkey;
let store: TestStore;
let reader: OnlineReader;
const START = Date.UTC(2026, 0, 5, 22, 17);
const features = plan.views.find(({ name }) => name === "everything")!.features.map(({ name }) => name);
const shopFeatures = plan.views.find(({ name }) => name === "shop_view")!.features.map(({ name }) => name);

beforeAll(async () => {
  valkey = await startValkey();
});
afterAll(async () => {
  await reader?.close();
  await store?.connection.close();
  await valkey?.stop();
});

async function fresh(): Promise<void> {
  await reader?.close();
  await store?.connection.close();
  store = await openStore(plan, valkey, START - 86_400_000);
  reader = createReader(plan, { host: valkey.host, port: valkey.port, timeoutMs: 5_000 });
}

const payload = {
  shop: fc.oneof(
    fc.constant(null),
    fc.integer({ min: 0, max: 3 }).map((n) => `s${n}`),
  ),
  amount: fc.oneof(
    fc.constantFrom(null, 0, -0, 1.005, -12.34, 87960930222.07),
    fc.double({ min: -1e6, max: 1e6, noNaN: true }),
  ),
  country: fc.constantFrom("NO", "SE", null),
  online: fc.constantFrom(true, false, null),
};
const event = fc.record({
  id: fc.integer({ min: 0, max: 60 }).map((n) => `e${n}`),
  offset: fc.oneof(fc.integer({ min: 0, max: 40 * 60_000 }), fc.integer({ min: 0, max: 9 * 86_400_000 })),
  card: fc.constantFrom("c1", "c2"),
  ...payload,
});

describe("the server-side function on a real Valkey", () => {
  it("holds the same state as the model, whatever the batches, duplicates, seals and entities", async () => {
    const packer = new RecordPacker(plan, "payments");
    const readers = compileGroups(plan, "payments", hash64);
    let tenant = 0;
    await fresh();
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(event, { minLength: 1, maxLength: 25 }), { maxLength: 6 }),
        fc.array(fc.integer({ min: 0, max: 20 * 60_000 }), { minLength: 6, maxLength: 6 }),
        fc.integer({ min: 0, max: 2 * 86_400_000 }),
        async (batches, sealSteps, after) => {
          const name = `t${tenant++}`;
          const models = new Map<string, EntityTiles>();
          // Seals only ever grow in one store, so each run lives in its own stretch of time.
          const shift = tenant * 30 * 86_400_000;
          let sealMs = START + shift;
          let latest = sealMs;
          await store.seal(sealMs);
          for (const [b, batch] of batches.entries()) {
            const events = batch.map((raw) => ({ raw, timeMs: START + shift + raw.offset }));
            const prepared = events.map(({ raw, timeMs }) =>
              packer.prepare(name, raw.id, timeMs, { ...raw, at: timeMs }),
            );
            const { fates, nowMs } = await store.applier.apply(prepared);
            events.forEach(({ raw, timeMs }, i) => {
              latest = Math.max(latest, timeMs);
              prepared[i].updates.forEach((update, u) => {
                const reader = readers.find(({ group }) => group.id === update.groupId)!;
                const key = `${update.entity}/${update.id}`;
                const model = models.get(key) ?? new EntityTiles(reader.group, sealMs);
                const contributions = reader.channels.map((channel) => channel({ ...raw, at: timeMs }));
                const expected = model.apply({ identity: prepared[i].identity, timeMs, contributions }, sealMs, nowMs!);
                if (expected.fate !== "sealed") models.set(key, model);
                expect(fates[i][u].fate).toBe(expected.fate);
                if (expected.fate === "applied") expect(fates[i][u].visibleMs).toBeLessThanOrEqual(nowMs!);
              });
            });
            sealMs += Math.floor((b % 3 === 2 ? sealSteps[b] * 200 : sealSteps[b]) / 60_000) * 60_000;
            await store.seal(sealMs);
          }
          for (const t of [Math.max(latest, sealMs), Math.max(latest, sealMs) + after]) {
            for (const [key, model] of models) {
              const [entity, id] = key.split("/");
              const names = entity === "card" ? features : shopFeatures;
              const view = plan.views.find(({ entity: of }) => of === entity)!;
              const [answer] = await reader.read([{ tenant: name, entity, id, features: names }], t);
              const expected = view.features.map((feature) => ({
                name: feature.name,
                ...model.read(view, feature, t),
              }));
              expect(answer.values.map((value, i) => ({ name: names[i], ...value }))).toEqual(expected);
              expect(answer.degraded).toBeNull();
            }
          }
        },
      ),
      { numRuns: 40 },
    );
  });
});

// The property above has every operator, over two entities at once.
const { "every operator": _, ...otherGroups } = GROUP_PLANS;
describe.each(Object.entries(otherGroups))("the function folds as the model does: %s", (name, groupPlan) => {
  const [{ group, channels }] = compileGroups(groupPlan, "payments", hash64);
  let tenants = 0;
  const share = fc.nat(1_000_000).map((n) => n / 1_000_000);
  const step = fc.record({
    events: fc.array(fc.record({ id: fc.nat(40).map((n) => `e${n}`), at: share, ...payload }), { maxLength: 12 }),
    seal: share,
    touched: fc.boolean(),
  });

  it("whatever the seals, the touches and the moments of reading", async () => {
    const connection = new ValkeyConnection(valkey);
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { maxLength: 8 }),
        fc.constantFrom(40 * 60_000, 7 * 3_600_000, 9 * 86_400_000),
        share,
        async (steps, spanMs, after) => {
          const one = new OneEntity(connection, valkey, `${name.replaceAll(/[^a-z]/g, "")}${tenants++}`.slice(-60));
          let sealMs = floorTo(START - 86_400_000, group.baseMs);
          const model = new EntityTiles(group, sealMs);
          const writer = one.writer(groupPlan);
          let latest = sealMs;
          await one.control([{ group, sealMs, births: allBorn(group) }]);
          for (const { events, seal, touched } of steps) {
            const sent = events.map(({ id, at, ...fields }) => ({
              id,
              timeMs: START + Math.round(at * spanMs),
              fields,
            }));
            const fates = await writer.apply(sent);
            sent.forEach(({ id, timeMs, fields }, i) => {
              latest = Math.max(latest, timeMs);
              const identity = hash64(identityText(one.tenant, "payments", timeMs, id));
              const contributions = channels.map((channel) => channel({ ...fields, card: "c", id, at: timeMs }));
              expect(fates[i].fate).toBe(model.apply({ identity, timeMs, contributions }, sealMs, 1).fate);
            });
            sealMs = Math.max(sealMs, floorTo(START + seal * spanMs, group.baseMs));
            await one.control([{ group, sealMs, births: allBorn(group) }]);
            if (touched) await writer.touch();
          }
          const t = Math.max(latest, sealMs) + Math.round(after * spanMs);
          await expectModel(one, groupPlan, model, t);
        },
      ),
      { numRuns: 50 },
    );
    await connection.close();
  });
});
