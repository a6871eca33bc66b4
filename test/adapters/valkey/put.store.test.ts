/** Puts on a real Valkey: what was built from the archive takes the place of what lies below the seal, and nothing else. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { hash64 } from "../../../adapters/hash.ts";
import { ABSORBED_FIELD, type Birth } from "../../../adapters/valkey/layout.ts";
import { encodePut, type PutFate } from "../../../adapters/valkey/put.ts";
import { compile, EMPTY_LOCK, type Lock } from "../../../core/compile/compile.ts";
import * as d from "../../../core/definition.ts";
import { compileGroups } from "../../../core/event.ts";
import { isObject } from "../../../core/operators/accumulators.ts";
import type { Plan } from "../../../core/plan.ts";
import { floorTo } from "../../../core/tiles/window.ts";
import { fileStore } from "../../support/file-store.ts";
import { card, contracts, payments } from "../../support/fixture-plan.ts";
import { CARD_PLANS, viewPlan } from "../../support/group-plans.ts";
import { buildByModel, expectModel, identityOf, isKnown, modelOf } from "../../support/model-build.ts";
import { allBorn, type OneEntity, type RawEvent } from "../../support/one-entity.ts";

const store = fileStore();
let tenants = 0;
const MINUTE = 60_000;
const START = Date.UTC(2026, 0, 5, 22, 17);

const share = fc.nat(1_000_000).map((n) => n / 1_000_000);
const payment = fc.record({
  id: fc.nat(30).map((n) => `e${n}`),
  at: share,
  shop: fc.oneof(
    fc.constant(null),
    fc.nat(3).map((n) => `s${n}`),
  ),
  amount: fc.oneof(
    fc.constantFrom(null, 0, -0, 1.005, -12.34, 87960930222.07),
    fc.double({ min: -1e6, max: 1e6, noNaN: true }),
  ),
  country: fc.constantFrom("NO", "SE", null),
  online: fc.constantFrom(true, false, null),
});
const step = fc.record({
  live: fc.array(payment, { maxLength: 8 }),
  imported: fc.array(payment, { maxLength: 8 }),
  seal: share,
  after: fc.constantFrom("touch", "put", "nothing"),
});

const newOne = (name: string) => store.entity(`${name.replaceAll(/[^a-z]/g, "")}${tenants++}`.slice(-60));

/** Builds the card from `archive` and puts it. */
async function put(
  one: OneEntity,
  plan: Plan,
  archive: readonly RawEvent[],
  sealMs: number,
  options: { generation?: number; whole?: boolean; fromIndex?: number; sealIndex?: number } = {},
): Promise<PutFate | "nothing"> {
  const [group] = plan.groups;
  const built = buildByModel(plan, one.tenant, archive, sealMs);
  if (built.newestMs === null || (built.fields.length === 0 && !isKnown(group, built.newestMs, sealMs)))
    return "nothing";
  const header = {
    sealIndex: sealMs / group.baseMs,
    generation: generations++,
    whole: true,
    fromIndex: 0,
    ...options,
    newestMs: built.newestMs,
  };
  // A build that does not go back to the beginning makes nothing of the lifetime, as `extentsOf` says.
  const names = built.fields.filter((_, i) => i % 2 === 0);
  const fields = built.fields.filter((_, i) => header.whole || !isAbsorbed(names[i >> 1]));
  const { applier } = one.writer(plan);
  const [[fate]] = await applier.put([
    { bucket: one.bucket, puts: [{ key: one.key, blob: encodePut(group, header, fields) }] },
  ]);
  return fate;
}
let generations = 1_000;
/** Objects' fields, too, begin so. */
const isAbsorbed = (name: Buffer): boolean => name[0] === ABSORBED_FIELD[0];

async function expectServed(one: OneEntity, plan: Plan, visible: readonly RawEvent[], sealMs: number, t: number) {
  await expectModel(one, plan, modelOf(plan, one.tenant, visible, sealMs), t);
}

describe.each(Object.entries(CARD_PLANS))("what is served after puts is what the events give: %s", (name, plan) => {
  const [{ group }] = compileGroups(plan, "payments", hash64);

  it("whatever was applied before and after, wherever the seal stood, whichever slots were just born", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 1, maxLength: 6 }),
        fc.constantFrom(40 * MINUTE, 7 * 60 * MINUTE, 9 * 86_400_000),
        fc.tuple(share, fc.nat()),
        share,
        async (steps, spanMs, [birth, chosen], after) => {
          const one = newOne(name);
          const writer = one.writer(plan);
          const [{ baseMs }] = plan.groups;
          let sealMs = floorTo(START - 86_400_000, baseMs);
          // A slot that is added on the way counts from its birth on, until a build has completed it.
          const bornAt = Math.ceil((START + birth * spanMs) / baseMs);
          let births: Birth[] = group.slots.map(({ id, kind }, i) => ({
            object: isObject(kind),
            slot: id,
            baseIndex: (chosen >> (i % 30)) % 2 === 1 ? bornAt : 0,
          }));
          const control = () => one.control([{ group, sealMs, births }]);
          const archive = new Map<string, RawEvent>();
          const visible = new Map<string, RawEvent>();
          let latest = START;
          const build = async () => {
            for (const [identity, event] of archive) if (event.timeMs < sealMs) visible.set(identity, event);
            expect(["put", "nothing"]).toContain(await put(one, plan, [...archive.values()], sealMs));
            births = births.map((b) => (b.baseIndex * baseMs <= sealMs ? { ...b, baseIndex: 0 } : b));
            await control();
          };
          await control();
          for (const { live, imported, seal, after: next } of steps) {
            const toEvent = ({ id, at, ...fields }: (typeof live)[number], spread: number): RawEvent => ({
              id,
              timeMs: START + Math.round(at * spread),
              fields,
            });
            const sent = live.map((raw) => toEvent(raw, spanMs));
            const fates = await writer.apply(sent);
            sent.forEach((event, i) => {
              if (fates[i].fate !== "applied") return;
              const identity = identityOf(one.tenant, event);
              archive.set(identity, event);
              visible.set(identity, event);
              latest = Math.max(latest, event.timeMs);
            });
            for (const raw of imported) {
              const event = toEvent(raw, sealMs - START);
              const identity = identityOf(one.tenant, event);
              if (event.timeMs < sealMs && !archive.has(identity)) archive.set(identity, event);
            }
            sealMs = Math.max(sealMs, floorTo(START + seal * spanMs, baseMs));
            await control();
            if (next === "touch") await writer.touch();
            if (next === "put") await build();
          }
          sealMs = Math.max(sealMs, bornAt * baseMs);
          await control();
          await build();
          const t = Math.max(latest, sealMs) + Math.round(after * spanMs);
          await expectServed(one, plan, [...visible.values()], sealMs, Math.max(latest, sealMs));
          await expectServed(one, plan, [...visible.values()], sealMs, t);
          // Later events and folds go on from what was put.
          const more: RawEvent[] = steps[0].live.map(({ id, at, ...fields }) => ({
            id: `more-${id}`,
            timeMs: sealMs + Math.round(at * spanMs),
            fields,
          }));
          await writer.apply(more);
          for (const event of more) visible.set(identityOf(one.tenant, event), event);
          sealMs = floorTo(sealMs + spanMs / 2, baseMs);
          await control();
          await writer.touch();
          await expectServed(one, plan, [...visible.values()], sealMs, sealMs + spanMs);
        },
      ),
      { numRuns: 25 },
    );
  });
});

describe("a put", () => {
  const plan = viewPlan({
    n: d.count().over("5m", "24h", "lifetime"),
    total: d.sum("amount", { scale: 2 }).over("24h"),
    last: d.last("country").over("24h", "lifetime"),
  });
  const [group] = plan.groups;
  const HOUR = 60 * MINUTE;
  const DAY = 24 * HOUR;
  // Recent: a key that has expired would be gone before it can be looked at.
  const seal = floorTo(Date.now() - 20 * MINUTE, MINUTE);
  const event = (id: string, timeMs: number, country = "NO"): RawEvent => ({
    id,
    timeMs,
    fields: { amount: 1.5, country, shop: null, online: null },
  });
  const served = async (one: OneEntity, name: string, t = seal + MINUTE, of = plan) =>
    (await one.read(of, t)).get(`view:${name}`);

  it("answers that the seal has moved, and changes nothing", async () => {
    const one = newOne("moved");
    await one.control([{ group, sealMs: seal, births: allBorn(group) }]);
    const archive = [event("a", seal - HOUR)];
    expect(await put(one, plan, archive, seal - 5 * MINUTE)).toBe("moved");
    expect(await put(one, plan, archive, seal + 5 * MINUTE)).toBe("moved");
    expect((await one.dump()).size).toBe(0);
  });

  it("of an older listing, or of the same again, changes nothing", async () => {
    const one = newOne("older");
    await one.control([{ group, sealMs: seal, births: allBorn(group) }]);
    const [a, b] = [event("a", seal - HOUR), event("b", seal - 2 * HOUR)];
    expect(await put(one, plan, [a, b], seal, { generation: 50 })).toBe("put");
    const before = await one.dump();
    expect(await put(one, plan, [a], seal, { generation: 49 })).toBe("older");
    expect(await put(one, plan, [a], seal, { generation: 50 })).toBe("older");
    expect(await one.dump()).toEqual(before);
    expect(await put(one, plan, [a], seal, { generation: 51 })).toBe("put");
    expect((await served(one, "n_24h"))!.value).toBe(1);
  });

  it("makes a key that ends with its newest event's reach, and one with a lifetime that stays", async () => {
    const windowed = viewPlan({ n: d.count().over("24h") });
    for (const [of, lasting] of [
      [windowed, false],
      [plan, true],
    ] as const) {
      const one = newOne("fresh");
      await one.control([{ group: of.groups[0], sealMs: seal, births: allBorn(of.groups[0]) }]);
      expect(await put(one, of, [event("a", seal - HOUR)], seal)).toBe("put");
      const expiry = await one.command<number>("PEXPIRETIME");
      if (lasting) expect(expiry).toBe(-1);
      else expect(Math.abs(expiry - Date.now() - of.groups[0].expireMs!)).toBeLessThan(MINUTE);
    }
  });

  it("leaves tiles, identities and newest times above the seal as they are, however busy the entity is", async () => {
    const one = newOne("busy");
    const writer = one.writer(plan);
    await one.control([{ group, sealMs: seal, births: allBorn(group) }]);
    // More than 4 KB of identities in one base tile: they lie in fields of their own.
    const live = Array.from({ length: 700 }, (_, i) => event(`live-${i}`, seal + (i % 60) * 1000));
    await writer.apply(live);
    const above = await one.dump();
    const history = Array.from({ length: 300 }, (_, i) => event(`old-${i}`, seal - 1 - i * 4 * MINUTE, "SE"));
    expect(await put(one, plan, history, seal)).toBe("put");
    const after = await one.dump();
    const meta = Buffer.from("m").toString("hex");
    for (const [field, bytes] of above) if (field !== meta) expect(after.get(field), field).toEqual(bytes);
    expect((await writer.apply(live.slice(0, 5))).map(({ fate }) => fate)).toEqual(Array(5).fill("duplicate"));
    await expectServed(one, plan, [...history, ...live], seal, seal + MINUTE);
  });

  it("without the archive's beginning leaves the lifetime and the tiles before its own beginning", async () => {
    const one = newOne("trimmed");
    const writer = one.writer(plan);
    await one.control([{ group, sealMs: seal - 5 * DAY, births: allBorn(group) }]);
    const old = [event("a", seal - 4 * DAY), event("b", seal - 3 * DAY), event("c", seal - 20 * HOUR)];
    await writer.apply(old);
    await one.control([{ group, sealMs: seal, births: allBorn(group) }]);
    await writer.touch();
    const late = [event("d", seal - 10 * HOUR, "SE")];
    const fromIndex = floorTo(seal - 12 * HOUR, HOUR) / MINUTE;
    expect(await put(one, plan, late, seal, { whole: false, fromIndex })).toBe("put");
    expect((await served(one, "n_24h"))!.value).toBe(2);
    const today = floorTo(seal, DAY) <= late[0].timeMs ? 1 : 0;
    // The lifetime is what was absorbed, and the tiles since: an event that is older than those is not counted twice.
    expect((await served(one, "n_lifetime"))!.value).toBe(3 + today);
  });

  it("keeps what slots of another plan have in the same tiles", async () => {
    const source = payments;
    const compileOnly = (features: Record<string, d.AggregationDefinition>, given: Lock) =>
      compile(
        {
          entities: [card],
          streams: [source],
          views: [d.featureView("view", { entity: card, source, ttl: "3000d", owner: "t", features })],
          services: [],
        },
        contracts,
        given,
        hash64,
      );
    const older = compileOnly({ n: d.count().over("24h"), low: d.min("amount").over("24h") }, EMPTY_LOCK);
    const newer = compileOnly(
      { n: d.count().over("24h"), total: d.sum("amount", { scale: 2 }).over("24h") },
      older.lock,
    );
    const one = newOne("overlap");
    const [oldGroup] = older.plan.groups;
    const [newGroup] = newer.plan.groups;
    await one.control([{ group: oldGroup, sealMs: seal - DAY, births: allBorn(oldGroup) }]);
    const events = [event("a", seal - 10 * HOUR), event("b", seal - 7 * MINUTE)];
    const old = one.writer(older.plan);
    await old.apply(events);
    await one.control([{ group: oldGroup, sealMs: seal, births: allBorn(oldGroup) }]);
    await old.touch();
    await one.control([{ group: newGroup, sealMs: seal, births: allBorn(newGroup, seal / MINUTE) }]);
    expect(await put(one, newer.plan, events, seal)).toBe("put");
    await one.control([{ group: newGroup, sealMs: seal, births: allBorn(newGroup) }]);
    expect((await served(one, "total_24h", seal + MINUTE, newer.plan))!.value).toBe(3);
    // What the older plan's code has folded is still there for its readers.
    const both = [...allBorn(newGroup), ...allBorn(oldGroup)];
    await one.control([{ group: oldGroup, sealMs: seal, births: both }]);
    expect((await served(one, "low_24h", seal + MINUTE, older.plan))!.value).toBe(1.5);
    // And its code does not put while a newer plan's slots are being born: it would not know what to build.
    expect(await put(one, older.plan, events, seal)).toBe("held");
  });

  it("waits while the entity is folded up to a seal that stood for weeks, which takes several calls", async () => {
    const one = newOne("lagging");
    const archive = Array.from({ length: 3_000 }, (_, i) => event(`e${i}`, seal - (i + 1) * 10 * MINUTE));
    await one.control([{ group, sealMs: seal - 30 * DAY, births: allBorn(group) }]);
    await one.writer(plan).apply(archive);
    await one.control([{ group, sealMs: seal, births: allBorn(group) }]);
    const fates: string[] = [];
    do fates.push(await put(one, plan, archive, seal));
    while (fates[fates.length - 1] === "held" && fates.length < 10);
    expect(fates.slice(0, 2)).toEqual(["held", "held"]);
    expect(fates[fates.length - 1]).toBe("put");
    await expectServed(one, plan, archive, seal, seal + MINUTE);
  });

  it("waits while a failover is not cleared", async () => {
    const one = newOne("failover");
    await one.control([{ group, sealMs: seal, births: allBorn(group) }], "failover");
    expect(await put(one, plan, [event("a", seal - HOUR)], seal)).toBe("held");
    expect((await one.dump()).size).toBe(0);
  });
});
