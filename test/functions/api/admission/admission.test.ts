/** Which limits count for a tenant, and when its requests wait for the table in which they are. */
import { setImmediate } from "node:timers/promises";
import { expect, it } from "vitest";
import { createAdmission } from "../../../../functions/api/admission/admission.ts";
import type { TenantRecord } from "../../../../functions/api/admission/tenants.ts";
import type { Problem } from "../../../../functions/api/problems.ts";

const limit = (perSecond: number) => ({ perSecond, burst: perSecond, perDay: null });

function setUp() {
  const time = { ms: 1_000_000 };
  const table = { reads: 0, broken: false, hangs: false, score: limit(7) };
  const faults: string[] = [];
  const admission = createAdmission({
    ports: {
      defaults: { score: limit(1_000) },
      store: null,
      tenants: {
        async get(name): Promise<TenantRecord> {
          table.reads++;
          if (table.hangs) await new Promise(() => {});
          if (table.broken) throw new Error("the table does not answer");
          return { name, limits: { score: table.score } };
        },
      },
    },
    clock: () => time.ms,
    telemetry: { limiterFallback() {}, limited() {} } as any,
    onFault: (code) => void faults.push(code),
  });
  const call = async () => {
    const ticket = admission.open("team-a", "score");
    const asked = ticket.charge(1);
    await asked;
    const policy = ticket.headers()?.["ratelimit-policy"] ?? "";
    return { waited: asked !== undefined, burst: Number(/q=(\d+)/.exec(policy)?.[1]) };
  };
  return { time, table, faults, call, admission };
}

it("are read once in 20 s of a tenant that calls, and none of its requests waits for that", async () => {
  const { time, table, call } = setUp();
  expect(await call()).toEqual({ waited: true, burst: 7 });
  time.ms += 19_999;
  expect([await call(), table.reads]).toEqual([{ waited: false, burst: 7 }, 1]);
  table.score = limit(9);
  time.ms += 1;
  expect([await call(), table.reads]).toEqual([{ waited: false, burst: 7 }, 2]);
  await setImmediate();
  time.ms += 19_999;
  expect([await call(), table.reads]).toEqual([{ waited: false, burst: 9 }, 2]);
});

it("are read before the next request of a tenant that has been silent: a change counts after 30 s at most", async () => {
  const { time, table, call } = setUp();
  await call();
  table.score = limit(9);
  time.ms += 30_000;
  expect(await call()).toEqual({ waited: true, burst: 9 });
});

it("stay what they were while the table cannot be read", async () => {
  const { time, table, faults, call } = setUp();
  await call();
  table.broken = true;
  time.ms += 30_000;
  expect(await call()).toEqual({ waited: true, burst: 7 });
  expect(faults).toEqual(["tenant_unreadable"]);
});

it("are not waited for long, and not by each request, where the table hangs", async () => {
  const { time, table, call } = setUp();
  await call();
  table.hangs = true;
  time.ms += 30_000;
  expect(await call()).toEqual({ waited: true, burst: 7 });
  expect(await call()).toEqual({ waited: false, burst: 7 });
  expect(table.reads).toBe(2);
});

it("a quota says what the call costs and what is left, and tells nobody to wait for what never passes", async () => {
  const { table, admission } = setUp();
  table.score = { perSecond: 1_000, burst: 1_000, perDay: 10 } as any;
  const charge = async (cost: number) => {
    try {
      await admission.open("team-a", "score").charge(cost);
      return "admitted";
    } catch (error) {
      const { code, message, repair, headers } = error as Problem;
      expect(code).toBe("quota_exceeded");
      return [message, repair, headers["retry-after"]];
    }
  };
  const higher = "or ask for a higher quota: freshet tenants limits";
  expect(await charge(4)).toBe("admitted");
  expect(await charge(11)).toEqual([
    "the call costs 11 tokens for score, and the tenant has 10 a day, of which 6 are left",
    `send fewer rows at once, 10 at most, ${higher}`,
    undefined,
  ]);
  expect(await charge(7)).toEqual([
    "the call costs 7 tokens for score, and 6 of the tenant's 10 of today are left",
    `send fewer rows, 6 at most, wait until midnight UTC (85400 s), ${higher}`,
    "85400",
  ]);
  expect(await charge(6)).toBe("admitted");
  expect(await charge(1)).toEqual([
    "the tenant's 10 tokens of today for score are used up",
    `wait until midnight UTC (85400 s), ${higher}`,
    "85400",
  ]);
});
