import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { hash64 } from "../../adapters/hash.ts";
import * as d from "../../core/definition.ts";
import type { FreshetError } from "../../core/errors.ts";
import {
  checkEvent,
  compileGroups,
  entityId,
  FUTURE_LIMIT_MS,
  identityText,
  KEY_LIMIT,
  SCALED_LIMIT,
  toMinorUnits,
  VALUE_LIMIT,
} from "../../core/event.ts";
import type { Fields } from "../../core/where.ts";
import { plan } from "../support/fixture-plan.ts";
import { viewPlan } from "../support/group-plans.ts";
import { runs } from "../support/runs.ts";

const [stream] = plan.streams;
const NOW = Date.UTC(2026, 0, 5, 12);
const good = { tenant: "default", id: "e1", at: NOW, card: "c1", shop: null, amount: 1.5, country: "NO", online: null };

function refusal(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    const { name, code, message, field, repair } = error as FreshetError;
    expect(name).toBe("RecordError");
    expect(repair).toBeTruthy();
    return `${code} (${field}): ${message}`;
  }
  return "accepted";
}
const check = (change: Fields, arrivalMs = NOW) => refusal(() => checkEvent(stream, { ...good, ...change }, arrivalMs));

describe("checkEvent", () => {
  const REFUSED: readonly [string, Fields, string][] = [
    ["no tenant", { tenant: undefined }, "tenant_invalid (tenant): tenant is 1 to 64 of a-z, 0-9, _ and -"],
    ["a tenant with a slash", { tenant: "a/b" }, "tenant_invalid (tenant): tenant is 1 to 64 of a-z, 0-9, _ and -"],
    ["a tenant of 65", { tenant: "a".repeat(65) }, "tenant_invalid (tenant): tenant is 1 to 64 of a-z, 0-9, _ and -"],
    ["no id", { id: null }, "event_id_missing (id): id is required, given nothing"],
    ["an empty id", { id: "" }, "event_id_missing (id): id is required, given an empty string"],
    ["a long id", { id: "x".repeat(KEY_LIMIT + 1) }, "key_too_long (id): id is at most 256 characters, given 257"],
    ["no time", { at: null }, "event_time_invalid (at): at is milliseconds since 1970 as a whole number"],
    [
      "half a millisecond",
      { at: NOW + 0.5 },
      "event_time_invalid (at): at is milliseconds since 1970 as a whole number",
    ],
    ["a time before 1970", { at: -1 }, "event_time_invalid (at): at is milliseconds since 1970 as a whole number"],
    ["a time as text", { at: "2026" }, "event_time_invalid (at): at is milliseconds since 1970 as a whole number"],
    [
      "a time that is NaN",
      { at: Number.NaN },
      "event_time_invalid (at): at is milliseconds since 1970 as a whole number",
    ],
    ["an empty partition key", { card: "" }, "partition_key_missing (card): card is required, given an empty string"],
    ["NaN", { amount: Number.NaN }, "number_not_finite (amount): amount is a finite number, given NaN"],
    ["-Infinity", { amount: -1 / 0 }, "number_not_finite (amount): amount is a finite number, given -Infinity"],
    [
      "the future",
      { at: NOW + FUTURE_LIMIT_MS + 1 },
      "event_time_future (at): at is 60001 ms ahead of arrival, the limit is 60000 ms",
    ],
  ];
  it.each(REFUSED)("refuses %s", (_, change, message) => {
    expect(check(change)).toBe(message);
  });

  it.each<[string, Fields]>([
    ["the edge of the future", { at: NOW + FUTURE_LIMIT_MS }],
    ["the beginning of time", { at: 0 }],
    ["the longest id", { id: "x".repeat(KEY_LIMIT) }],
    ["an id that is a number", { id: 17 }],
    ["absent values", { amount: null, country: undefined }],
    ["an entity that is not there", { shop: null }],
  ])("takes %s", (_, change) => {
    expect(check(change)).toBe("accepted");
  });

  it("never tells a value that it refuses but for keys' lengths, times and non-numbers", () => {
    const secret = "4111111111111111".repeat(20);
    for (const field of ["id", "card", "tenant"]) expect(check({ [field]: secret })).not.toContain("4111");
  });
});

describe("identityText", () => {
  it("differs for events that differ in tenant, stream, time or id", () => {
    const tenant = fc.stringMatching(/^[a-z0-9][a-z0-9_-]{0,5}$/);
    const name = fc.stringMatching(/^[a-z][a-z0-9_]{0,5}$/);
    // Ids may hold anything, slashes and digits included.
    const id = fc.oneof(fc.string(), fc.stringMatching(/^[a-z0-9/]{0,8}$/));
    const event = fc.tuple(tenant, name, fc.nat(1_000), id);
    fc.assert(
      fc.property(event, event, (a, b) => {
        const same = JSON.stringify(a) === JSON.stringify(b);
        expect(identityText(...a) === identityText(...b)).toBe(same);
      }),
      { numRuns: runs(2_000) },
    );
    expect(identityText("a", "b", 1, "2/c")).not.toBe(identityText("a", "b", 12, "c"));
  });

  it("is part of what is stored", () => {
    expect(identityText("default", "transactions", 1_767_614_400_000, "t-1")).toBe(
      "default/transactions/1767614400000/t-1",
    );
    expect(hash64("default/transactions/1767614400000/t-1")).toBe("fc389963283d350e");
  });
});

describe("toMinorUnits", () => {
  it.each([
    [12.34, 2, 1_234],
    [1.005, 2, 100], // the double lies below 1.005
    [1.015, 2, 101],
    [0.125, 2, 13],
    [-0.125, 2, -13],
    [0.005, 2, 1],
    [-0.005, 2, -1],
    [0.0049, 2, 0],
    [-0.0049, 2, 0],
    [-0, 2, 0],
    [2.5, 0, 3],
    [-2.5, 0, -3],
    [1e-9, 9, 1],
    [87_960_930_222.07, 2, SCALED_LIMIT - 1],
    [-87_960_930_222.07, 2, 1 - SCALED_LIMIT],
  ])("%d at scale %i is %i", (value, scale, minor) => {
    expect(Object.is(toMinorUnits(value, scale, "amount"), minor)).toBe(true);
  });

  it.each([87_960_930_222.08, -87_960_930_222.08, 1e300, Number.POSITIVE_INFINITY, Number.NaN])(
    "refuses %d",
    (value) => {
      expect(refusal(() => toMinorUnits(value, 2, "amount"))).toBe(
        "number_too_large (amount): amount is kept to 2 decimal places and must be below 87,960,930,222.08",
      );
    },
  );

  it("of any number with so many places is that number", () => {
    fc.assert(
      fc.property(fc.integer({ min: -(2 ** 40), max: 2 ** 40 }), (minor) => {
        expect(toMinorUnits(minor / 100, 2, "amount")).toBe(minor + 0);
      }),
    );
  });
});

describe("channels", () => {
  const read = (feature: d.AggregationDefinition, fields: Fields) => {
    const [{ channels }] = compileGroups(viewPlan({ x: feature }), "payments", hash64);
    return channels.map((channel) => channel(fields));
  };

  it("give nothing where the field is absent or the condition does not hold", () => {
    expect(read(d.sum("amount", { scale: 2 }), { amount: null })).toEqual([null]);
    expect(read(d.sum("amount", { scale: 2 }), {})).toEqual([null]);
    expect(read(d.count({ where: d.eq("country", "NO") }), { country: "SE" })).toEqual([null]);
    expect(read(d.count({ where: d.eq("country", "NO") }), { country: "NO" })).toEqual([{ value: null, hash: 0 }]);
  });

  it("hash only what a distinct count needs, by the first 32 bits of the value's text", () => {
    const first32 = Number.parseInt(hash64("shop-1").slice(0, 8), 16);
    expect(read(d.approxDistinct("shop"), { shop: "shop-1" })).toEqual([{ value: "shop-1", hash: first32 }]);
    expect(read(d.last("shop"), { shop: "shop-1" })).toEqual([{ value: "shop-1", hash: 0 }]);
    expect(read(d.approxDistinct("online"), { online: true })[0]!.hash).toBe(
      Number.parseInt(hash64("true").slice(0, 8), 16),
    );
  });

  it("turn -0 into 0", () => {
    expect(read(d.min("amount"), { amount: -0 })).toEqual([{ value: 0, hash: 0 }]);
  });

  it("bound texts that are kept, whether they are counted as well or not", () => {
    const text = "x".repeat(VALUE_LIMIT);
    const message = "value_too_long (shop): shop is at most 1024 characters, given 1025";
    expect(refusal(() => read(d.last("shop"), { shop: text }))).toBe("accepted");
    expect(refusal(() => read(d.last("shop"), { shop: `${text}x` }))).toBe(message);
    const both = viewPlan({ last: d.last("shop"), shops: d.approxDistinct("shop") });
    const [{ channels }] = compileGroups(both, "payments", hash64);
    expect(channels).toHaveLength(1);
    expect(refusal(() => channels[0]({ shop: `${text}x` }))).toBe(message);
    expect(refusal(() => read(d.approxDistinct("shop"), { shop: `${text}x` }))).toBe("accepted");
  });
});

describe("entityId", () => {
  it("skips an entity that the event does not name", () => {
    for (const shop of [null, undefined, ""]) expect(entityId({ shop }, "shop")).toBeNull();
    expect(entityId({ shop: 17 }, "shop")).toBe("17");
  });

  it("refuses one that is too long", () => {
    expect(refusal(() => entityId({ shop: "x".repeat(300) }, "shop"))).toBe(
      "key_too_long (shop): shop is at most 256 characters, given 300",
    );
  });
});
