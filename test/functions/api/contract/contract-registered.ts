/** Registrations of features, asked over HTTP alone: for every host that has them. Their values: contract-pushed.ts. */
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import * as schemas from "../../../../functions/api/openapi/schemas.ts";
import { registeredAnswer } from "../../../../functions/api/registered/pushed-schemas.ts";
import { type ContractTarget, caller, conforming } from "./contract-calls.ts";

const REGISTER = "/v1/features/register";
const PUSH = "/v1/features/push";

/** What tests of registered features do again and again. */
export function pushedCalls(target: ContractTarget) {
  const call = caller(target);
  /** A view that no other test has. */
  const freshView = () => `v${randomUUID().replaceAll("-", "").slice(0, 12)}`;
  const register = async (body: Record<string, unknown>, key = target.keys().firstAdmin) => {
    const reply = await call(REGISTER, { body: { dtype: "double", entity: "card", ...body }, key });
    expect([reply.body.detail, reply.status]).toEqual([undefined, expect.any(Number)]);
    return { status: reply.status, ...conforming(registeredAnswer, reply) };
  };
  const push = (body: unknown, key?: string) => call(PUSH, { body, key });
  /** Another process of a host may answer, which learns of a registration within seconds. */
  const settled = async (ask: () => Promise<{ status: number }>) => {
    for (let i = 0; i < 40 && (await ask()).status === 404; i++) await sleep(250);
  };
  async function read(card: string, features: readonly string[], key?: string) {
    const reply = await call("/v1/features/online", { body: { entities: { card_id: card }, features }, key });
    expect([reply.body.detail, reply.status]).toEqual([undefined, 200]);
    return conforming(schemas.onlineAnswer, reply).features;
  }
  return { call, freshView, register, push, settled, read };
}

export function describeRegistered(target: ContractTarget): void {
  const { call, freshView, register, push, settled, read } = pushedCalls(target);

  describe("registered features", () => {
    it("registering again with the same changes nothing; otherwise it says what differs, and how to go on", async () => {
      const name = `${freshView()}:age`;
      const body = { name, description: "first", tags: ["b", "a"] };
      const first = await register(body);
      expect(await register(body)).toEqual({
        ...first,
        ...{ status: 200, outcome: "unchanged", request_id: expect.any(String) },
      });
      const refused = async (more: Record<string, unknown>) => {
        const reply = await call(REGISTER, {
          body: { dtype: "double", entity: "card", ...body, ...more },
          key: target.keys().firstAdmin,
        });
        expect([reply.status, reply.body.code]).toEqual([409, "feature_conflict"]);
        return [reply.body.field, reply.body.detail, reply.body.repair];
      };
      expect(await refused({ dtype: "string" })).toEqual([
        "dtype",
        `${name}@1 is registered with dtype double, given string`,
        "register it as version 2: what is stored keeps its meaning",
      ]);
      expect(await refused({ entity: "merchant", replace: true })).toEqual([
        "entity",
        `${name}@1 is registered with entity card, given merchant`,
        "register it as version 2: what is stored keeps its meaning",
      ]);
      // What the store has let go by the shorter one is in the archive, and would be in training sets alone.
      expect(await refused({ ttl: "3h", replace: true })).toEqual([
        "ttl",
        `${name}@1 is registered with ttl 1h, given 3h`,
        expect.stringContaining("register it as version 2 and push to that: values older than 1h may be gone"),
      ]);
      expect(await refused({ ttl: "30m", owner: "x" })).toEqual([
        "ttl",
        `${name}@1 is registered with another ttl, owner`,
        'send "replace": true to replace it, or what is registered',
      ]);
      expect(await register({ ...body, ttl: 1_800, replace: true })).toMatchObject({
        ...{ outcome: "changed", ttl_ms: 1_800_000, registered_at_ms: first.registered_at_ms },
      });
    });

    it("another version is another value, which the name alone means once it is told to", async () => {
      const [view, card] = [freshView(), randomUUID()];
      const name = `${view}:level`;
      await register({ name });
      expect(await register({ name, version: 2, dtype: "string" })).toMatchObject({ current_version: 1 });
      const row = (value: unknown) => ({ rows: [{ id: card, values: [value] }], event_time_ms: Date.now() - 1_000 });
      await settled(() => push({ features: [`${name}@2`], ...row("high") }));
      expect((await push({ features: [`${name}@2`], ...row("high") })).status).toBe(200);
      expect((await push({ features: [name], ...row(0.9) })).status).toBe(200);
      const names = [name, `${name}@1`, `${name}@2`];
      await settled(() => call("/v1/features/online", { body: { entities: { card_id: card }, features: names } }));
      const values = async () => {
        const found = await read(card, names);
        return names.map((each) => found[each].value);
      };
      expect(await values()).toEqual([0.9, 0.9, "high"]);
      expect(await register({ name, version: 2, dtype: "string", current: true })).toMatchObject({
        ...{ outcome: "changed", current_version: 2 },
      });
      for (let i = 0; i < 40 && (await values())[0] !== "high"; i++) await sleep(250);
      expect(await values()).toEqual(["high", 0.9, "high"]);
    });

    it("a name that holds a line's end is unknown, and never two names that were asked for before", async () => {
      const view = freshView();
      for (const key of ["a", "b"]) await register({ name: `${view}:${key}` });
      for (const names of [
        ["card_activity:tx_count_1h", "card_activity:amount_sum_24h"],
        [`${view}:a`, `${view}:b`],
      ]) {
        const asked = (features: string[]) =>
          [
            ["/v1/features/online", { entities: { card_id: "c" }, features }],
            ["/v1/features/batch", { entities: [{ card_id: "c" }], features }],
            ["/get-online-features", { entities: { card_id: ["c"] }, features }],
          ] as const;
        for (const [path, body] of asked(names)) {
          let status = 0;
          await settled(async () => {
            ({ status } = await call(path, { body }));
            return { status };
          });
          expect([path, status]).toEqual([path, 200]);
        }
        for (const [path, body] of asked([names.join("\n")])) {
          const reply = await call(path, { body });
          // Feast's errors are JSON in a string.
          const told = typeof reply.body === "string" ? JSON.parse(reply.body) : reply.body;
          expect([path, reply.status, told.code]).toEqual([path, 404, "feature_unknown"]);
        }
      }
    });

    it.each([
      [{}, 400, "field_missing", "name"],
      [{ name: "Profile:Age" }, 400, "feature_name_invalid", "name"],
      [{ name: "a:b:c" }, 400, "feature_name_invalid", "name"],
      [{ name: "a:b@2" }, 400, "feature_name_invalid", "name"],
      [{ name: "card_activity:mine" }, 409, "feature_declared", "name"],
      [{ name: "merchant_risk:mine" }, 409, "feature_declared", "name"],
      // On-demand features of a service are read under its name.
      [{ name: "fraud:mine" }, 409, "feature_declared", "name"],
      [{ name: "a:card_id" }, 400, "feature_name_invalid", "name"],
      [{ name: "a:merchant_id" }, 400, "feature_name_invalid", "name"],
      [{ name: "a:event_timestamp" }, 400, "feature_name_invalid", "name"],
      [{ name: "a:b", entity: "carrd" }, 404, "entity_unknown", "entity"],
      [{ name: "a:b", dtype: "vector" }, 400, "dtype_unknown", "dtype"],
      [{ name: "a:b", dtype: 3 }, 400, "wrong_type", "dtype"],
      [{ name: "a:b", version: 0 }, 400, "feature_version_invalid", "version"],
      [{ name: "a:b", version: "latest" }, 400, "feature_version_invalid", "version", 'given "latest"'],
      [{ name: "a:b", ttl: "soon" }, 400, "ttl_invalid", "ttl"],
      [{ name: "a:b", ttl: 1.5 }, 400, "ttl_invalid", "ttl"],
      [{ name: "a:b", ttl: "4000d" }, 400, "ttl_invalid", "ttl", 'ttl is at most ten years, 3650d, given "4000d"'],
      [{ name: "a:b", ttl: 0 }, 400, "ttl_invalid", "ttl", "ttl is at least one second, given 0"],
      [{ name: "a:b", ttl: [] }, 400, "ttl_invalid", "ttl", "given an empty array"],
      [{ name: "a:b", tags: "fraud" }, 400, "wrong_type", "tags"],
      [{ name: "a:b", tags: ["x".repeat(65)] }, 400, "wrong_type", "tags"],
      [{ name: "a:b", description: "x".repeat(1_001) }, 400, "value_too_long", "description"],
      [{ name: "a:b", description: "\ud800" }, 400, "text_invalid", "description"],
      [{ name: "a:b", deprecated: "soon" }, 400, "deprecation_invalid", "deprecated"],
      [
        { name: "a:b", deprecated: { date: "2027-13-01" } },
        400,
        "deprecation_invalid",
        "deprecated.date",
        'given "2027-13-01"',
      ],
      [{ name: "a:b", deprecated: { date: "2027-02-30" } }, 400, "deprecation_invalid", "deprecated.date"],
      [{ name: "a:b", deprecated: { date: "2027-02-01", use: 7 } }, 400, "deprecation_invalid", "deprecated.use"],
      [{ name: "a:b", deprecated: { date: "2027-02-01", sunset: 7 } }, 400, "field_unknown", "deprecated.sunset"],
      [{ name: "a:b", replace: 1 }, 400, "wrong_type", "replace"],
      [{ name: "a:b", dtpye: "double" }, 400, "field_unknown", "dtpye"],
    ] as [object, number, string, string, string?][])(
      "registering %j → %i %s",
      async (body, status, code, field, told) => {
        const reply = await call(REGISTER, {
          body: { dtype: "double", entity: "card", ...body },
          key: target.keys().firstAdmin,
        });
        const problem = conforming(schemas.problem, reply);
        expect([reply.status, problem.code, problem.field]).toEqual([status, code, field]);
        expect(problem.detail).toContain(told ?? "");
        expect(problem.repair).not.toBe("");
      },
    );

    it("one on its way out says so in each answer that has it, with the date and what to use instead", async () => {
      const [view, card] = [freshView(), randomUUID()];
      const name = `${view}:old`;
      const deprecated = { date: "2027-01-31", use: `${view}:new` };
      await register({ name });
      expect(await register({ name, deprecated, replace: true })).toMatchObject({ outcome: "changed", deprecated });
      const body = { entities: { card_id: card }, features: [name, "card_activity:last_country"] };
      await settled(() => call("/v1/features/online", { body }));
      let reply = await call("/v1/features/online", { body });
      for (let i = 0; i < 40 && reply.body.warnings === undefined; i++) {
        await sleep(250);
        reply = await call("/v1/features/online", { body });
      }
      expect(conforming(schemas.onlineAnswer, reply).warnings).toEqual([
        { code: "feature_deprecated", feature: name, ...deprecated },
      ]);
      // RFC 9745: a date as a structured field.
      expect(reply.headers.get("deprecation")).toBe("@1801353600");
      const batch = await call("/v1/features/batch", { body: { ...body, entities: [{ card_id: card }] } });
      expect([batch.body.warnings?.length, batch.headers.get("deprecation")]).toEqual([1, "@1801353600"]);
      const all = await call(`/v1/features/card/${card}`);
      // All of the tenant's: another host's run of this suite has deprecated one, too.
      const own = all.body.warnings?.filter(({ feature }: { feature: string }) => feature === name);
      expect([own?.length, all.headers.get("deprecation")]).toEqual([1, "@1801353600"]);
      const without = await call("/v1/features/online", {
        body: { ...body, features: ["card_activity:last_country"] },
      });
      expect([without.body.warnings, without.headers.get("deprecation")]).toEqual([undefined, null]);
    });
  });
}
