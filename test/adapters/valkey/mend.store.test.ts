/** Repairs on a real Valkey: an event that came below the seal ends up wherever it would be, had it come in time, and once. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { hash64 } from "../../../adapters/hash.ts";
import type { Birth } from "../../../adapters/valkey/layout.ts";
import { encodeMend, type MendAnswer, type MendToken, readMendTokens } from "../../../adapters/valkey/mend.ts";
import { encodePut, type PutFate } from "../../../adapters/valkey/put.ts";
import { RecordPacker } from "../../../adapters/valkey/record.ts";
import * as d from "../../../core/definition.ts";
import { compileGroups } from "../../../core/event.ts";
import type { Plan } from "../../../core/plan.ts";
import { floorTo } from "../../../core/tiles/window.ts";
import { fileStore } from "../../support/file-store.ts";
import { CARD_PLANS, viewPlan } from "../../support/group-plans.ts";
import { buildByModel, expectModel, identityOf, modelOf } from "../../support/model-build.ts";
import { allBorn, type OneEntity, type RawEvent } from "../../support/one-entity.ts";

const store = fileStore();
let tenants = 0;
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const START = Date.UTC(2026, 0, 5, 22, 17);

const share = fc.nat(1_000_000).map((n) => n / 1_000_000);
const payment = fc.record({
  id: fc.nat(30).map((n) => `e${n}`),
  at: share,
  shop: fc.constantFrom(null, "s1", "s2"),
  amount: fc.oneof(
    fc.constantFrom(null, 0, -0, 1.005, -12.34, 87960930222.07),
    fc.double({ min: -1e6, max: 1e6, noNaN: true }),
  ),
  country: fc.constantFrom("NO", "SE", null),
  online: fc.constantFrom(true, false, null),
});
const step = fc.record({
  sent: fc.array(payment, { maxLength: 8 }),
  seal: share,
  after: fc.constantFrom("touch", "put", "nothing"),
  /** A repair that was cut off before its rows were archived, and is done again. */
  twice: fc.boolean(),
});

const newOne = (name: string) => store.entity(`${name.replaceAll(/[^a-z]/g, "")}m${tenants++}`.slice(-60));
const tokenOf = async (one: OneEntity): Promise<MendToken> => (await readMendTokens(one.connection, [one.key]))[0]!;

async function mend(
  one: OneEntity,
  plan: Plan,
  events: readonly RawEvent[],
  given?: MendToken,
  settled: readonly string[] = [],
): Promise<MendAnswer> {
  const packer = new RecordPacker(plan, "payments");
  const token = given ?? (await tokenOf(one));
  const records = [...events]
    .sort((a, b) => a.timeMs - b.timeMs)
    .map(({ id, timeMs, fields }) => {
      const all = { tenant: one.tenant, id, at: timeMs, card: "c", ...fields };
      const { identity, updates } = packer.prepare(one.tenant, id, timeMs, all);
      return { identity, fingerprint: 7, update: updates.find(({ entity }) => entity === "card")! };
    });
  const blob = encodeMend(plan.groups[0].id, token, records, settled);
  const [[answer]] = await one.writer(plan).applier.mend([{ bucket: one.bucket, puts: [{ key: one.key, blob }] }]);
  return answer;
}

const fatesOf = (answer: MendAnswer) =>
  answer.kind === "done" ? answer.outcomes.map(({ fate }) => fate) : answer.kind;

async function put(
  one: OneEntity,
  plan: Plan,
  archive: readonly RawEvent[],
  sealMs: number,
  options: { listedUs?: number; whole?: boolean } = {},
): Promise<PutFate> {
  const [group] = plan.groups;
  const built = buildByModel(plan, one.tenant, archive, sealMs);
  const generation = Date.now() * 1_000 + 3_600_000_000 + generations++;
  const header = {
    ...{ sealIndex: sealMs / group.baseMs, generation, whole: true, fromIndex: 0, listedUs: generation },
    ...options,
    newestMs: built.newestMs,
  };
  const { applier } = one.writer(plan);
  const blob = encodePut(group, header, built.fields);
  const [[fate]] = await applier.put([{ bucket: one.bucket, puts: [{ key: one.key, blob }] }]);
  return fate;
}
let generations = 0;

async function expectServed(one: OneEntity, plan: Plan, visible: readonly RawEvent[], sealMs: number, t: number) {
  await expectModel(one, plan, modelOf(plan, one.tenant, visible, sealMs), t);
}

describe.each(Object.entries(CARD_PLANS))("what is served after repairs is what the events give: %s", (name, plan) => {
  const [{ group }] = compileGroups(plan, "payments", hash64);

  it("however late they are, wherever the seal stood, folded before or after, built in between", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 1, maxLength: 6 }),
        fc.constantFrom(40 * MINUTE, 7 * HOUR, 9 * DAY),
        share,
        async (steps, spanMs, after) => {
          const one = newOne(name);
          const writer = one.writer(plan);
          const [{ baseMs }] = plan.groups;
          let sealMs = floorTo(START - DAY, baseMs);
          const births: Birth[] = allBorn(group);
          const control = () => one.control([{ group, sealMs, births }]);
          const visible = new Map<string, RawEvent>();
          let latest = START;
          await control();
          for (const { sent: raw, seal, after: next, twice } of steps) {
            const sent = raw.map(
              ({ id, at, ...fields }): RawEvent => ({ id, timeMs: START + Math.round(at * spanMs), fields }),
            );
            const fates = await writer.apply(sent);
            const late = new Map<string, RawEvent>();
            sent.forEach((event, i) => {
              const identity = identityOf(one.tenant, event);
              if (fates[i].fate === "applied") visible.set(identity, event);
              // The archive tells which of them are visible already.
              if (fates[i].fate === "sealed" && !visible.has(identity) && !late.has(identity))
                late.set(identity, event);
              latest = Math.max(latest, event.timeMs);
            });
            const events = [...late.values()];
            const answer = await mend(one, plan, events);
            expect(fatesOf(answer)).toEqual(events.map(() => "mended"));
            if (twice) expect(fatesOf(await mend(one, plan, events))).toEqual(events.map(() => "mended"));
            for (const [identity, event] of late) visible.set(identity, event);
            await mend(one, plan, [], undefined, [...late.keys()]);
            expect((await tokenOf(one)).unsettled).toEqual([]);
            sealMs = Math.max(sealMs, floorTo(START + seal * spanMs, baseMs));
            await control();
            if (next === "touch") await writer.touch();
            const below = [...visible.values()].filter(({ timeMs }) => timeMs < sealMs);
            if (next === "put" && below.length > 0)
              expect(await put(one, plan, [...visible.values()], sealMs)).toBe("put");
          }
          const t = Math.max(latest, sealMs);
          await expectServed(one, plan, [...visible.values()], sealMs, t);
          await expectServed(one, plan, [...visible.values()], sealMs, t + Math.round(after * spanMs));
          sealMs = floorTo(sealMs + spanMs / 2, baseMs);
          await control();
          await writer.touch();
          await expectServed(one, plan, [...visible.values()], sealMs, Math.max(latest, sealMs) + spanMs);
        },
      ),
      { numRuns: 20, seed: 611 },
    );
  });
});

describe("a repair", () => {
  const plan = viewPlan({
    n: d.count().over("5m", "24h", "lifetime"),
    total: d.sum("amount", { scale: 2 }).over("24h"),
    last: d.last("country").over("24h", "lifetime"),
  });
  const [group] = plan.groups;
  const seal = floorTo(Date.now() - 20 * MINUTE, MINUTE);
  const event = (id: string, timeMs: number, country = "NO"): RawEvent => ({
    id,
    timeMs,
    fields: { amount: 1.5, country, shop: null, online: null },
  });
  const opened = async (name: string, births = allBorn(group)) => {
    const one = newOne(name);
    await one.control([{ group, sealMs: seal, births }]);
    return one;
  };
  const served = async (one: OneEntity, name: string, t = seal + MINUTE) =>
    (await one.read(plan, t)).get(`view:${name}`)!.value;

  it("of an event that is repaired already answers when it became visible, and which payload counts", async () => {
    const one = await opened("again");
    const late = event("a", seal - HOUR);
    const first = await mend(one, plan, [late]);
    const [mended] = first.kind === "done" ? first.outcomes : [];
    expect(mended).toMatchObject({ fate: "mended", fingerprint: null });
    const { visibleMs } = mended as { visibleMs: number };
    const token = await tokenOf(one);
    expect(token.unsettled).toEqual([{ identity: identityOf(one.tenant, late), fingerprint: 7, visibleMs }]);
    expect(await mend(one, plan, [event("a", seal - HOUR, "SE")])).toEqual({
      kind: "done",
      outcomes: [{ fate: "mended", visibleMs, fingerprint: 7 }],
    });
    expect(await served(one, "n_24h")).toBe(1);
    expect(await served(one, "last_24h")).toBe("NO");
  });

  it("that listed the archive before another one's rows were in it changes nothing", async () => {
    const one = await opened("raced");
    const late = event("a", seal - HOUR);
    const before = await tokenOf(one);
    await mend(one, plan, [late]);
    const between = await tokenOf(one);
    expect(await mend(one, plan, [late], before)).toEqual({ kind: "raced" });
    await mend(one, plan, [], undefined, [identityOf(one.tenant, late)]);
    const dump = await one.dump();
    expect(await mend(one, plan, [late], before)).toEqual({ kind: "raced" });
    expect(await mend(one, plan, [late], between)).toEqual({ kind: "raced" });
    expect(await one.dump()).toEqual(dump);
    expect(await served(one, "n_lifetime")).toBe(1);
  });

  it("and a put: an older listing is refused, one without its rows waits, a newer one takes its place", async () => {
    const one = await opened("put");
    const [early, late] = [event("a", seal - 2 * HOUR), event("b", seal - HOUR)];
    expect(await put(one, plan, [early], seal)).toBe("put");
    const listedUs = Date.now() * 1_000 - 5_000_000;
    const before = await tokenOf(one);
    await mend(one, plan, [late]);
    expect(await put(one, plan, [early], seal, { listedUs })).toBe("older");
    expect(await put(one, plan, [early], seal)).toBe("held");
    await mend(one, plan, [], undefined, [identityOf(one.tenant, late)]);
    expect(await put(one, plan, [early], seal, { listedUs })).toBe("older");
    expect(await put(one, plan, [early, late], seal)).toBe("put");
    expect((await tokenOf(one)).clock).toBe(0);
    expect(await served(one, "n_24h")).toBe(2);
    // Its own listing is older than the put.
    expect(await mend(one, plan, [event("c", seal - HOUR)], before)).toEqual({ kind: "raced" });
    expect(fatesOf(await mend(one, plan, [event("c", seal - HOUR)]))).toEqual(["mended"]);
    expect(await served(one, "n_lifetime")).toBe(3);
  });

  it("leaves to the apply what is not sealed, and to a build what lies before the birth of a slot", async () => {
    const born = floorTo(seal - 2 * DAY, MINUTE) / MINUTE;
    const one = await opened("left", [...allBorn(group).slice(1), { ...allBorn(group)[0]!, baseIndex: born }]);
    const firstWholeDay = floorTo(seal - 2 * DAY, DAY) + DAY;
    const events = [
      event("a", seal - 3 * DAY),
      // After the birth, in the day that the lifetime does not absorb whole.
      event("b", Math.max(seal - 2 * DAY, firstWholeDay - 1)),
      event("c", firstWholeDay),
      event("d", seal),
    ];
    expect(fatesOf(await mend(one, plan, events))).toEqual(["unborn", "unborn", "mended", "open"]);
    await one.control([{ group, sealMs: seal, births: allBorn(group).slice(1) }]);
    expect(fatesOf(await mend(one, plan, [event("e", seal - HOUR)]))).toEqual(["unborn"]);
  });

  it("that was cut off is ended after slots were added, and the build that waited for it goes on", async () => {
    const one = await opened("unborn");
    const late = event("a", seal - HOUR);
    await mend(one, plan, [late]);
    await one.control([
      {
        group,
        sealMs: seal,
        births: [...allBorn(group).slice(1), { ...allBorn(group)[0]!, baseIndex: seal / MINUTE }],
      },
    ]);
    expect(fatesOf(await mend(one, plan, [late, event("b", seal - HOUR)]))).toEqual(["mended", "unborn"]);
    expect(await put(one, plan, [late], seal)).toBe("held");
    await mend(one, plan, [], undefined, [identityOf(one.tenant, late)]);
    expect(await put(one, plan, [late], seal)).toBe("put");
  });

  it("is in no tile that a snapshot's older seal would open again: the entity is folded as far as it is sealed", async () => {
    const one = newOne("older");
    const hour = floorTo(seal, HOUR);
    const { apply } = one.writer(plan);
    const late = event("a", hour + MINUTE);
    // No coarser tile ends between the two seals: an apply folds nothing by itself.
    await one.control([{ group, sealMs: hour, births: allBorn(group) }]);
    await apply([event("b", hour + 10 * MINUTE)]);
    await one.control([{ group, sealMs: hour + 4 * MINUTE, births: allBorn(group) }]);
    expect(await apply([late])).toMatchObject([{ fate: "sealed" }]);
    expect(fatesOf(await mend(one, plan, [late]))).toEqual(["mended"]);
    expect(await served(one, "n_24h", hour + 11 * MINUTE)).toBe(2);
    // As the bucket is restored from a round that began before the seal had come so far.
    await one.control([{ group, sealMs: hour, births: allBorn(group) }]);
    expect(await apply([late])).toMatchObject([{ fate: "sealed" }]);
    expect(await served(one, "n_24h", hour + 11 * MINUTE)).toBe(2);
  });

  it("waits while a failover is not cleared", async () => {
    const one = newOne("failover");
    await one.control([{ group, sealMs: seal, births: allBorn(group) }], "failover");
    expect(await mend(one, plan, [event("a", seal - HOUR)])).toEqual({ kind: "held" });
    expect((await one.dump()).size).toBe(0);
  });

  it("of an event that is older than every window makes no key", async () => {
    const windowed = viewPlan({ n: d.count().over("24h") });
    const one = newOne("ancient");
    await one.control([{ group: windowed.groups[0], sealMs: seal, births: allBorn(windowed.groups[0]) }]);
    expect(fatesOf(await mend(one, windowed, [event("a", seal - 40 * DAY)]))).toEqual(["mended"]);
    expect((await one.dump()).size).toBe(0);
    expect(fatesOf(await mend(one, windowed, [event("b", seal - HOUR)]))).toEqual(["mended"]);
    const expiry = await one.command<number>("PEXPIRETIME");
    expect(Math.abs(expiry - Date.now() - windowed.groups[0].expireMs!)).toBeLessThan(MINUTE);
  });
});
