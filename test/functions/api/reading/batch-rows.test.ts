/** A batch writes what its rows share once; each row is what it is alone. Seeded: a failure prints its seed. */
import fc from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { FeatureValue, Status } from "../../../../core/plan.ts";
import { createKey } from "../../../../functions/api/keys/keys.ts";
import { listen, type RunningServer } from "../../../../functions/api/server.ts";
import { runs } from "../../../support/runs.ts";
import { callerOf } from "../contract/contract-calls.ts";
import { plan, testDependencies } from "../doubles.ts";

const ports = testDependencies();
const FEATURES = plan.views
  .find(({ entity }) => entity === "card")!
  .features.slice(0, 6)
  .map(({ name }) => name);
const STATUSES: readonly Status[] = ["PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE", "NOT_READY"];
let server: RunningServer;
let key: string;
const call = callerOf(
  plan,
  () => server,
  () => key,
);

beforeAll(async () => {
  key = (await createKey(ports.keys, { tenant: "team-a", scopes: ["read"], nowMs: 0 })).key;
  server = await listen({ port: 0, dependencies: ports.dependencies });
});
afterAll(() => server?.close());

it("rows of a batch are what they are alone, with and without what they share", async () => {
  const mark = fc.record({ status: fc.constantFrom(...STATUSES), eventTimeMs: fc.constantFrom(null, 1, 1, 2_000) });
  const value = fc.oneof(
    fc.constant(null),
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.constantFrom("a,b", 3),
  );
  const row = fc.record({
    mark,
    values: fc.array(value, { minLength: FEATURES.length, maxLength: FEATURES.length }),
    changes: fc.array(fc.tuple(fc.nat(FEATURES.length - 1), mark), { maxLength: 2 }),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(row, { minLength: 1, maxLength: 5 }),
      fc.integer({ min: 1, max: 6 }),
      async (rows, count) => {
        const features = FEATURES.slice(0, count);
        const given = rows.map(({ mark: own, values, changes }) => {
          const all = values.map((one): FeatureValue => ({ ...own, value: one }));
          for (const [at, other] of changes) all[at] = { ...all[at], ...other };
          return all.slice(0, count);
        });
        ports.reader.values.clear();
        given.forEach((own, i) => {
          const byName = Object.fromEntries(own.map((one, f) => [features[f], one]));
          ports.reader.values.set(`team-a/card/c${i}`, byName);
        });
        const entities = given.map((_, i) => ({ card_id: `c${i}` }));
        const { body } = await call("/v1/features/batch", { body: { entities, features } });
        expect((body as any).rows).toEqual(
          given.map((own) => ({
            values: own.map((one) => (Object.is(one.value, -0) ? 0 : one.value)),
            statuses: own.map(({ status }) => status),
            event_times_ms: own.map(({ eventTimeMs }) => eventTimeMs),
          })),
        );
      },
    ),
    { numRuns: runs(60) },
  );
});
