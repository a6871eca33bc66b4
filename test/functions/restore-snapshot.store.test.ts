/** Snapshots of a real store, its loss, and what a restore and a replay bring back: the oracle's values for every entity. */
import fc from "fast-check";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { hash64 } from "../../adapters/hash.ts";
import { compile, EMPTY_LOCK } from "../../core/compile.ts";
import { startEmulator, type TestEmulator } from "../harness/emulator.ts";
import { type BulkPayment, type BulkWorld, openBulkWorld } from "../support/bulk-world.ts";
import { contracts, definitions } from "../support/fixture-plan.ts";
import { startValkey, type TestValkey } from "../support/valkey.ts";

const MINUTE = 60_000;
const START = Date.UTC(2026, 0, 5, 22, 17);
const SEED = 20_261_121;
const compiled = compile(definitions, contracts, EMPTY_LOCK, hash64);

let valkey: TestValkey;
let emulator: TestEmulator;
let world: BulkWorld;
beforeAll(async () => {
  [valkey, emulator] = await Promise.all([startValkey(), startEmulator()]);
});
beforeEach(async () => {
  world = await openBulkWorld(compiled, valkey, emulator, START);
});
afterEach(async () => {
  await world.flush();
  await world.close();
});
afterAll(async () => {
  await Promise.all([valkey?.stop(), emulator?.stop()]);
});

let events = 0;
const pay = (minute: number, more: Partial<BulkPayment> = {}): BulkPayment => ({
  id: `e${events++}`,
  arrivalMs: START + minute * MINUTE,
  timeMs: START + minute * MINUTE - 5_000,
  ...{ card: "c1", shop: "s1", amount: 10, country: "NO" },
  ...more,
});

/** So much later than it happened that the seal has passed it now and then. */
const payment = fc.record({
  step: fc.integer({ min: 0, max: 4 * MINUTE }),
  delay: fc.oneof(
    { weight: 9, arbitrary: fc.integer({ min: -30_000, max: 9 * MINUTE }) },
    { weight: 1, arbitrary: fc.integer({ min: 9 * MINUTE, max: 40 * MINUTE }) },
  ),
  card: fc.integer({ min: 0, max: 9 }).map((n) => `c${n}`),
  shop: fc.constantFrom(null, "s1", "s2"),
  amount: fc.constantFrom(null, 0.1, 7, 250, -3.5),
  country: fc.constantFrom("NO", "SE", null),
  tenant: fc.constantFrom("a", "b"),
});

describe("a store that is lost", () => {
  it("comes back from a snapshot and a replay with every value, whatever came before, during and after the round", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(payment, { minLength: 20, maxLength: 60 }),
        fc.array(fc.constantFrom("before", "within", "after"), { minLength: 60, maxLength: 60 }),
        async (raws, places) => {
          const own = await openBulkWorld(compiled, valkey, emulator, START);
          let atMs = START;
          const all = raws.map(({ step, delay, tenant, ...fields }) => {
            atMs += step;
            return { tenant, one: { id: `p${events++}`, arrivalMs: atMs, timeMs: atMs - delay, ...fields } };
          });
          const order = { before: 0, within: 1, after: 2 };
          const cut = places
            .slice(0, all.length)
            .map((place) => order[place])
            .sort();
          const parts = [0, 1, 2].map((place) => all.filter((_, i) => cut[i] === place));
          const deliver = async (part: readonly { tenant: string; one: BulkPayment }[]) => {
            for (const batch of [part.slice(0, part.length / 2), part.slice(part.length / 2)]) {
              for (const tenant of ["a", "b"])
                await own.deliver(
                  tenant,
                  batch.flatMap((each) => (each.tenant === tenant ? [each.one] : [])),
                );
              if (batch.length > 0) await own.sealBehind(batch[batch.length - 1].one.arrivalMs);
            }
          };
          try {
            await deliver(parts[0]);
            // A first round, so that the second takes over what has not changed.
            expect((await own.round()).outcome).toBe("complete");
            const within = [...parts[1]];
            const putObject = own.snapshots.putObject.bind(own.snapshots);
            await deliver(within.splice(0, 2));
            let meanwhile = Promise.resolve();
            own.snapshots.putObject = async (...args) => {
              meanwhile = meanwhile.then(() => deliver(within.splice(0, 9)));
              await meanwhile;
              return putObject(...args);
            };
            expect((await own.round()).outcome).toBe("complete");
            own.snapshots.putObject = putObject;
            await deliver(within);
            await deliver(parts[2]);
            expect(await own.differences(atMs)).toEqual([]);
            await own.flush();
            expect(await own.restore()).toMatchObject({ state: "loaded", epoch: 2, bucketsDone: 1024 });
            await own.replayAndOpen();
            expect(await own.differences(atMs)).toEqual([]);
            await own.sealBehind(atMs + 5 * MINUTE);
            await deliver([{ tenant: "a", one: pay((atMs - START) / MINUTE + 6, { card: "c1" }) }]);
            expect(await own.differences(atMs + 70 * MINUTE)).toEqual([]);
          } finally {
            await own.flush();
            await own.close();
          }
        },
      ),
      { seed: SEED, numRuns: 4, endOnFailure: true },
    );
  });

  it("counts nothing twice that was folded while the round went on, which sealed it for the entity and not for its bucket", async () => {
    const cards = Array.from({ length: 40 }, (_, i) => `c${i}`);
    const each = (minute: number) => cards.map((card) => pay(minute, { card, shop: null }));
    // The last of them in base tiles that no coarser tile has taken in at 23:04.
    for (const minute of [0, 12, 44, 46]) await world.deliver("a", each(minute));
    const putObject = world.snapshots.putObject.bind(world.snapshots);
    let meanwhile: Promise<void> | null = null;
    world.snapshots.putObject = async (...args) => {
      // All that was delivered is sealed, and folded where the next event comes. Buckets that are not read yet wait for it.
      meanwhile ??= world.sealBehind(START + 59 * MINUTE).then(() => world.deliver("a", each(60)));
      await meanwhile;
      return putObject(...args);
    };
    expect(await world.round()).toMatchObject({ outcome: "complete", entities: 40 });
    await world.flush();
    await world.restore();
    // Those that were read late are folded up to minute 47, their bucket's seal is still 12 minutes before the first event.
    expect(await world.replayAndOpen()).toBeLessThan(5 * 40);
    expect(await world.differences(START + 61 * MINUTE)).toEqual([]);
  });
});
