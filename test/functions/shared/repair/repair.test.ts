/** What a repair does with events that go wrong one by one: by ports in memory, since no real one fails on demand. */
import { describe, expect, it } from "vitest";
import type { ArchiveRow, EntityFate } from "../../../../adapters/archive/archive.ts";
import type { LateItem } from "../../../../adapters/late-queue/late-queue.ts";
import type { PendingItem } from "../../../../adapters/late-queue/late-work.ts";
import { visibleKey } from "../../../../adapters/offline/late-rows.ts";
import type { MendAnswer, MendToken } from "../../../../adapters/valkey/mend.ts";
import { FreshetError, InfrastructureError } from "../../../../core/errors.ts";
import { VALUE_LIMIT } from "../../../../core/event.ts";
import { type RepairPorts, repairPass } from "../../../../functions/shared/repair/repair.ts";
import { type RoundPorts, repairRound } from "../../../../functions/shared/repair/repair-round.ts";
import { fingerprintOf } from "../../../../functions/shared/repair/repaired-rows.ts";
import { newer } from "../../../support/build-plans.ts";
import { identityOf } from "../../../support/model-build.ts";

const { plan } = newer;
const [stream] = plan.streams;
const MINUTE = 60_000;
const TIME = Date.UTC(2026, 10, 20, 22, 17);

const item = (id: string, over: Partial<PendingItem> = {}): PendingItem => ({
  ...{ tenant: "t", entity: "card", id: "c1", stream: "payments", attempts: 0, notBeforeMs: 0 },
  ...{ eventId: id, eventTimeMs: TIME, baseIndex: TIME / MINUTE, arrivalMs: TIME + HOUR },
  identity: identityOf("t", { id, timeMs: TIME }),
  ...over,
});
const HOUR = 60 * MINUTE;
const late = (entity: string, id: string): EntityFate => ({ entity, id, fate: "late", visibleMs: null });
const row = (
  id: string,
  fields: Record<string, unknown> = {},
  fates = [late("card", "c1")],
  sequence = "1",
): ArchiveRow => ({
  ...{ tenant: "t", stream: "payments", eventId: id, eventTimeMs: TIME, arrivalMs: TIME + HOUR, fates, sequence },
  ...{ identity: item(id).identity, shard: "shard-1", subSequence: 0 },
  fields: { tenant: "t", id, at: TIME, card: "c1", shop: null, amount: 1, country: null, online: null, ...fields },
});
const NONE: MendToken = { generation: 0, clock: 0, unsettled: [] };

/** Ports over rows of the archive. `mend` is told what each entity is given, as identities; settled ones apart. */
function portsOver(
  rows: readonly ArchiveRow[],
  options: {
    readonly tokens?: MendToken;
    readonly visible?: readonly string[];
    readonly mend?: (identities: readonly string[]) => MendAnswer;
  } = {},
) {
  const done = {
    archived: [] as ArchiveRow[],
    queued: [] as LateItem[],
    removed: [] as string[],
    putOff: [] as string[],
    failures: [] as unknown[],
    steps: [] as string[],
  };
  const mended = (identities: readonly string[]): MendAnswer => ({
    kind: "done",
    outcomes: identities.map(() => ({ fate: "mended", visibleMs: 99, fingerprint: null })),
  });
  const ports: RepairPorts = {
    plan,
    tokens: async (keys) => keys.map(() => options.tokens ?? NONE),
    applier: {
      mend: async (calls) => {
        const answers = calls.map(({ puts }) => puts.map(({ blob }) => identitiesOf(blob)));
        done.steps.push(answers.flat(2).length === 0 ? "settle" : "fold");
        return answers.map((own) => own.map((ids) => (options.mend ?? mended)(ids)));
      },
    },
    holder: async () => null,
    find: async () => ({
      rows: Map.groupBy(rows, ({ identity }) => identity!),
      visible: new Set(options.visible ?? []),
    }),
    archiveFromMs: async () => 0,
    archive: {
      write: async (given) => {
        done.steps.push("archive");
        done.archived.push(...given);
        return [];
      },
    },
    late: { put: async (items) => void done.queued.push(...items) },
    work: {
      remove: async (items) => {
        if (items.length > 0) done.steps.push("take out");
        done.removed.push(...items.map(({ eventId }) => eventId));
      },
      putOff: async ({ eventId }, code) => void done.putOff.push(`${eventId} ${code}`),
    },
    onFailure: (_, error) => done.failures.push(error),
    clock: () => 5,
  };
  return { ports, done };
}

/** Of the records in a call's bytes: function/01-head.lua has their order. */
function identitiesOf(blob: Buffer): string[] {
  let at = 19 + blob.readUInt16LE(17) * 8;
  const found: string[] = [];
  while (at < blob.length) {
    const end = at + 10 + blob.readUInt32LE(at + 6);
    // Tests have one record in a tile.
    found.push(blob.toString("hex", at + 14, at + 22));
    at = end;
  }
  return found;
}

describe("a repair", () => {
  it("folds, archives, settles and takes out, in this order", async () => {
    const { ports, done } = portsOver([row("a")]);
    const report = await repairPass(ports, stream!, [item("a")]);
    expect(report).toMatchObject({ repaired: 1, known: 0, expired: 0, failed: 0, waiting: {} });
    expect(done.steps).toEqual(["fold", "archive", "settle", "take out"]);
    const repaired = { entity: "card", id: "c1", fate: "repaired", visibleMs: 99 };
    expect(done.archived).toEqual([{ ...row("a"), fates: [repaired] }]);
  });

  it("puts off an event that does not fit its definitions, and goes on with the others", async () => {
    const rows = [row("a", { country: "x".repeat(VALUE_LIMIT + 1) }), row("b")];
    const { ports, done } = portsOver(rows);
    expect(await repairPass(ports, stream!, [item("a"), item("b")])).toMatchObject({ repaired: 1, failed: 1 });
    expect(done.putOff).toEqual(["a value_too_long"]);
    expect(done.removed).toEqual(["b"]);
    expect(done.failures).toHaveLength(1);
  });

  it("finds out which event the store's function throws over, and puts off that one alone", async () => {
    let poison = "";
    const mend = (identities: readonly string[]): MendAnswer => {
      if (identities.includes(poison)) throw new FreshetError("store_function_failed", "the function threw");
      return { kind: "done", outcomes: identities.map(() => ({ fate: "mended", visibleMs: 99, fingerprint: null })) };
    };
    // A base tile each: the double's eyes see one record in a tile.
    const at = (minutes: number, id: string) => {
      const eventTimeMs = TIME + minutes * MINUTE;
      const identity = identityOf("t", { id, timeMs: eventTimeMs });
      return { eventTimeMs, identity, baseIndex: eventTimeMs / MINUTE };
    };
    const events = ["a", "b", "c"].map((id, minutes) => ({ id, ...at(minutes, id) }));
    poison = events[1]!.identity;
    const rows = events.map(({ id, identity, eventTimeMs }) => ({ ...row(id), identity, eventTimeMs }));
    const { ports, done } = portsOver(rows, { mend });
    const items = events.map(({ id, ...time }) => item(id, time));
    expect(await repairPass(ports, stream!, items)).toMatchObject({ repaired: 2, failed: 1 });
    expect(done.putOff).toEqual(["b store_function_failed"]);
    expect(done.removed).toEqual(["a", "c"]);
  });

  it("stops for infrastructure, with everything still queued", async () => {
    const { ports, done } = portsOver([row("a")]);
    const failing = {
      ...ports,
      archive: { write: async () => Promise.reject(new InfrastructureError("archive_unavailable", "S3 is away")) },
    };
    await expect(repairPass(failing, stream!, [item("a")])).rejects.toMatchObject({ code: "archive_unavailable" });
    expect(done.removed).toEqual([]);
    expect(done.steps).toEqual(["fold"]);
  });

  it("archives the payload that a repair before it has folded", async () => {
    const payloads = [row("a", { amount: 1 }), row("a", { amount: 2 }, undefined, "2")];
    const folded = { identity: item("a").identity, fingerprint: fingerprintOf(payloads[1]!), visibleMs: 42 };
    const mend = (identities: readonly string[]): MendAnswer => ({
      kind: "done",
      outcomes: identities.map(() => ({ fate: "mended", visibleMs: 42, fingerprint: folded.fingerprint })),
    });
    const tokens = { ...NONE, clock: 7, unsettled: [folded] };
    const { ports, done } = portsOver(payloads, { tokens, mend });
    expect(await repairPass(ports, stream!, [item("a")])).toMatchObject({ repaired: 1 });
    expect(done.archived.map(({ fields, fates }) => [fields!["amount"], fates[0]!.visibleMs])).toEqual([[2, 42]]);
  });

  it("of a row from before an entity was there names it as late, and queues it", async () => {
    const { ports, done } = portsOver([row("a", { shop: "s1" })]);
    await repairPass(ports, stream!, [item("a")]);
    expect(done.archived[0]!.fates).toEqual([
      { entity: "card", id: "c1", fate: "repaired", visibleMs: 99 },
      { entity: "shop", id: "s1", fate: "late", visibleMs: null },
    ]);
    expect(done.queued).toEqual([
      expect.objectContaining({ entity: "shop", id: "s1", eventId: "a", baseIndex: TIME / MINUTE, stream: "payments" }),
    ]);
  });

  it("settles what is visible already before it takes it out", async () => {
    const unsettled = [{ identity: item("a").identity, fingerprint: 1, visibleMs: 42 }];
    const visible = [visibleKey("card", "c1", item("a").identity)];
    const { ports, done } = portsOver([row("a")], { tokens: { ...NONE, unsettled }, visible });
    expect(await repairPass(ports, stream!, [item("a")])).toMatchObject({ repaired: 0, known: 1 });
    expect(done.steps).toEqual(["settle", "take out"]);
  });

  it.each([
    ["raced", "others repair the same entities", 4],
    ["held", "the store folds nothing now", 1],
  ] as const)("that is %s stays queued", async (kind, reason, tries) => {
    const { ports, done } = portsOver([row("a")], { mend: () => ({ kind }) });
    expect((await repairPass(ports, stream!, [item("a")])).waiting).toEqual({ [reason]: 1 });
    expect(done.steps).toEqual(Array(tries).fill("fold"));
    expect(done.removed).toEqual([]);
  });

  it("gives up what was erased, and what the plan has no longer", async () => {
    const mend = (): MendAnswer => ({ kind: "done", outcomes: [{ fate: "erased" }] });
    const { ports, done } = portsOver([row("a")], { mend });
    const items = [item("a"), item("b", { entity: "device" })];
    expect(await repairPass(ports, stream!, items)).toMatchObject({ repaired: 0, expired: 2 });
    expect(done.removed.sort()).toEqual(["a", "b"]);
    expect(done.archived).toEqual([]);
  });
});

describe("a round", () => {
  const nothing = { repaired: 0, known: 0, expired: 0, failed: 0, waiting: {} };
  const round = (more: Partial<RoundPorts> = {}) => {
    const passes: string[][] = [];
    const blocked: unknown[] = [];
    const ports: RoundPorts = {
      plan,
      pass: async (_, items) => {
        passes.push(items.map(({ eventId }) => eventId));
        return { ...nothing, repaired: items.length, done: items };
      },
      onBlocked: (_, error) => blocked.push(error),
      clock: () => 1_000,
      ...more,
    };
    return { ports, passes, blocked };
  };

  it("leaves alone what was put off, of streams that are gone, and begins nothing when time is up", async () => {
    const { ports, passes } = round();
    const items = [
      item("a"),
      item("b", { notBeforeMs: 1_001, arrivalMs: 7 }),
      item("c", { notBeforeMs: 1_000 }),
      item("d", { stream: "clicks" }),
    ];
    const { complete, streams } = await repairRound(ports, [items], 1_000);
    expect(passes).toEqual([["a", "c"]]);
    expect(complete).toBe(true);
    expect(streams["payments"]).toMatchObject({ repaired: 2, pending: 1, oldestMs: 7 });
    expect((await repairRound(ports, [items], 999)).complete).toBe(false);
    expect(passes).toHaveLength(1);
  });

  it("goes on after a pass that could not be made, in parts by tenant and time", async () => {
    let calls = 0;
    const { ports, blocked } = round({
      pass: async (_, items) => {
        if (++calls === 1) throw new InfrastructureError("archive_unavailable", "S3 is away");
        return { ...nothing, known: items.length, done: items };
      },
    });
    const many = Array.from({ length: 620 }, (_, i) => item(`e${i}`, { eventTimeMs: TIME + i }));
    const spread = Array.from({ length: 60 }, (_, i) =>
      item(`h${i}`, { tenant: "u", eventTimeMs: TIME - i * HOUR, arrivalMs: i }),
    );
    const { streams } = await repairRound(ports, [[...many, ...spread]], 2_000);
    // 500 and 120 of one tenant, 48 hours and 12 of the other.
    expect(calls).toBe(4);
    expect(blocked).toHaveLength(1);
    expect(streams["payments"]).toMatchObject({ blocked: 1, known: 180, pending: 500 });
  });
});
